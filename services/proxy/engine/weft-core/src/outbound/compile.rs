//! Wire messages to a compiled policy: every check of wire.md 2.7, with the reason when one fails.

use std::{
    collections::HashMap,
    net::{IpAddr, SocketAddr},
};

use weft_proto::linkerd::{
    destination::DestinationProfile,
    outbound::{self as wire, backend, proxy_protocol::Kind},
};

use super::{
    Backend, BackendIndex, BackendKind, Carries, ClientPolicy, ClientProtocol, Distribution, Filters, HttpRoutes,
    HttpRule, OpaqueFilter, OpaqueRoute, Retry, RouteBackend, RuleKind, Timeouts, TlsRoutes, profile, tls,
    wire_backends::{OnTheWay, Shape, WireDistribution, balancing, has_queue, wanted},
};
use crate::{
    breaker::Accrual,
    endpoint::{EndpointInfo, OutboundTls},
    meta::Meta,
    route::{RequestMatch, Route, RouteTable},
};

/// Collects distinct backends and numbers rules while routes are compiled.
struct Compiler<'a> {
    original_dst: SocketAddr,
    profile: Option<&'a DestinationProfile>,
    local: &'a [IpAddr],
    backends: Vec<Backend>,
    rules: usize,
}

pub fn policy(
    original_dst: SocketAddr,
    policy: Option<&wire::OutboundPolicy>,
    profile: Option<&DestinationProfile>,
    local: &[IpAddr],
) -> ClientPolicy {
    let mut compiler = Compiler { original_dst, profile, local, backends: Vec::new(), rules: 0 };
    let (parent, protocol) = match policy {
        None => compiler.synthesised(),
        Some(policy) => match compiler.understood(policy) {
            Ok(understood) => understood,
            Err(reason) => {
                let parent = Meta::from_wire(policy.metadata.as_ref());
                (parent.unwrap_or_else(|| Meta::built_in("invalid")), ClientProtocol::Invalid(reason))
            }
        },
    };
    ClientPolicy { parent, protocol, backends: compiler.backends }
}

