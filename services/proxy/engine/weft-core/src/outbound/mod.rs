//! How one target is reached: client policy and profile compiled to routes over numbered backends (wire.md 2.5 to 2.7).

mod compile;
mod distribution;
mod profile;
mod retry;
mod timeouts;
mod tls;
mod wire_backends;

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use weft_proto::linkerd::{destination::DestinationProfile, outbound as wire};

pub use distribution::{BackendIndex, Distribution, NoBackend, RouteBackend};
pub use profile::ProfileRoutes;
pub use retry::{Plan, ResponseHead, Retry};
pub use timeouts::{Limits, Progress, Timeouts};
pub use tls::TlsRoutes;

use crate::{
    balance::Load,
    breaker::Accrual,
    endpoint::EndpointInfo,
    filters::Filters,
    meta::Meta,
    profile::ProfileRule,
    route::{RequestView, RouteTable},
};

pub struct HttpRule {
    /// Distinct among the rules of a policy, counted from 0: where others keep what belongs to this rule.
    pub id: usize,
    pub route: Meta,
    pub kind: RuleKind,
    pub backends: Distribution<Filters>,
    pub filters: Filters,
    pub timeouts: Timeouts,
    pub retry: Option<Retry>,
    /// Whether a client's own headers may set retries and timeouts.
    pub allow_l5d_headers: bool,
}

/// What a rule came from, which decides what counts it.
pub enum RuleKind {
    Http,
    Grpc,
    Profile(Arc<ProfileRule>),
}

impl HttpRule {
    /// Forwards, and nothing else.
    fn plain(id: usize, route: Meta, kind: RuleKind, backends: Distribution<Filters>) -> Self {
        Self {
            id,
            route,
            kind,
            backends,
            filters: Filters::default(),
            timeouts: Timeouts::default(),
            retry: None,
            allow_l5d_headers: false,
        }
    }
}

/// Routes of one HTTP version.
pub enum HttpRoutes {
    Policy(RouteTable<HttpRule>),
    /// A ServiceProfile took the policy's place.
    Profile(Box<ProfileRoutes>),
}

impl HttpRoutes {
    /// Also the length of the path prefix that matched, if that is how it matched.
    pub fn find(&self, request: &RequestView<'_>) -> Option<(&HttpRule, Option<usize>)> {
        match self {
            Self::Policy(table) => {
                let (index, prefix) = table.find_prefix(request)?;
                Some((table.rule(index), prefix))
            }
            Self::Profile(routes) => Some((routes.find(request), None)),
        }
    }

    pub fn rules(&self) -> Vec<&HttpRule> {
        match self {
            Self::Policy(table) => table.rules().map(|(_, _, rule)| rule).collect(),
            Self::Profile(routes) => routes.rules().collect(),
        }
    }
}

#[derive(Clone, Debug, PartialEq)]
pub enum OpaqueFilter {
    Forbidden,
    Invalid(String),
}

/// Where the bytes of a connection go.
#[derive(Clone, Debug, PartialEq)]
pub struct OpaqueRoute {
    /// None when the policy has no route.
    pub meta: Option<Meta>,
    /// What refuses every connection.
    pub refusal: Option<OpaqueFilter>,
    pub backends: Distribution<Option<OpaqueFilter>>,
}

#[derive(Clone, Debug, PartialEq)]
pub enum BackendKind {
    Forward(EndpointInfo),
    Balancer(Balancing),
    /// A backend that did not resolve: valid, and always fails.
    Unusable,
}

/// Endpoints from discovery, and the choice among them.
#[derive(Clone, Debug, PartialEq)]
pub struct Balancing {
    /// What discovery is asked for.
    pub path: String,
    pub load: Load,
    pub accrual: Option<Accrual>,
}

/// What a backend carries; balancers of different kinds share no endpoints.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Carries {
    Http,
    Tcp,
    Tls,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Backend {
    pub meta: Meta,
    pub kind: BackendKind,
    pub carries: Carries,
}

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
    Tls(TlsRoutes),
    /// HTTP gets 500, bytes fail.
    Invalid(String),
}

pub struct ClientPolicy {
    pub parent: Meta,
    pub protocol: ClientProtocol,
    pub backends: Vec<Backend>,
}

impl ClientPolicy {
    /// Total: whatever cannot be understood becomes an `Invalid` policy. local: own addresses.
    pub fn compile(
        original_dst: SocketAddr,
        policy: Option<&wire::OutboundPolicy>,
        profile: Option<&DestinationProfile>,
        local: &[IpAddr],
    ) -> Self {
        compile::policy(original_dst, policy, profile, local)
    }

    pub fn invalid(reason: &str) -> Self {
        Self {
            parent: Meta::built_in("invalid"),
            protocol: ClientProtocol::Invalid(reason.to_owned()),
            backends: Vec::new(),
        }
    }

    /// In the order of their ids.
    pub fn rules(&self) -> Vec<&HttpRule> {
        let mut rules = match &self.protocol {
            ClientProtocol::Detect { http1, http2, .. } => [http1.rules(), http2.rules()].concat(),
            ClientProtocol::Http1(routes) | ClientProtocol::Http2(routes) | ClientProtocol::Grpc(routes) => {
                routes.rules()
            }
            ClientProtocol::Opaque(_) | ClientProtocol::Tls(_) | ClientProtocol::Invalid(_) => Vec::new(),
        };
        rules.sort_by_key(|rule| rule.id);
        rules
    }
}

#[cfg(test)]
mod tests;
