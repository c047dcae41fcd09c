//! What a request would meet, asked of policy messages while no proxy runs. It compiles and matches as the data path
//! does, because it is the data path's code.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use http::{HeaderMap, HeaderName, HeaderValue, Method};
use weft_proto::linkerd::{inbound, outbound};

use crate::{
    inbound::{InboundTls, ServerPolicy},
    meta::Meta,
    outbound::{ClientPolicy, ClientProtocol, HttpRoutes},
    route::{RequestView, RouteIndex},
};

/// A request that nobody has sent.
pub struct Imagined {
    method: Method,
    authority: String,
    path: String,
    query: String,
    headers: HeaderMap,
}

impl Imagined {
    /// target: path, and query behind a question mark.
    pub fn new(method: &str, authority: &str, target: &str, headers: &[(String, String)]) -> Result<Self, String> {
        let method = Method::from_bytes(method.as_bytes()).map_err(|_| format!("{method:?} is no method"))?;
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            let name = HeaderName::try_from(name).map_err(|_| format!("{name:?} is no name of a header"))?;
            map.append(name, HeaderValue::try_from(value).map_err(|_| format!("{value:?} is no value of a header"))?);
        }
        Ok(Self { method, authority: authority.into(), path: path.into(), query: query.into(), headers: map })
    }

    fn view(&self) -> RequestView<'_> {
        RequestView {
            method: &self.method,
            host: &self.authority,
            path: &self.path,
            query: &self.query,
            headers: &self.headers,
        }
    }
}

/// Which of the policy's HTTP or gRPC routes, and which of its rules, takes the request; None when none does, and for
/// policies without such routes. Errors say why a proxy would not use the policy.
pub fn outbound_rule(
    policy: &outbound::OutboundPolicy,
    is_http2: bool,
    request: &Imagined,
) -> Result<Option<RouteIndex>, String> {
    // Where the client was going decides about forwarding, not about routes.
    let original_dst = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
    let routes = match ClientPolicy::compile(original_dst, Some(policy), None, &[]).protocol {
        ClientProtocol::Detect { http1, http2, .. } => {
            if is_http2 {
                http2
            } else {
                http1
            }
        }
        ClientProtocol::Http1(routes) | ClientProtocol::Http2(routes) | ClientProtocol::Grpc(routes) => routes,
        ClientProtocol::Opaque(_) | ClientProtocol::Tls(_) => return Ok(None),
        ClientProtocol::Invalid(reason) => return Err(reason),
    };
    Ok(match routes {
        HttpRoutes::Policy(table) => table.find(&request.view()),
        HttpRoutes::Profile(_) => None,
    })
}

/// How a server meets a request.
pub struct Reception {
    /// None when no route takes the request. Servers without routes take every request, by none.
    pub route: Option<Option<RouteIndex>>,
    /// What admits the client; None when nothing does.
    pub admitted_by: Option<Meta>,
}

/// client_id: of a client whose mesh TLS is terminated here; None for a client without.
pub fn reception(
    server: &inbound::Server,
    request: &Imagined,
    client: IpAddr,
    client_id: Option<&str>,
) -> Result<Reception, String> {
    let policy = ServerPolicy::from_wire(server)?;
    let tls = match client_id {
        Some(id) => InboundTls::Mesh { client_id: Some(id.into()) },
        None => InboundTls::NoTls { reason: crate::inbound::NoTls::FromRemote },
    };
    let route = policy.find_route(&request.view()).map(|matched| matched.route);
    let admitted_by = policy.authorize(route.flatten(), client, &tls).cloned();
    Ok(Reception { route, admitted_by })
}

#[cfg(test)]
mod tests {
    use weft_proto::linkerd::{
        http_route::{HttpRouteMatch, PathMatch, path_match},
        meta::{Metadata, metadata},
        outbound::{HttpRoute, OutboundPolicy, ProxyProtocol, http_route, proxy_protocol},
    };

    use super::*;

    fn policy(paths: &[&str]) -> OutboundPolicy {
        let meta = Some(Metadata { kind: Some(metadata::Kind::Default("x".into())) });
        let distribution = http_route::Distribution {
            kind: Some(http_route::distribution::Kind::Empty(http_route::distribution::Empty {})),
        };
        let rule = |path: &&str| {
            let path = Some(PathMatch { kind: Some(path_match::Kind::Prefix((*path).into())) });
            http_route::Rule {
                matches: vec![HttpRouteMatch { path, ..Default::default() }],
                backends: Some(distribution.clone()),
                ..Default::default()
            }
        };
        let route = HttpRoute { metadata: meta.clone(), hosts: vec![], rules: paths.iter().map(rule).collect() };
        let http1 = proxy_protocol::Http1 { routes: vec![route], failure_accrual: None };
        let protocol = Some(ProxyProtocol { kind: Some(proxy_protocol::Kind::Http1(http1)) });
        OutboundPolicy { protocol, metadata: meta }
    }

    fn get(target: &str) -> Imagined {
        Imagined::new("GET", "web:80", target, &[]).unwrap()
    }

    #[test]
    fn the_most_specific_rule_is_named_by_its_place_in_the_message() {
        let found = outbound_rule(&policy(&["/", "/a/b", "/a"]), false, &get("/a/b/c?x=1"));
        assert_eq!(found, Ok(Some(RouteIndex { route: 0, rule: 1 })));
    }

    #[test]
    fn no_rule_takes_a_request_outside_every_path() {
        assert_eq!(outbound_rule(&policy(&["/a"]), false, &get("/b")), Ok(None));
    }

    #[test]
    fn a_policy_no_proxy_would_use_says_why() {
        let broken = OutboundPolicy { metadata: None, ..policy(&["/"]) };
        assert_eq!(outbound_rule(&broken, false, &get("/")), Err("policy has no metadata".to_owned()));
    }

    #[test]
    fn a_request_that_cannot_be_sent_is_refused() {
        assert!(Imagined::new("GET IT", "web", "/", &[]).is_err());
        assert!(Imagined::new("GET", "web", "/", &[("a b".into(), "c".into())]).is_err());
    }
}