#[allow(deprecated, reason = "a control plane may still fill the old field of the request timeout")]
impl Compiler<'_> {
    fn understood(&mut self, policy: &wire::OutboundPolicy) -> Result<(Meta, ClientProtocol), String> {
        let parent = Meta::in_full(policy.metadata.as_ref(), "policy")?;
        let kind = policy.protocol.as_ref().and_then(|protocol| protocol.kind.as_ref());
        Ok((parent, self.protocol(kind.ok_or("policy has no protocol")?)?))
    }

    /// The control plane knows no policy: forward to the profile's endpoint, else to where the client was going.
    fn synthesised(&mut self) -> (Meta, ClientProtocol) {
        let known = self.profile.and_then(|profile| profile.endpoint.as_ref());
        let known = known.and_then(|endpoint| EndpointInfo::from_wire(endpoint, &HashMap::new(), self.local));
        let meta = Meta::built_in(if known.is_some() { "endpoint" } else { "fallback" });
        let info = known.unwrap_or_else(|| {
            let plain = EndpointInfo::plain(self.original_dst);
            if self.local.contains(&self.original_dst.ip()) {
                EndpointInfo { tls: OutboundTls::Loopback, ..plain }
            } else {
                plain
            }
        });
        let mut backend =
            |carries| self.add(Backend { meta: meta.clone(), kind: BackendKind::Forward(info.clone()), carries });
        let (http, tcp) = (backend(Carries::Http), backend(Carries::Tcp));
        let backends = Distribution::First(vec![RouteBackend { backend: tcp, filters: None }]);
        let opaque = OpaqueRoute { meta: Some(meta.clone()), refusal: None, backends };
        if self.profile.is_some_and(|profile| profile.opaque_protocol) {
            return (meta, ClientProtocol::Opaque(opaque));
        }
        let mut routes = || {
            let backends = Distribution::First(vec![RouteBackend { backend: http, filters: Filters::default() }]);
            let rule = HttpRule::plain(self.next_rule(), meta.clone(), RuleKind::Http, backends);
            let route = Route::new(meta.clone(), &[], vec![(Vec::new(), rule)]);
            HttpRoutes::Policy(RouteTable::new(route.into_iter().collect()))
        };
        let (http1, http2) = (routes(), routes());
        (meta, ClientProtocol::Detect { http1, http2, opaque })
    }

    fn protocol(&mut self, kind: &Kind) -> Result<ClientProtocol, String> {
        Ok(match kind {
            Kind::Detect(detect) => {
                // Wanted, and then not used: how long to look is a setting of the proxy.
                wanted(detect.timeout, "the timeout of detection")?;
                let opaque = self.opaque(&detect.opaque.as_ref().ok_or("detect policy has no opaque part")?.routes)?;
                if self.profile.is_some_and(|profile| profile.opaque_protocol) {
                    return Ok(ClientProtocol::Opaque(opaque));
                }
                let http1 = detect.http1.as_ref().ok_or("detect policy has no HTTP/1 part")?;
                let http2 = detect.http2.as_ref().ok_or("detect policy has no HTTP/2 part")?;
                ClientProtocol::Detect {
                    http1: self.http(&http1.routes, http1.failure_accrual.as_ref())?,
                    http2: self.http(&http2.routes, http2.failure_accrual.as_ref())?,
                    opaque,
                }
            }
            Kind::Opaque(opaque) => ClientProtocol::Opaque(self.opaque(&opaque.routes)?),
            Kind::Http1(http) => ClientProtocol::Http1(self.http(&http.routes, http.failure_accrual.as_ref())?),
            Kind::Http2(http) => ClientProtocol::Http2(self.http(&http.routes, http.failure_accrual.as_ref())?),
            Kind::Grpc(grpc) => ClientProtocol::Grpc(self.grpc(&grpc.routes, grpc.failure_accrual.as_ref())?),
            Kind::Tls(tls) => ClientProtocol::Tls(self.tls(&tls.routes)?),
        })
    }

    fn next_rule(&mut self) -> usize {
        self.rules += 1;
        self.rules - 1
    }

    fn add(&mut self, backend: Backend) -> BackendIndex {
        if let Some(known) = self.backends.iter().position(|known| *known == backend) {
            return known;
        }
        self.backends.push(backend);
        self.backends.len() - 1
    }

    fn backend(
        &mut self,
        backend: Option<&wire::Backend>,
        carries: Carries,
        accrual: Option<Accrual>,
    ) -> Result<BackendIndex, String> {
        let backend = backend.ok_or("route backend is empty")?;
        let meta = Meta::in_full(backend.metadata.as_ref(), "backend")?;
        let kind = match backend.kind.as_ref() {
            None => BackendKind::Unusable,
            Some(backend::Kind::Forward(addr)) => EndpointInfo::from_wire(addr, &HashMap::new(), self.local)
                .map(BackendKind::Forward)
                .ok_or("backend forwards to no address")?,
            Some(backend::Kind::Balancer(balancer)) => BackendKind::Balancer(balancing(balancer, accrual)?),
        };
        has_queue(backend)?;
        Ok(self.add(Backend { meta, kind, carries }))
    }

    fn distribution<D: WireDistribution, F>(
        &mut self,
        distribution: Option<&D>,
        carries: Carries,
        accrual: Option<Accrual>,
        filters: impl Fn(&[D::Filter]) -> Result<F, String>,
    ) -> Result<Distribution<F>, String> {
        let mut one = |(backend, on_the_way): OnTheWay<'_, D::Filter>| {
            Ok::<_, String>(RouteBackend {
                backend: self.backend(backend, carries, accrual)?,
                filters: filters(on_the_way)?,
            })
        };
        Ok(match distribution.and_then(D::shape).ok_or("rule has no backends")? {
            Shape::Empty => Distribution::Empty,
            Shape::First(all) if !all.is_empty() => {
                Distribution::First(all.into_iter().map(one).collect::<Result<_, _>>()?)
            }
            Shape::Random(mut all) if all.len() == 1 => Distribution::First(vec![one(all.remove(0).0)?]),
            Shape::Random(all) if all.iter().any(|(_, weight)| *weight > 0) => {
                let all = all.into_iter().map(|(backend, weight)| Ok::<_, String>((one(backend)?, weight)));
                Distribution::Random(all.collect::<Result<_, _>>()?)
            }
            Shape::First(_) => return Err("distribution has no backends".to_owned()),
            Shape::Random(_) => return Err("distribution has no backend with a weight".to_owned()),
        })
    }

    fn http(
        &mut self,
        routes: &[wire::HttpRoute],
        accrual: Option<&wire::FailureAccrual>,
    ) -> Result<HttpRoutes, String> {
        if let Some(routes) = self.profile_routes() {
            return Ok(routes);
        }
        let accrual = accrual.map(Accrual::from_wire).transpose()?;
        let mut out = Vec::with_capacity(routes.len());
        for route in routes {
            let meta = Meta::in_full(route.metadata.as_ref(), "route")?;
            let mut rules = Vec::with_capacity(route.rules.len());
            for rule in &route.rules {
                let matches = rule.matches.iter().map(RequestMatch::from_http).collect::<Result<_, _>>()?;
                let rule = HttpRule {
                    id: self.next_rule(),
                    route: meta.clone(),
                    kind: RuleKind::Http,
                    backends: self.distribution(rule.backends.as_ref(), Carries::Http, accrual, Filters::from_http)?,
                    filters: Filters::from_http(&rule.filters)?,
                    timeouts: Timeouts::from_wire(rule.timeouts.as_ref(), rule.request_timeout),
                    retry: rule.retry.as_ref().map(Retry::from_http).transpose()?,
                    allow_l5d_headers: rule.allow_l5d_request_headers,
                };
                rules.push((matches, rule));
            }
            out.push(Route::new(meta, &route.hosts, rules)?);
        }
        Ok(HttpRoutes::Policy(RouteTable::new(out)))
    }

    fn grpc(
        &mut self,
        routes: &[wire::GrpcRoute],
        accrual: Option<&wire::FailureAccrual>,
    ) -> Result<HttpRoutes, String> {
        if let Some(routes) = self.profile_routes() {
            return Ok(routes);
        }
        let accrual = accrual.map(Accrual::from_wire).transpose()?;
        let mut out = Vec::with_capacity(routes.len());
        for route in routes {
            let meta = Meta::in_full(route.metadata.as_ref(), "route")?;
            let mut rules = Vec::with_capacity(route.rules.len());
            for rule in &route.rules {
                let matches = rule.matches.iter().map(RequestMatch::from_grpc).collect::<Result<_, _>>()?;
                let rule = HttpRule {
                    id: self.next_rule(),
                    route: meta.clone(),
                    kind: RuleKind::Grpc,
                    backends: self.distribution(rule.backends.as_ref(), Carries::Http, accrual, Filters::from_grpc)?,
                    filters: Filters::from_grpc(&rule.filters)?,
                    timeouts: Timeouts::from_wire(rule.timeouts.as_ref(), rule.request_timeout),
                    retry: rule.retry.as_ref().map(Retry::from_grpc).transpose()?,
                    allow_l5d_headers: rule.allow_l5d_request_headers,
                };
                rules.push((matches, rule));
            }
            out.push(Route::new(meta, &route.hosts, rules)?);
        }
        Ok(HttpRoutes::Policy(RouteTable::new(out)))
    }

    /// None when the profile leaves the policy's routes in place.
    fn profile_routes(&mut self) -> Option<HttpRoutes> {
        let profile = self.profile.filter(|profile| profile::replaces_http(profile))?;
        let backends = profile::backends(profile, self.original_dst, Carries::Http);
        let backends: Vec<_> = backends.into_iter().map(|(backend, weight)| (self.add(backend), weight)).collect();
        let dst = self.original_dst;
        Some(HttpRoutes::Profile(Box::new(profile::routes(profile, dst, &backends, || self.next_rule()))))
    }

    fn opaque(&mut self, routes: &[wire::OpaqueRoute]) -> Result<OpaqueRoute, String> {
        if let Some(profile) = self.profile.filter(|profile| profile::replaces_opaque(profile)) {
            let backends = profile::backends(profile, self.original_dst, Carries::Tcp);
            let one = |(backend, weight)| (RouteBackend { backend: self.add(backend), filters: None }, weight);
            let backends: Vec<_> = backends.into_iter().map(one).collect();
            let backends = if backends.is_empty() { Distribution::Empty } else { Distribution::Random(backends) };
            return Ok(OpaqueRoute { meta: Some(Meta::built_in("profile")), refusal: None, backends });
        }
        let [route] = routes else {
            let refusal = Some(OpaqueFilter::Invalid("no opaque route".to_owned()));
            return match routes {
                [] => Ok(OpaqueRoute { meta: None, refusal, backends: Distribution::Empty }),
                _ => Err("more than one opaque route".to_owned()),
            };
        };
        let [rule] = &route.rules[..] else {
            return Err("an opaque route needs exactly one rule".to_owned());
        };
        let filter = |filters: &[wire::opaque_route::Filter]| Ok(opaque_filter(filters));
        Ok(OpaqueRoute {
            meta: Some(Meta::in_full(route.metadata.as_ref(), "route")?),
            refusal: opaque_filter(&rule.filters),
            backends: self.distribution(rule.backends.as_ref(), Carries::Tcp, None, filter)?,
        })
    }

    fn tls(&mut self, routes: &[wire::TlsRoute]) -> Result<TlsRoutes, String> {
        let mut out = Vec::with_capacity(routes.len());
        for route in routes {
            let [rule] = &route.rules[..] else {
                return Err("a TLS route needs exactly one rule".to_owned());
            };
            let filter = |filters: &[wire::tls_route::Filter]| Ok(tls_filter(filters));
            let compiled = OpaqueRoute {
                meta: Some(Meta::in_full(route.metadata.as_ref(), "route")?),
                refusal: tls_filter(&rule.filters),
                backends: self.distribution(rule.backends.as_ref(), Carries::Tls, None, filter)?,
            };
            out.push((tls::names_from(&route.snis)?, compiled));
        }
        Ok(TlsRoutes::new(out))
    }
}

fn opaque_filter(filters: &[wire::opaque_route::Filter]) -> Option<OpaqueFilter> {
    use wire::opaque_route::filter::Kind;
    filters.iter().find_map(|filter| filter.kind.as_ref()).map(|kind| match kind {
        Kind::Forbidden(_) => OpaqueFilter::Forbidden,
        Kind::Invalid(invalid) => OpaqueFilter::Invalid(invalid.message.clone()),
    })
}

fn tls_filter(filters: &[wire::tls_route::Filter]) -> Option<OpaqueFilter> {
    use wire::tls_route::filter::Kind;
    filters.iter().find_map(|filter| filter.kind.as_ref()).map(|kind| match kind {
        Kind::Forbidden(_) => OpaqueFilter::Forbidden,
        Kind::Invalid(invalid) => OpaqueFilter::Invalid(invalid.message.clone()),
    })
}
