//! Addresses, networks and names: their wire form, and what counts as one. Knows nothing of who they belong to.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use weft_proto::linkerd::net::{self, ip_address::Ip};

/// None when the message carries no address, which the wire allows and no caller can use.
pub fn ip_from(ip: &net::IpAddress) -> Option<IpAddr> {
    Some(match ip.ip.as_ref()? {
        Ip::Ipv4(bits) => IpAddr::V4(Ipv4Addr::from(*bits)),
        Ip::Ipv6(v6) => IpAddr::V6(Ipv6Addr::from((u128::from(v6.first) << 64) | u128::from(v6.last))),
    })
}

/// None for a missing address or a port outside 0 to 65535.
pub fn socket_from(addr: Option<&net::TcpAddress>) -> Option<SocketAddr> {
    let addr = addr?;
    Some(SocketAddr::new(ip_from(addr.ip.as_ref()?)?, u16::try_from(addr.port).ok()?))
}

pub fn wire_ip(ip: IpAddr) -> net::IpAddress {
    let ip = match ip {
        IpAddr::V4(v4) => Ip::Ipv4(v4.into()),
        IpAddr::V6(v6) => {
            let bits = u128::from(v6);
            Ip::Ipv6(net::IPv6 { first: (bits >> 64) as u64, last: bits as u64 })
        }
    };
    net::IpAddress { ip: Some(ip) }
}

pub fn wire_socket(addr: SocketAddr) -> net::TcpAddress {
    net::TcpAddress { ip: Some(wire_ip(addr.ip())), port: u32::from(addr.port()) }
}

/// An IPv4 peer of a dual-stack listener shows up as `::ffff:a.b.c.d`; policies and labels speak plain IPv4.
pub fn canonical(addr: SocketAddr) -> SocketAddr {
    SocketAddr::new(addr.ip().to_canonical(), addr.port())
}

/// Host names as DNS allows them, and underscores. A trailing dot means nothing.
pub fn is_dns_name(name: &str) -> bool {
    let name = name.strip_suffix('.').unwrap_or(name);
    name.len() <= 253
        && name.split('.').all(|label| {
            (1..=63).contains(&label.len())
                && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
        })
}

/// True when one of the suffixes covers the name, by whole labels. `.` covers every name. A trailing dot means nothing.
pub fn covers(suffixes: &[String], name: &str) -> bool {
    let name = name.trim_end_matches('.');
    suffixes.iter().any(|suffix| {
        let suffix = suffix.trim_matches('.');
        let Some(at) = name.len().checked_sub(suffix.len()) else { return false };
        suffix.is_empty()
            || name.get(at..).is_some_and(|tail| tail.eq_ignore_ascii_case(suffix))
                && (at == 0 || name.as_bytes()[at - 1] == b'.')
    })
}

/// A network, compared on the high `prefix` bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cidr {
    ip: IpAddr,
    prefix: u8,
}

impl Cidr {
    pub fn new(ip: IpAddr, prefix: u8) -> Option<Self> {
        let widest = if ip.is_ipv4() { 32 } else { 128 };
        (prefix <= widest).then_some(Self { ip, prefix })
    }

    pub fn from_wire(network: &net::IpNetwork) -> Option<Self> {
        Self::new(ip_from(network.ip.as_ref()?)?, u8::try_from(network.prefix_len).ok()?)
    }

    pub fn contains(&self, ip: IpAddr) -> bool {
        match (self.ip, ip) {
            (IpAddr::V4(net), IpAddr::V4(ip)) => {
                let shift = 32 - u32::from(self.prefix);
                shift == 32 || u32::from(net) >> shift == u32::from(ip) >> shift
            }
            (IpAddr::V6(net), IpAddr::V6(ip)) => {
                let shift = 128 - u32::from(self.prefix);
                shift == 128 || u128::from(net) >> shift == u128::from(ip) >> shift
            }
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_survive_the_wire() {
        for text in ["10.1.2.3:80", "[fd00::1:2]:4143"] {
            let addr: SocketAddr = text.parse().unwrap();
            assert_eq!(socket_from(Some(&wire_socket(addr))), Some(addr));
        }
    }

    #[test]
    fn an_address_without_ip_is_no_address() {
        assert_eq!(socket_from(Some(&net::TcpAddress { ip: None, port: 1 })), None);
        assert_eq!(socket_from(None), None);
    }

    #[test]
    fn a_zero_prefix_holds_its_family_only() {
        let any = Cidr::new("0.0.0.0".parse().unwrap(), 0).unwrap();
        assert!(any.contains("203.0.113.9".parse().unwrap()));
        assert!(!any.contains("::1".parse().unwrap()));
        let ten = Cidr::new("10.0.0.0".parse().unwrap(), 8).unwrap();
        assert!(ten.contains("10.255.0.1".parse().unwrap()));
        assert!(!ten.contains("11.0.0.1".parse().unwrap()));
        assert!(Cidr::new("10.0.0.0".parse().unwrap(), 33).is_none());
    }

    #[test]
    fn suffixes_cover_whole_labels() {
        let suffixes = ["svc.cluster.local.".to_owned()];
        assert!(covers(&suffixes, "web.shop.svc.cluster.local"));
        assert!(covers(&suffixes, "web.shop.svc.CLUSTER.local."));
        assert!(!covers(&suffixes, "web.shop.evilsvc.cluster.local"));
        assert!(!covers(&suffixes, "cluster.local"));
        assert!(covers(&[".".to_owned()], "anything.example"));
        assert!(!covers(&[], "web.shop.svc.cluster.local"));
    }
}
