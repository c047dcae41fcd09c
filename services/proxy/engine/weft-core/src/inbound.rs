//! What one port admits: a `Server` message compiled to routes and authorizations (wire.md 3).

use std::{collections::HashSet, net::IpAddr, sync::Arc, time::Duration};

use weft_proto::linkerd::inbound::{self as wire, authn, proxy_protocol::Kind};

use crate::{
    addr::Cidr,
    meta::Meta,
    metrics::Labels,
    route::{RequestMatch, RequestView, Route, RouteIndex, RouteTable},
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    Detect { timeout: Duration },
    Http1,
    Http2,
    Grpc,
    Opaque,
    Tls,
}

/// How a connection arrived, as far as TLS goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InboundTls {
    /// Terminated here. No id when the client sent no certificate.
    Mesh {
        client_id: Option<Arc<str>>,
    },
    /// TLS to somebody else, passed through.
    PassedThrough {
        sni: String,
    },
    NoTls {
        reason: NoTls,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoTls {
    Loopback,
    PortSkipped,
    FromRemote,
}

impl InboundTls {
    pub fn client_id(&self) -> Option<&Arc<str>> {
        match self {
            Self::Mesh { client_id } => client_id.as_ref(),
            Self::PassedThrough { .. } | Self::NoTls { .. } => None,
        }
    }

    pub fn labels(&self, labels: &mut Labels) {
        match self {
            Self::Mesh { client_id } => {
                labels.add("tls", "true");
                labels.add("client_id", client_id.as_deref().unwrap_or_default());
            }
            Self::PassedThrough { sni } => {
                labels.add("tls", "opaque");
                labels.add("sni", sni);
            }
            Self::NoTls { reason } => {
                labels.add("tls", "no_identity");
                labels.add(
                    "no_tls_reason",
                    match reason {
                        NoTls::Loopback => "loopback",
                        NoTls::PortSkipped => "port_skipped",
                        NoTls::FromRemote => "no_tls_from_remote",
                    },
                );
            }
        }
    }
}

struct Network {
    net: Cidr,
    except: Vec<Cidr>,
}

enum Authn {
    Unauthenticated,
    TlsUnauthenticated,
    Identities { exact: HashSet<String>, suffixes: Vec<String> },
}

pub struct Authz {
    networks: Vec<Network>,
    authn: Authn,
    pub meta: Meta,
}

/// Authorizations of a route, ahead of the server's own.
pub struct RoutePolicy {
    authzs: Arc<[Authz]>,
}

pub struct ServerPolicy {
    pub protocol: Protocol,
    pub meta: Meta,
    authzs: Vec<Authz>,
    loopback: Meta,
    /// None for protocols without routes.
    routes: Option<RouteTable<RoutePolicy>>,
}

impl ServerPolicy {
    pub fn from_wire(server: &wire::Server) -> Result<Self, String> {
        let label = |key: &str| server.labels.get(key).cloned().unwrap_or_default();
        let name = label("name");
        if name.is_empty() {
            return Err("server policy has no name".to_owned());
        }
        let meta = Meta { group: label("group"), kind: label("kind"), ..Meta::built_in(&name) };
        let kind = server.protocol.as_ref().and_then(|p| p.kind.as_ref()).ok_or("server policy has no protocol")?;
        let (protocol, routes) = match kind {
            Kind::Detect(detect) => {
                let timeout = detect.timeout.as_ref().and_then(|t| Duration::try_from(*t).ok());
                (
                    Protocol::Detect { timeout: timeout.unwrap_or(DETECT_TIMEOUT) },
                    Some(http_routes(&detect.http_routes)?),
                )
            }
            Kind::Http1(http) => (Protocol::Http1, Some(http_routes(&http.routes)?)),
            Kind::Http2(http) => (Protocol::Http2, Some(http_routes(&http.routes)?)),
            Kind::Grpc(grpc) => (Protocol::Grpc, Some(grpc_routes(&grpc.routes)?)),
            Kind::Opaque(_) => (Protocol::Opaque, None),
            Kind::Tls(_) => (Protocol::Tls, None),
        };
        Ok(Self {
            protocol,
            meta,
            authzs: authzs(&server.authorizations)?,
            loopback: Meta::built_in("loopback"),
            routes,
        })
    }

    /// Stands in for a policy that could not be understood: admits nobody but loopback.
    pub fn invalid() -> Self {
        Self {
            protocol: Protocol::Detect { timeout: DETECT_TIMEOUT },
            meta: Meta::built_in("invalid"),
            authzs: Vec::new(),
            loopback: Meta::built_in("loopback"),
            routes: None,
        }
    }

    /// Outer None: no such route. Inner None: this server has no routes to choose from.
    pub fn find_route(&self, request: &RequestView<'_>) -> Option<Option<RouteIndex>> {
        match &self.routes {
            Some(table) => table.find(request).map(Some),
            None => Some(None),
        }
    }

    /// Metadata of a route found by `find_route`.
    pub fn route_meta(&self, index: RouteIndex) -> Option<&Meta> {
        self.routes.as_ref().map(|table| &table.route(index).meta)
    }

    /// The first authorization that admits the client: the route's, the server's, then loopback.
    pub fn authorize(&self, route: Option<RouteIndex>, client: IpAddr, tls: &InboundTls) -> Option<&Meta> {
        let of_route = match (route, &self.routes) {
            (Some(index), Some(table)) => &table.rule(index).authzs[..],
            _ => &[],
        };
        of_route
            .iter()
            .chain(&self.authzs)
            .find(|authz| authz.admits(client, tls))
            .map(|authz| &authz.meta)
            .or_else(|| client.is_loopback().then_some(&self.loopback))
    }

    /// SRV labels.
    pub fn labels(&self, port: u16, labels: &mut Labels) {
        self.meta.short_labels("srv", labels);
        labels.add("srv_port", &port.to_string());
    }
}

const DETECT_TIMEOUT: Duration = Duration::from_secs(10);

impl Authz {
    fn from_wire(authz: &wire::Authz) -> Result<Self, String> {
        use authn::{Permit, permit_mesh_tls::Clients};
        if authz.networks.is_empty() {
            return Err("authorization lists no networks".to_owned());
        }
        let network = |network: &wire::Network| {
            let net = Cidr::from_wire(network.net.as_ref()?)?;
            let except = network.except.iter().map(Cidr::from_wire).collect::<Option<_>>()?;
            Some(Network { net, except })
        };
        let networks = authz.networks.iter().map(network).collect::<Option<_>>();
        let permit = authz.authentication.as_ref().and_then(|a| a.permit.as_ref());
        let authn = match permit.ok_or("authorization has no authentication")? {
            Permit::Unauthenticated(_) => Authn::Unauthenticated,
            Permit::MeshTls(tls) => match tls.clients.as_ref().ok_or("mesh TLS authentication names no clients")? {
                Clients::Unauthenticated(_) => Authn::TlsUnauthenticated,
                Clients::Identities(ids) => Authn::Identities {
                    exact: ids.identities.iter().map(|id| id.name.clone()).collect(),
                    suffixes: ids
                        .suffixes
                        .iter()
                        .map(|s| s.parts.iter().map(|part| format!(".{part}")).collect())
                        .collect(),
                },
            },
        };
        let meta = Meta::from_wire(authz.metadata.as_ref()).or_else(|| meta_from_labels(authz));
        Ok(Self {
            networks: networks.ok_or("authorization has an invalid network")?,
            authn,
            meta: meta.ok_or("authorization has no metadata")?,
        })
    }

    fn admits(&self, client: IpAddr, tls: &InboundTls) -> bool {
        let in_network =
            self.networks.iter().any(|n| n.net.contains(client) && !n.except.iter().any(|e| e.contains(client)));
        in_network
            && match (&self.authn, tls) {
                (Authn::Unauthenticated, _) | (Authn::TlsUnauthenticated, InboundTls::Mesh { .. }) => true,
                (Authn::Identities { exact, suffixes }, InboundTls::Mesh { client_id: Some(id) }) => {
                    exact.contains(&**id)
                        || (!id.contains("://") && suffixes.iter().any(|suffix| id.ends_with(suffix.as_str())))
                }
                _ => false,
            }
    }
}

fn meta_from_labels(authz: &wire::Authz) -> Option<Meta> {
    let label = |key: &str| authz.labels.get(key).cloned();
    let name = label("name")?;
    let kind = label("kind").unwrap_or_else(|| "default".to_owned());
    Some(Meta { group: label("group").unwrap_or_default(), kind, ..Meta::built_in(&name) })
}

fn authzs(all: &[wire::Authz]) -> Result<Vec<Authz>, String> {
    all.iter().map(Authz::from_wire).collect()
}

fn http_routes(routes: &[wire::HttpRoute]) -> Result<RouteTable<RoutePolicy>, String> {
    let routes = routes.iter().map(|route| {
        let shared: Arc<[Authz]> = authzs(&route.authorizations)?.into();
        let rules = route.rules.iter().map(|rule| {
            let matches = rule.matches.iter().map(RequestMatch::from_http).collect::<Result<_, _>>()?;
            Ok((matches, RoutePolicy { authzs: shared.clone() }))
        });
        let rules = rules.collect::<Result<_, String>>()?;
        Route::new(Meta::from_wire(route.metadata.as_ref()).ok_or("route has no metadata")?, &route.hosts, rules)
    });
    Ok(RouteTable::new(routes.collect::<Result<_, String>>()?))
}

fn grpc_routes(routes: &[wire::GrpcRoute]) -> Result<RouteTable<RoutePolicy>, String> {
    let routes = routes.iter().map(|route| {
        let shared: Arc<[Authz]> = authzs(&route.authorizations)?.into();
        let rules = route.rules.iter().map(|rule| {
            let matches = rule.matches.iter().map(RequestMatch::from_grpc).collect::<Result<_, _>>()?;
            Ok((matches, RoutePolicy { authzs: shared.clone() }))
        });
        let rules = rules.collect::<Result<_, String>>()?;
        Route::new(Meta::from_wire(route.metadata.as_ref()).ok_or("route has no metadata")?, &route.hosts, rules)
    });
    Ok(RouteTable::new(routes.collect::<Result<_, String>>()?))
}

#[cfg(test)]
mod tests {
    use weft_proto::linkerd::{meta as wire_meta, net};

    use super::*;
    use crate::addr::wire_ip;

    fn network(cidr: &str) -> net::IpNetwork {
        let (ip, prefix) = cidr.split_once('/').unwrap();
        net::IpNetwork { ip: Some(wire_ip(ip.parse().unwrap())), prefix_len: prefix.parse().unwrap() }
    }

    fn authz(cidr: &str, except: &[&str], permit: authn::Permit) -> wire::Authz {
        let except = except.iter().map(|cidr| network(cidr)).collect();
        wire::Authz {
            networks: vec![wire::Network { net: Some(network(cidr)), except }],
            authentication: Some(wire::Authn { permit: Some(permit) }),
            metadata: Some(wire_meta::Metadata { kind: Some(wire_meta::metadata::Kind::Default("it".into())) }),
            labels: Default::default(),
        }
    }

    fn identities(exact: &[&str], suffixes: &[&[&str]]) -> authn::Permit {
        let ids = authn::permit_mesh_tls::PermitClientIdentities {
            identities: exact.iter().map(|name| wire::Identity { name: (*name).into() }).collect(),
            suffixes: suffixes
                .iter()
                .map(|parts| wire::IdentitySuffix { parts: parts.iter().map(|p| (*p).into()).collect() })
                .collect(),
        };
        authn::Permit::MeshTls(authn::PermitMeshTls { clients: Some(authn::permit_mesh_tls::Clients::Identities(ids)) })
    }

    fn server(authorizations: Vec<wire::Authz>) -> Result<ServerPolicy, String> {
        ServerPolicy::from_wire(&wire::Server {
            protocol: Some(wire::ProxyProtocol { kind: Some(Kind::Opaque(Default::default())) }),
            authorizations,
            labels: [("name".to_owned(), "srv".to_owned())].into(),
            ..Default::default()
        })
    }

    fn mesh(id: &str) -> InboundTls {
        InboundTls::Mesh { client_id: Some(id.into()) }
    }

    const PLAIN: InboundTls = InboundTls::NoTls { reason: NoTls::FromRemote };

    #[test]
    fn networks_admit_with_exceptions() {
        let permit = authn::Permit::Unauthenticated(Default::default());
        let policy = server(vec![authz("10.0.0.0/8", &["10.9.0.0/16"], permit)]).unwrap();
        assert!(policy.authorize(None, "10.1.0.1".parse().unwrap(), &PLAIN).is_some());
        assert!(policy.authorize(None, "10.9.0.1".parse().unwrap(), &PLAIN).is_none());
        assert!(policy.authorize(None, "192.0.2.1".parse().unwrap(), &PLAIN).is_none());
    }

    #[test]
    fn identities_match_exactly_or_by_suffix_of_whole_labels() {
        let client = "10.1.0.1".parse().unwrap();
        let policy = server(vec![authz("0.0.0.0/0", &[], identities(&["a.ns.x"], &[&["ok", "x"]]))]).unwrap();
        assert!(policy.authorize(None, client, &mesh("a.ns.x")).is_some());
        assert!(policy.authorize(None, client, &mesh("b.ok.x")).is_some());
        assert!(policy.authorize(None, client, &mesh("b.notok.x")).is_none());
        assert!(policy.authorize(None, client, &mesh("ok.x")).is_none());
        assert!(policy.authorize(None, client, &PLAIN).is_none());
        assert!(policy.authorize(None, client, &InboundTls::Mesh { client_id: None }).is_none());
    }

    #[test]
    fn a_suffix_without_parts_admits_any_dns_identity_only() {
        let client = "10.1.0.1".parse().unwrap();
        let policy = server(vec![authz("0.0.0.0/0", &[], identities(&[], &[&[]]))]).unwrap();
        assert!(policy.authorize(None, client, &mesh("anyone.x")).is_some());
        assert!(policy.authorize(None, client, &mesh("spiffe://x/y")).is_none());
    }

    #[test]
    fn loopback_is_always_admitted_and_a_bad_policy_admits_nobody_else() {
        let policy = ServerPolicy::invalid();
        let meta = policy.authorize(None, "127.0.0.1".parse().unwrap(), &PLAIN).unwrap();
        assert_eq!(meta.name, "loopback");
        assert!(policy.authorize(None, "10.0.0.1".parse().unwrap(), &mesh("a")).is_none());
    }

    #[test]
    fn incomplete_policies_are_refused_with_a_reason() {
        let mut no_network = authz("10.0.0.0/8", &[], authn::Permit::Unauthenticated(Default::default()));
        no_network.networks.clear();
        assert_eq!(server(vec![no_network]).err().unwrap(), "authorization lists no networks");
        assert!(ServerPolicy::from_wire(&wire::Server::default()).is_err());
    }
}
