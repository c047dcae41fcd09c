//! ServiceProfile routes: the older way to say retries, timeouts and splits, first match first (wire.md 2.5).

use std::{net::SocketAddr, sync::Arc, time::Duration};

use weft_proto::linkerd::destination::{self as wire, DestinationProfile};

use super::{
    Backend, BackendKind, Balancing, Carries, Distribution, Filters, HttpRule, RouteBackend, RuleKind, Timeouts,
};
use crate::{
    balance::Load,
    budget::BudgetSettings,
    meta::Meta,
    profile::{self, ProfileRule},
    route::RequestView,
};

const LOAD: Load = Load { default_rtt: Duration::from_millis(30), decay: Duration::from_secs(10), penalty: None };

pub struct ProfileRoutes {
    routes: profile::ProfileRoutes<HttpRule>,
    default: HttpRule,
}

/// Whether the profile says more than what its name is, and so replaces the policy's HTTP routes.
pub fn replaces_http(profile: &DestinationProfile) -> bool {
    !profile.fully_qualified_name.is_empty() && (!profile.routes.is_empty() || replaces_opaque(profile))
}

pub fn replaces_opaque(profile: &DestinationProfile) -> bool {
    !profile.dst_overrides.is_empty()
}

/// The balancers that the profile leads to, and their weights; overrides without weight are dropped.
pub fn backends(profile: &DestinationProfile, original_dst: SocketAddr, carries: Carries) -> Vec<(Backend, u32)> {
    let balancer = |path: String, meta: Option<Meta>| Backend {
        meta: meta.unwrap_or_else(|| Meta::built_in(&path)),
        kind: BackendKind::Balancer(Balancing { path, load: LOAD, accrual: None }),
        carries,
    };
    if !replaces_opaque(profile) {
        let meta = Meta::from_wire(profile.parent_ref.as_ref());
        return vec![(balancer(dst_of(profile, original_dst), meta), 1)];
    }
    let some = profile.dst_overrides.iter().filter(|dst| dst.weight > 0);
    some.map(|dst| (balancer(dst.authority.clone(), Meta::from_wire(dst.backend_ref.as_ref())), dst.weight)).collect()
}

fn dst_of(profile: &DestinationProfile, original_dst: SocketAddr) -> String {
    profile::dst_of(profile, original_dst.port()).unwrap_or_default()
}

/// next_id: counts the rules of a policy.
pub fn routes(
    profile: &DestinationProfile,
    original_dst: SocketAddr,
    backends: &[(usize, u32)],
    mut next_id: impl FnMut() -> usize,
) -> ProfileRoutes {
    let dst = dst_of(profile, original_dst);
    let budget = profile.retry_budget.as_ref().and_then(BudgetSettings::from_wire);
    let distribution = || {
        let all = backends
            .iter()
            .map(|(backend, weight)| (RouteBackend { backend: *backend, filters: Filters::default() }, *weight));
        match backends {
            [] => Distribution::Empty,
            [(only, _)] => Distribution::First(vec![RouteBackend { backend: *only, filters: Filters::default() }]),
            _ => Distribution::Random(all.collect()),
        }
    };
    let mut rule = |route: &wire::Route| {
        let kind = RuleKind::Profile(Arc::new(ProfileRule::new(&dst, route, budget)));
        let timeout = route.timeout.and_then(|timeout| Duration::try_from(timeout).ok());
        HttpRule {
            timeouts: Timeouts { request: timeout.filter(|timeout| !timeout.is_zero()), ..Timeouts::default() },
            ..HttpRule::plain(next_id(), Meta::built_in("profile"), kind, distribution())
        }
    };
    ProfileRoutes {
        routes: profile::ProfileRoutes::compile(profile, &mut rule),
        default: rule(&wire::Route::default()),
    }
}

impl ProfileRoutes {
    pub fn find(&self, request: &RequestView<'_>) -> &HttpRule {
        self.routes.find(request).unwrap_or(&self.default)
    }

    pub fn rules(&self) -> impl Iterator<Item = &HttpRule> {
        self.routes.iter().chain([&self.default])
    }
}

#[cfg(test)]
#[path = "profile_tests.rs"]
mod tests;
