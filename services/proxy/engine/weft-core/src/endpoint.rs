//! One place to send traffic to, and the set of them that discovery keeps current (wire.md 2.2, 2.3).

use std::{
    collections::{BTreeMap, HashMap},
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use weft_proto::linkerd::destination::{
    self as wire, protocol_hint::Protocol as WireHint, tls_identity::Strategy, update::Update,
};

use crate::{addr, http2_params::Http2Params, metrics::Labels};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProtocolHint {
    Unknown,
    /// HTTP/1 may be carried over HTTP/2.
    H2,
    Opaque,
}

/// How the server proves who it is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ServerId {
    /// Exact SAN, DNS or URI.
    pub san: Arc<str>,
    pub sni: Arc<str>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OutboundTls {
    Mesh(ServerId),
    Loopback,
    NotProvided,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointInfo {
    /// The application's own address.
    pub addr: SocketAddr,
    pub tls: OutboundTls,
    pub hint: ProtocolHint,
    /// The peer proxy's inbound port: connect there and send a transport header.
    pub opaque_transport: Option<u16>,
    pub authority_override: Option<String>,
    pub http2: Http2Params,
    /// `dst_*` labels.
    pub labels: BTreeMap<String, String>,
}

impl EndpointInfo {
    /// A bare address: nothing known, nothing added.
    pub fn plain(addr: SocketAddr) -> Self {
        Self {
            addr,
            tls: OutboundTls::NotProvided,
            hint: ProtocolHint::Unknown,
            opaque_transport: None,
            authority_override: None,
            http2: Http2Params::default(),
            labels: BTreeMap::new(),
        }
    }

    /// None when the address cannot be used. local: own addresses, reached without mesh TLS.
    pub fn from_wire(
        weighted: &wire::WeightedAddr,
        set_labels: &HashMap<String, String>,
        local: &[IpAddr],
    ) -> Option<Self> {
        let addr = addr::socket_from(weighted.addr.as_ref())?;
        let labels = set_labels.iter().chain(&weighted.metric_labels);
        let labels = labels.map(|(key, value)| (key.clone(), value.clone())).collect();
        let http2 = weighted.http2.as_ref().map(Http2Params::from_wire).unwrap_or_default();
        if local.contains(&addr.ip()) {
            return Some(Self { labels, http2, tls: OutboundTls::Loopback, ..Self::plain(addr) });
        }
        let hint = weighted.protocol_hint.as_ref();
        let tls = weighted.tls_identity.as_ref().and_then(server_id);
        let opaque_transport = hint
            .and_then(|hint| hint.opaque_transport.as_ref())
            .and_then(|transport| u16::try_from(transport.inbound_port).ok())
            .filter(|port| (1..u16::MAX).contains(port) && tls.is_some());
        Some(Self {
            addr,
            tls: tls.map_or(OutboundTls::NotProvided, OutboundTls::Mesh),
            hint: match hint.and_then(|hint| hint.protocol.as_ref()) {
                Some(WireHint::H2(_)) => ProtocolHint::H2,
                Some(WireHint::Opaque(_)) => ProtocolHint::Opaque,
                None => ProtocolHint::Unknown,
            },
            opaque_transport,
            authority_override: weighted
                .authority_override
                .as_ref()
                .map(|o| o.authority_override.clone())
                .filter(|authority| !authority.is_empty()),
            http2,
            labels,
        })
    }

    /// Where to connect: the peer proxy when it wants a transport header, else the application's port.
    pub fn connect_addr(&self) -> SocketAddr {
        SocketAddr::new(self.addr.ip(), self.opaque_transport.unwrap_or(self.addr.port()))
    }

    pub fn wants_transport_header(&self) -> bool {
        matches!(self.tls, OutboundTls::Mesh(_))
            && (self.opaque_transport.is_some() || self.authority_override.is_some())
    }

    /// What its traffic costs, as `outbound_tcp_transfer_cost_bytes_total` calls it.
    pub fn zone_locality(&self) -> &'static str {
        match self.labels.get("zone_locality").map(String::as_str) {
            Some("local") => "Local",
            Some("remote") => "Remote",
            _ => "Unknown",
        }
    }

    /// TARGET, TLS_OUT and DST labels of this endpoint.
    pub fn labels(&self, labels: &mut Labels) {
        target_labels(self.addr, labels);
        match &self.tls {
            OutboundTls::Mesh(id) => {
                labels.add("tls", "true");
                labels.add("server_id", &id.san);
            }
            OutboundTls::Loopback => {
                labels.add("tls", "no_identity");
                labels.add("no_tls_reason", "loopback");
            }
            OutboundTls::NotProvided => {
                labels.add("tls", "no_identity");
                labels.add("no_tls_reason", "not_provided_by_service_discovery");
            }
        }
        for (key, value) in &self.labels {
            labels.add_prefixed("dst", key, value);
        }
    }
}

/// `target_addr`, `target_ip`, `target_port`.
pub fn target_labels(addr: SocketAddr, labels: &mut Labels) {
    labels.add("target_addr", &addr.to_string());
    labels.add("target_ip", &addr.ip().to_string());
    labels.add("target_port", &addr.port().to_string());
}

fn server_id(tls: &wire::TlsIdentity) -> Option<ServerId> {
    let server_name = tls.server_name.as_ref().map(|name| name.name.as_str()).filter(|name| !name.is_empty());
    match tls.strategy.as_ref()? {
        Strategy::DnsLikeIdentity(id) if !id.name.is_empty() => {
            Some(ServerId { san: id.name.as_str().into(), sni: server_name.unwrap_or(&id.name).into() })
        }
        Strategy::UriLikeIdentity(id) => Some(ServerId { san: id.uri.as_str().into(), sni: server_name?.into() }),
        Strategy::DnsLikeIdentity(_) => None,
    }
}

/// Current endpoints by address. Updates are applied here; what changed is for the balancer to act on.
#[derive(Clone, Debug, Default)]
pub struct EndpointSet {
    pub by_addr: BTreeMap<SocketAddr, EndpointInfo>,
}

impl EndpointSet {
    /// True when the set changed. On the first update of a stream an add replaces everything and a remove says nothing.
    pub fn apply(&mut self, update: &wire::Update, first_of_stream: bool, local: &[IpAddr]) -> bool {
        let Some(update) = update.update.as_ref() else {
            return false;
        };
        match update {
            Update::Add(add) => {
                let added = add.addrs.iter().filter_map(|w| EndpointInfo::from_wire(w, &add.metric_labels, local));
                let added = added.map(|info| (info.addr, info));
                if first_of_stream {
                    let replaced = added.collect();
                    let changed = replaced != self.by_addr;
                    self.by_addr = replaced;
                    return changed;
                }
                let mut changed = false;
                for (addr, info) in added {
                    changed |= self.by_addr.get(&addr) != Some(&info);
                    self.by_addr.insert(addr, info);
                }
                changed
            }
            Update::Remove(_) if first_of_stream => false,
            Update::Remove(remove) => {
                let before = self.by_addr.len();
                for addr in remove.addrs.iter().filter_map(|addr| addr::socket_from(Some(addr))) {
                    self.by_addr.remove(&addr);
                }
                self.by_addr.len() != before
            }
            Update::NoEndpoints(_) => !std::mem::take(&mut self.by_addr).is_empty(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn weighted(addr: &str) -> wire::WeightedAddr {
        wire::WeightedAddr { addr: Some(addr::wire_socket(addr.parse().unwrap())), ..Default::default() }
    }

    fn add(addrs: &[&str]) -> wire::Update {
        let set = wire::WeightedAddrSet {
            addrs: addrs.iter().map(|addr| weighted(addr)).collect(),
            metric_labels: [("namespace".to_owned(), "shop".to_owned())].into(),
        };
        wire::Update { update: Some(Update::Add(set)) }
    }

    fn remove(addr: &str) -> wire::Update {
        let addrs = vec![addr::wire_socket(addr.parse().unwrap())];
        wire::Update { update: Some(Update::Remove(wire::AddrSet { addrs })) }
    }

    #[test]
    fn the_first_add_of_a_stream_replaces_and_later_ones_merge() {
        let mut set = EndpointSet::default();
        assert!(set.apply(&add(&["10.0.0.1:80", "10.0.0.2:80"]), true, &[]));
        assert!(!set.apply(&remove("10.0.0.1:80"), true, &[]));
        assert!(set.apply(&add(&["10.0.0.3:80"]), false, &[]));
        assert!(!set.apply(&add(&["10.0.0.3:80"]), false, &[]));
        assert_eq!(set.by_addr.len(), 3);
        assert!(set.apply(&remove("10.0.0.1:80"), false, &[]));
        assert!(set.apply(&add(&["10.0.0.9:80"]), true, &[]));
        assert_eq!(set.by_addr.len(), 1);
        let gone = wire::Update { update: Some(Update::NoEndpoints(Default::default())) };
        assert!(set.apply(&gone, false, &[]));
        assert!(set.by_addr.is_empty());
    }

    #[test]
    fn opaque_transport_needs_tls_and_a_usable_port() {
        let mut w = weighted("10.0.0.1:5432");
        w.protocol_hint = Some(wire::ProtocolHint {
            protocol: None,
            opaque_transport: Some(wire::protocol_hint::OpaqueTransport { inbound_port: 4143 }),
        });
        let info = EndpointInfo::from_wire(&w, &HashMap::new(), &[]).unwrap();
        assert_eq!(info.connect_addr().port(), 5432);
        let id = wire::tls_identity::DnsLikeIdentity { name: "db.shop".into() };
        w.tls_identity = Some(wire::TlsIdentity { strategy: Some(Strategy::DnsLikeIdentity(id)), server_name: None });
        let info = EndpointInfo::from_wire(&w, &HashMap::new(), &[]).unwrap();
        assert_eq!(info.connect_addr().port(), 4143);
        assert!(info.wants_transport_header());
        let info = EndpointInfo::from_wire(&w, &HashMap::new(), &["10.0.0.1".parse().unwrap()]).unwrap();
        assert_eq!((info.connect_addr().port(), info.tls), (5432, OutboundTls::Loopback));
    }
}
