//! Names of control-plane services to addresses: SRV first, because headless services publish their pods so, then A and AAAA.

use std::io;
use std::net::{IpAddr, SocketAddr};

use hickory_resolver::TokioResolver;
use hickory_resolver::proto::rr::RData;

/// host:port taken apart. Errors are InvalidInput.
pub fn split_authority(authority: &str) -> io::Result<(&str, u16)> {
    let invalid = || io::Error::new(io::ErrorKind::InvalidInput, format!("{authority:?} is not host:port"));
    let (host, port) = authority.rsplit_once(':').ok_or_else(invalid)?;
    let port = port.parse().map_err(|_| invalid())?;
    let host = host.strip_prefix('[').and_then(|inner| inner.strip_suffix(']')).unwrap_or(host);
    if host.is_empty() { Err(invalid()) } else { Ok((host, port)) }
}

/// The address that needs no lookup and no TLS: a loopback literal, or `localhost.` with its trailing dot.
pub fn loopback(host: &str) -> Option<IpAddr> {
    if host == "localhost." {
        return Some(IpAddr::from([127, 0, 0, 1]));
    }
    host.parse::<IpAddr>().ok().filter(IpAddr::is_loopback)
}

/// A resolver over the system's configuration.
pub struct Resolver(TokioResolver);

impl Resolver {
    pub fn from_system() -> io::Result<Self> {
        let builder = TokioResolver::builder_tokio().map_err(io::Error::other)?;
        Ok(Self(builder.build()))
    }

    /// Every address of a name; never empty.
    pub async fn resolve(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        if let Some(ip) = loopback(host).or_else(|| host.parse().ok()) {
            return Ok(vec![SocketAddr::new(ip, port)]);
        }
        let found = self.resolve_srv(host).await;
        if !found.is_empty() {
            return Ok(found);
        }
        let answer = self.0.lookup_ip(host).await.map_err(|error| io::Error::other(format!("{host}: {error}")))?;
        let addresses: Vec<_> = answer.iter().map(|ip| SocketAddr::new(ip, port)).collect();
        if addresses.is_empty() {
            return Err(io::Error::new(io::ErrorKind::NotFound, format!("{host} has no address")));
        }
        Ok(addresses)
    }

    /// Targets of an SRV record with their own ports. Targets arrive with their addresses in the answer, or carry a dashed
    /// address as their first label; others are looked up.
    async fn resolve_srv(&self, host: &str) -> Vec<SocketAddr> {
        let Ok(answer) = self.0.srv_lookup(host).await else {
            return Vec::new();
        };
        let mut found = Vec::new();
        for record in answer.as_lookup().record_iter() {
            let RData::SRV(srv) = record.data() else { continue };
            let target = srv.target().to_utf8();
            let label = target.split('.').next().unwrap_or_default();
            if let Some(ip) = dashed_ip(label) {
                found.push(SocketAddr::new(ip, srv.port()));
            } else if let Ok(addresses) = self.0.lookup_ip(target.as_str()).await {
                found.extend(addresses.iter().map(|ip| SocketAddr::new(ip, srv.port())));
            }
        }
        found
    }
}

/// 10-1-2-3 as 10.1.2.3, and fd00--1 as fd00::1.
fn dashed_ip(label: &str) -> Option<IpAddr> {
    let dotted = label.replace('-', ".");
    dotted.parse().ok().or_else(|| label.replace('-', ":").parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn authorities_come_apart_whatever_the_host() {
        assert_eq!(split_authority("localhost.:8086").unwrap(), ("localhost.", 8086));
        assert_eq!(split_authority("[::1]:80").unwrap(), ("::1", 80));
        assert!(split_authority("nameonly").is_err());
        assert!(split_authority(":80").is_err());
        assert!(split_authority("host:70000").is_err());
    }

    #[test]
    fn only_the_dotted_localhost_and_literals_are_loopback() {
        assert!(loopback("localhost.").is_some());
        assert!(loopback("127.0.0.2").is_some());
        assert!(loopback("::1").is_some());
        assert!(loopback("localhost").is_none());
        assert!(loopback("10.0.0.1").is_none());
    }

    #[test]
    fn dashed_labels_are_addresses() {
        assert_eq!(dashed_ip("10-1-2-3"), Some("10.1.2.3".parse().unwrap()));
        assert_eq!(dashed_ip("fd00--1"), Some("fd00::1".parse().unwrap()));
        assert_eq!(dashed_ip("web-0"), None);
    }
}
