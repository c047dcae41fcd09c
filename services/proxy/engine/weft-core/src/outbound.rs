//! How one target is reached: client policy and profile compiled to routes over numbered backends (wire.md 2.6, 2.7).

use std::{
    collections::HashMap,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use weft_proto::linkerd::{
    destination::DestinationProfile,
    outbound::{self as wire, backend, proxy_protocol::Kind},
};

use crate::{
    endpoint::EndpointInfo,
    meta::Meta,
    route::{RequestMatch, Route, RouteTable},
};

/// Index into `ClientPolicy::backends`.
pub type BackendIndex = usize;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Distribution {
    Empty,
    First(Vec<BackendIndex>),
    Random(Vec<(BackendIndex, u32)>),
}

pub struct HttpRule {
    pub backends: Distribution,
    pub filters: Vec<HttpFilter>,
}

/// Filters that end a request here; the others arrive with retries and timeouts.
#[derive(Clone, Debug, PartialEq)]
pub enum HttpFilter {
    Fail { status: u16, message: String, numerator: u32, denominator: u32 },
    FailGrpc { code: u8, message: String, numerator: u32, denominator: u32 },
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OpaqueOutcome {
    Forward(Distribution),
    Forbidden,
    Invalid(String),
}

pub struct OpaqueRoute {
    /// None when the policy has no opaque route.
    pub meta: Option<Meta>,
    pub outcome: OpaqueOutcome,
}

#[derive(Clone, Debug, PartialEq)]
pub enum BackendKind {
    Forward(EndpointInfo),
    Balancer {
        path: String,
        default_rtt: Duration,
        decay: Duration,
    },
    /// A backend that did not resolve: valid, and always fails.
    Unusable,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Backend {
    pub meta: Meta,
    pub kind: BackendKind,
}

pub type HttpRoutes = RouteTable<HttpRule>;

pub enum ClientProtocol {
    Detect {
        http1: HttpRoutes,
        http2: HttpRoutes,
        opaque: OpaqueRoute,
    },
    Http1(HttpRoutes),
    Http2(HttpRoutes),
    Grpc(HttpRoutes),
    Opaque(OpaqueRoute),
    /// Routed as opaque bytes.
    Tls(OpaqueRoute),
    /// HTTP gets 500, bytes fail.
    Invalid(String),
}

pub struct ClientPolicy {
    pub parent: Meta,
    pub protocol: ClientProtocol,
    pub backends: Vec<Backend>,
}

/// Collects distinct backends while routes are compiled.
struct Compiler<'a> {
    backends: Vec<Backend>,
    local: &'a [IpAddr],
}

impl ClientPolicy {
    /// Total: whatever cannot be understood becomes an `Invalid` policy. local: own addresses.
    pub fn compile(
        original_dst: SocketAddr,
        policy: Option<&wire::OutboundPolicy>,
        profile: Option<&DestinationProfile>,
        local: &[IpAddr],
    ) -> Self {
        let mut compiler = Compiler { backends: Vec::new(), local };
        let Some(policy) = policy else {
            return Self::synthesised(original_dst, profile, local);
        };
        let parent = Meta::from_wire(policy.metadata.as_ref());
        let kind = policy.protocol.as_ref().and_then(|protocol| protocol.kind.as_ref());
        let is_opaque = profile.is_some_and(|profile| profile.opaque_protocol);
        let protocol = match (&parent, kind) {
            (None, _) => Err("policy has no metadata".to_owned()),
            (_, None) => Err("policy has no protocol".to_owned()),
            (_, Some(kind)) => compiler.protocol(kind, is_opaque),
        };
        Self {
            parent: parent.unwrap_or_else(|| Meta::built_in("invalid")),
            protocol: protocol.unwrap_or_else(ClientProtocol::Invalid),
            backends: compiler.backends,
        }
    }

    pub fn invalid(reason: &str) -> Self {
        Self {
            parent: Meta::built_in("invalid"),
            protocol: ClientProtocol::Invalid(reason.to_owned()),
            backends: Vec::new(),
        }
    }

    /// The control plane knows no policy: forward to the profile's endpoint, else to where the client was going.
    fn synthesised(original_dst: SocketAddr, profile: Option<&DestinationProfile>, local: &[IpAddr]) -> Self {
        let known = profile
            .and_then(|profile| profile.endpoint.as_ref())
            .and_then(|endpoint| EndpointInfo::from_wire(endpoint, &HashMap::new(), local));
        let name = if known.is_some() { "endpoint" } else { "fallback" };
        let info = known.unwrap_or_else(|| {
            let plain = EndpointInfo::plain(original_dst);
            if local.contains(&original_dst.ip()) {
                EndpointInfo { tls: crate::endpoint::OutboundTls::Loopback, ..plain }
            } else {
                plain
            }
        });
        let meta = Meta::built_in(name);
        let opaque =
            OpaqueRoute { meta: Some(meta.clone()), outcome: OpaqueOutcome::Forward(Distribution::First(vec![0])) };
        let routes = || {
            let rule = HttpRule { backends: Distribution::First(vec![0]), filters: Vec::new() };
            let route = Route::new(meta.clone(), &[], vec![(Vec::new(), rule)]);
            RouteTable::new(route.into_iter().collect())
        };
        let protocol = if profile.is_some_and(|profile| profile.opaque_protocol) {
            ClientProtocol::Opaque(opaque)
        } else {
            ClientProtocol::Detect { http1: routes(), http2: routes(), opaque }
        };
        let backends = vec![Backend { meta: meta.clone(), kind: BackendKind::Forward(info) }];
        Self { parent: meta, protocol, backends }
    }
}

impl Compiler<'_> {
    fn protocol(&mut self, kind: &Kind, is_opaque: bool) -> Result<ClientProtocol, String> {
        Ok(match kind {
            Kind::Detect(detect) => {
                let opaque = self.opaque(&detect.opaque.as_ref().ok_or("detect policy has no opaque part")?.routes)?;
                if is_opaque {
                    return Ok(ClientProtocol::Opaque(opaque));
                }
                let http1 = detect.http1.as_ref().ok_or("detect policy has no HTTP/1 part")?;
                let http2 = detect.http2.as_ref().ok_or("detect policy has no HTTP/2 part")?;
                ClientProtocol::Detect { http1: self.http(&http1.routes)?, http2: self.http(&http2.routes)?, opaque }
            }
            Kind::Opaque(opaque) => ClientProtocol::Opaque(self.opaque(&opaque.routes)?),
            Kind::Http1(http) => ClientProtocol::Http1(self.http(&http.routes)?),
            Kind::Http2(http) => ClientProtocol::Http2(self.http(&http.routes)?),
            Kind::Grpc(grpc) => ClientProtocol::Grpc(self.grpc(&grpc.routes)?),
            Kind::Tls(tls) => ClientProtocol::Tls(self.tls(&tls.routes)?),
        })
    }

    fn backend(&mut self, backend: Option<&wire::Backend>) -> Result<BackendIndex, String> {
        let backend = backend.ok_or("route backend is empty")?;
        let meta = Meta::from_wire(backend.metadata.as_ref()).ok_or("backend has no metadata")?;
        let kind = match backend.kind.as_ref() {
            None => BackendKind::Unusable,
            Some(backend::Kind::Forward(addr)) => EndpointInfo::from_wire(addr, &HashMap::new(), self.local)
                .map_or(BackendKind::Unusable, BackendKind::Forward),
            Some(backend::Kind::Balancer(balancer)) => balancer_from(balancer)?,
        };
        let backend = Backend { meta, kind };
        if let Some(known) = self.backends.iter().position(|known| *known == backend) {
            return Ok(known);
        }
        self.backends.push(backend);
        Ok(self.backends.len() - 1)
    }

    fn http(&mut self, routes: &[wire::HttpRoute]) -> Result<HttpRoutes, String> {
        use wire::http_route::{distribution::Kind as Dist, filter};
        let mut out = Vec::with_capacity(routes.len());
        for route in routes {
            let mut rules = Vec::with_capacity(route.rules.len());
            for rule in &route.rules {
                let matches = rule.matches.iter().map(RequestMatch::from_http).collect::<Result<_, _>>()?;
                let mut filters: Vec<_> = rule.filters.iter().collect();
                let backends = match rule.backends.as_ref().and_then(|d| d.kind.as_ref()) {
                    None => return Err("rule has no backends".to_owned()),
                    Some(Dist::Empty(_)) => Distribution::Empty,
                    Some(Dist::FirstAvailable(first)) => {
                        if let [only] = &first.backends[..] {
                            filters.extend(&only.filters);
                        }
                        let all = first.backends.iter().map(|b| self.backend(b.backend.as_ref()));
                        Distribution::First(not_empty(all.collect::<Result<_, _>>()?)?)
                    }
                    Some(Dist::RandomAvailable(random)) => {
                        let all = random.backends.iter().map(|w| {
                            let backend = w.backend.as_ref().and_then(|b| b.backend.as_ref());
                            Ok::<_, String>((self.backend(backend)?, w.weight))
                        });
                        Distribution::Random(not_empty(all.collect::<Result<_, _>>()?)?)
                    }
                };
                let filters = filters.into_iter().filter_map(|f| match f.kind.as_ref()? {
                    filter::Kind::FailureInjector(fail) => Some(HttpFilter::Fail {
                        status: u16::try_from(fail.status).unwrap_or(500),
                        message: fail.message.clone(),
                        numerator: fail.ratio.as_ref().map_or(1, |r| r.numerator),
                        denominator: fail.ratio.as_ref().map_or(1, |r| r.denominator),
                    }),
                    _ => None,
                });
                rules.push((matches, HttpRule { backends, filters: filters.collect() }));
            }
            let meta = Meta::from_wire(route.metadata.as_ref()).ok_or("route has no metadata")?;
            out.push(Route::new(meta, &route.hosts, rules)?);
        }
        Ok(RouteTable::new(out))
    }

    fn grpc(&mut self, routes: &[wire::GrpcRoute]) -> Result<HttpRoutes, String> {
        use wire::grpc_route::{distribution::Kind as Dist, filter};
        let mut out = Vec::with_capacity(routes.len());
        for route in routes {
            let mut rules = Vec::with_capacity(route.rules.len());
            for rule in &route.rules {
                let matches = rule.matches.iter().map(RequestMatch::from_grpc).collect::<Result<_, _>>()?;
                let mut filters: Vec<_> = rule.filters.iter().collect();
                let backends = match rule.backends.as_ref().and_then(|d| d.kind.as_ref()) {
                    None => return Err("rule has no backends".to_owned()),
                    Some(Dist::Empty(_)) => Distribution::Empty,
                    Some(Dist::FirstAvailable(first)) => {
                        if let [only] = &first.backends[..] {
                            filters.extend(&only.filters);
                        }
                        let all = first.backends.iter().map(|b| self.backend(b.backend.as_ref()));
                        Distribution::First(not_empty(all.collect::<Result<_, _>>()?)?)
                    }
                    Some(Dist::RandomAvailable(random)) => {
                        let all = random.backends.iter().map(|w| {
                            let backend = w.backend.as_ref().and_then(|b| b.backend.as_ref());
                            Ok::<_, String>((self.backend(backend)?, w.weight))
                        });
                        Distribution::Random(not_empty(all.collect::<Result<_, _>>()?)?)
                    }
                };
                let filters = filters.into_iter().filter_map(|f| match f.kind.as_ref()? {
                    filter::Kind::FailureInjector(fail) => Some(HttpFilter::FailGrpc {
                        // Codes beyond the table read as UNKNOWN at every client.
                        code: u8::try_from(fail.code).ok().filter(|code| *code <= 16).unwrap_or(2),
                        message: fail.message.clone(),
                        numerator: fail.ratio.as_ref().map_or(1, |r| r.numerator),
                        denominator: fail.ratio.as_ref().map_or(1, |r| r.denominator),
                    }),
                    filter::Kind::RequestHeaderModifier(_) => None,
                });
                rules.push((matches, HttpRule { backends, filters: filters.collect() }));
            }
            let meta = Meta::from_wire(route.metadata.as_ref()).ok_or("route has no metadata")?;
            out.push(Route::new(meta, &route.hosts, rules)?);
        }
        Ok(RouteTable::new(out))
    }

    fn opaque(&mut self, routes: &[wire::OpaqueRoute]) -> Result<OpaqueRoute, String> {
        use wire::opaque_route::{distribution::Kind as Dist, filter};
        let [route] = routes else {
            return match routes {
                [] => Ok(OpaqueRoute { meta: None, outcome: OpaqueOutcome::Invalid("no opaque route".to_owned()) }),
                _ => Err("more than one opaque route".to_owned()),
            };
        };
        let [rule] = &route.rules[..] else {
            return Err("an opaque route needs exactly one rule".to_owned());
        };
        let meta = Meta::from_wire(route.metadata.as_ref()).ok_or("route has no metadata")?;
        let filter = rule.filters.iter().find_map(|f| f.kind.as_ref()).map(|kind| match kind {
            filter::Kind::Forbidden(_) => OpaqueOutcome::Forbidden,
            filter::Kind::Invalid(invalid) => OpaqueOutcome::Invalid(invalid.message.clone()),
        });
        let backends = match rule.backends.as_ref().and_then(|d| d.kind.as_ref()) {
            None => return Err("rule has no backends".to_owned()),
            Some(Dist::Empty(_)) => Distribution::Empty,
            Some(Dist::FirstAvailable(first)) => {
                let all = first.backends.iter().map(|b| self.backend(b.backend.as_ref()));
                Distribution::First(not_empty(all.collect::<Result<_, _>>()?)?)
            }
            Some(Dist::RandomAvailable(random)) => {
                let all = random.backends.iter().map(|w| {
                    let backend = w.backend.as_ref().and_then(|b| b.backend.as_ref());
                    Ok::<_, String>((self.backend(backend)?, w.weight))
                });
                Distribution::Random(not_empty(all.collect::<Result<_, _>>()?)?)
            }
        };
        Ok(OpaqueRoute { meta: Some(meta), outcome: filter.unwrap_or(OpaqueOutcome::Forward(backends)) })
    }

    /// TLS routes go by their first route; choosing by server name arrives with TLSRoute.
    fn tls(&mut self, routes: &[wire::TlsRoute]) -> Result<OpaqueRoute, String> {
        use wire::tls_route::distribution::Kind as Dist;
        let route = routes.first().ok_or("no TLS route")?;
        let [rule] = &route.rules[..] else {
            return Err("a TLS route needs exactly one rule".to_owned());
        };
        let meta = Meta::from_wire(route.metadata.as_ref()).ok_or("route has no metadata")?;
        let filter = rule.filters.iter().find_map(|f| f.kind.as_ref()).map(|kind| match kind {
            wire::tls_route::filter::Kind::Forbidden(_) => OpaqueOutcome::Forbidden,
            wire::tls_route::filter::Kind::Invalid(invalid) => OpaqueOutcome::Invalid(invalid.message.clone()),
        });
        let backends = match rule.backends.as_ref().and_then(|d| d.kind.as_ref()) {
            None => return Err("rule has no backends".to_owned()),
            Some(Dist::Empty(_)) => Distribution::Empty,
            Some(Dist::FirstAvailable(first)) => {
                let all = first.backends.iter().map(|b| self.backend(b.backend.as_ref()));
                Distribution::First(not_empty(all.collect::<Result<_, _>>()?)?)
            }
            Some(Dist::RandomAvailable(random)) => {
                let all = random.backends.iter().map(|w| {
                    let backend = w.backend.as_ref().and_then(|b| b.backend.as_ref());
                    Ok::<_, String>((self.backend(backend)?, w.weight))
                });
                Distribution::Random(not_empty(all.collect::<Result<_, _>>()?)?)
            }
        };
        Ok(OpaqueRoute { meta: Some(meta), outcome: filter.unwrap_or(OpaqueOutcome::Forward(backends)) })
    }
}

fn not_empty<T>(all: Vec<T>) -> Result<Vec<T>, String> {
    if all.is_empty() { Err("distribution has no backends".to_owned()) } else { Ok(all) }
}

fn balancer_from(balancer: &backend::BalanceP2c) -> Result<BackendKind, String> {
    use backend::{balance_p2c::Load, endpoint_discovery::Kind};
    let discovery = balancer.discovery.as_ref().and_then(|d| d.kind.as_ref()).ok_or("balancer has no discovery")?;
    let Kind::Dst(dst) = discovery;
    let (default_rtt, decay) = match balancer.load.as_ref().ok_or("balancer has no load")? {
        Load::PeakEwma(load) => (load.default_rtt, load.decay),
        Load::PenaltyPeakEwma(load) => (load.default_rtt, load.decay),
    };
    let time =
        |d: Option<prost_types::Duration>, default| d.and_then(|d| Duration::try_from(d).ok()).unwrap_or(default);
    Ok(BackendKind::Balancer {
        path: dst.path.clone(),
        default_rtt: time(default_rtt, Duration::from_millis(30)),
        decay: time(decay, Duration::from_secs(10)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_target_is_forwarded_to_where_it_was_going() {
        let dst = "10.1.2.3:80".parse().unwrap();
        let policy = ClientPolicy::compile(dst, None, None, &[]);
        assert_eq!(policy.parent.name, "fallback");
        assert_eq!(policy.backends[0].kind, BackendKind::Forward(EndpointInfo::plain(dst)));
        assert!(matches!(policy.protocol, ClientProtocol::Detect { .. }));
    }

    #[test]
    fn an_opaque_profile_endpoint_is_reached_as_bytes() {
        let dst: SocketAddr = "10.1.2.3:80".parse().unwrap();
        let endpoint = weft_proto::linkerd::destination::WeightedAddr {
            addr: Some(crate::addr::wire_socket(dst)),
            ..Default::default()
        };
        let profile = DestinationProfile { opaque_protocol: true, endpoint: Some(endpoint), ..Default::default() };
        let policy = ClientPolicy::compile(dst, None, Some(&profile), &[]);
        assert_eq!(policy.parent.name, "endpoint");
        assert!(matches!(policy.protocol, ClientProtocol::Opaque(_)));
    }

    #[test]
    fn a_policy_without_metadata_or_protocol_is_invalid() {
        let dst = "10.1.2.3:80".parse().unwrap();
        let policy = ClientPolicy::compile(dst, Some(&wire::OutboundPolicy::default()), None, &[]);
        assert!(matches!(policy.protocol, ClientProtocol::Invalid(reason) if reason == "policy has no metadata"));
    }
}
