//! ServiceProfile routes: the older way to say retries, timeouts and splits, first match first (wire.md 2.5).

use std::{net::SocketAddr, sync::Arc, time::Duration};

use http::Method;
use regex::Regex;
use weft_proto::linkerd::destination::{
    self as wire, DestinationProfile, request_match::Match, response_match::Match as StatusMatch,
};

use super::{
    Backend, BackendKind, Balancing, Carries, Distribution, Filters, HttpRule, ResponseHead, RouteBackend, RuleKind,
    Timeouts,
};
use crate::{
    balance::Load,
    budget::BudgetSettings,
    meta::Meta,
    route::{RequestView, anchored, method_from},
};

const LOAD: Load = Load { default_rtt: Duration::from_millis(30), decay: Duration::from_secs(10), penalty: None };

/// What a rule of a profile has besides routing.
pub struct ProfileRule {
    /// `name:port` of the profile: the `dst` label and the value of `l5d-dst-canonical`.
    pub dst: String,
    /// Sorted; each is exported as `rt_<key>`.
    pub labels: Vec<(String, String)>,
    classes: Vec<(StatusCondition, bool)>,
    /// Present when requests may be retried, as often as it allows.
    pub budget: Option<BudgetSettings>,
}

pub struct ProfileRoutes {
    routes: Vec<(Condition, HttpRule)>,
    default: HttpRule,
}

enum Condition {
    All(Vec<Condition>),
    Any(Vec<Condition>),
    Not(Box<Condition>),
    Path(Regex),
    Method(Method),
}

enum StatusCondition {
    All(Vec<StatusCondition>),
    Any(Vec<StatusCondition>),
    Not(Box<StatusCondition>),
    /// Inclusive.
    Status(u32, u32),
}

impl ProfileRule {
    /// The first response class that fits decides; else the gRPC code if there is one, else the status.
    pub fn is_failure(&self, head: ResponseHead) -> bool {
        let by_class = self.classes.iter().find(|(condition, _)| condition.matches(head.status));
        by_class.map_or_else(|| head.is_failure(), |(_, is_failure)| *is_failure)
    }
}

impl ResponseHead {
    /// Without a profile's say.
    pub fn is_failure(self) -> bool {
        match self.grpc_status {
            Some(code) => matches!(code, 2 | 4 | 7 | 13 | 14 | 15),
            None => self.status >= 500,
        }
    }
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
    format!("{}:{}", profile.fully_qualified_name.trim_end_matches('.'), original_dst.port())
}

/// next_id: counts the rules of a policy. Routes that say nothing or nonsense are left out, as upstream does.
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
        let mut labels: Vec<_> = route.metrics_labels.iter().map(|(k, v)| (k.clone(), v.clone())).collect();
        labels.sort();
        let classes = route
            .response_classes
            .iter()
            .filter_map(|class| Some((StatusCondition::from_wire(class.condition.as_ref()?)?, class.is_failure)));
        let own = ProfileRule {
            dst: dst.clone(),
            labels,
            classes: classes.collect(),
            budget: budget.filter(|_| route.is_retryable),
        };
        let timeout = route.timeout.and_then(|timeout| Duration::try_from(timeout).ok());
        HttpRule {
            timeouts: Timeouts { request: timeout.filter(|timeout| !timeout.is_zero()), ..Timeouts::default() },
            ..HttpRule::plain(next_id(), Meta::built_in("profile"), RuleKind::Profile(Arc::new(own)), distribution())
        }
    };
    let all = profile.routes.iter();
    let routes =
        all.filter_map(|route| Some((Condition::from_wire(route.condition.as_ref()?)?, rule(route)))).collect();
    ProfileRoutes { routes, default: rule(&wire::Route::default()) }
}

impl ProfileRoutes {
    pub fn find(&self, request: &RequestView<'_>) -> &HttpRule {
        let found = self.routes.iter().find(|(condition, _)| condition.matches(request));
        found.map_or(&self.default, |(_, rule)| rule)
    }

    pub fn rules(&self) -> impl Iterator<Item = &HttpRule> {
        self.routes.iter().map(|(_, rule)| rule).chain([&self.default])
    }
}

impl Condition {
    fn from_wire(condition: &wire::RequestMatch) -> Option<Self> {
        let seq = |seq: &wire::request_match::Seq| seq.matches.iter().map(Self::from_wire).collect::<Option<Vec<_>>>();
        Some(match condition.r#match.as_ref()? {
            Match::All(all) => Self::All(seq(all)?),
            Match::Any(any) => Self::Any(seq(any)?),
            Match::Not(not) => Self::Not(Box::new(Self::from_wire(not)?)),
            Match::Path(path) => Self::Path(anchored(path.regex.trim()).ok()?),
            Match::Method(method) => Self::Method(method_from(method).ok()?),
        })
    }

    fn matches(&self, request: &RequestView<'_>) -> bool {
        match self {
            Self::All(all) => all.iter().all(|condition| condition.matches(request)),
            Self::Any(any) => any.iter().any(|condition| condition.matches(request)),
            Self::Not(not) => !not.matches(request),
            Self::Path(regex) => regex.is_match(request.path),
            Self::Method(method) => method == request.method,
        }
    }
}

impl StatusCondition {
    fn from_wire(condition: &wire::ResponseMatch) -> Option<Self> {
        let seq = |seq: &wire::response_match::Seq| seq.matches.iter().map(Self::from_wire).collect::<Option<Vec<_>>>();
        Some(match condition.r#match.as_ref()? {
            StatusMatch::All(all) => Self::All(seq(all)?),
            StatusMatch::Any(any) => Self::Any(seq(any)?),
            StatusMatch::Not(not) => Self::Not(Box::new(Self::from_wire(not)?)),
            StatusMatch::Status(range) => Self::Status(range.min, range.max),
        })
    }

    fn matches(&self, status: u16) -> bool {
        match self {
            Self::All(all) => all.iter().all(|condition| condition.matches(status)),
            Self::Any(any) => any.iter().any(|condition| condition.matches(status)),
            Self::Not(not) => !not.matches(status),
            // A range may name one end only.
            Self::Status(min, max) => {
                let status = u32::from(status);
                status >= *min && (*max == 0 || status <= *max)
            }
        }
    }
}

#[cfg(test)]
#[path = "profile_tests.rs"]
mod tests;
