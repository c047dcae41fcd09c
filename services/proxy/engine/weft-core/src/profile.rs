//! What a ServiceProfile says about requests and answers, whichever side of a proxy it is read for: routes by condition, the
//! first match first, and response classes (wire.md 2.5).

use http::Method;
use regex::Regex;
use weft_proto::linkerd::destination::{
    self as wire, DestinationProfile, request_match::Match, response_match::Match as StatusMatch,
};

use crate::{
    budget::BudgetSettings,
    metrics::{Labels, Outcome},
    outbound::ResponseHead,
    route::{RequestView, anchored, method_from},
};

/// What a route of a profile says, apart from where its requests go.
pub struct ProfileRule {
    /// `name:port` of the profile: the `dst` label and the value of `l5d-dst-canonical`.
    pub dst: String,
    /// Sorted; each is exported as `rt_<key>`.
    pub labels: Vec<(String, String)>,
    classes: Vec<(StatusCondition, bool)>,
    /// Present when requests may be retried, as often as it allows.
    pub budget: Option<BudgetSettings>,
}

/// Routes of a profile in its order, each with what its requests need.
pub struct ProfileRoutes<R>(Vec<(Condition, R)>);

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

impl<R> Default for ProfileRoutes<R> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<R> ProfileRoutes<R> {
    /// Routes that say nothing or nonsense are left out, as upstream does.
    pub fn compile(profile: &DestinationProfile, mut make: impl FnMut(&wire::Route) -> R) -> Self {
        let all = profile.routes.iter();
        let some = all.filter_map(|route| Some((Condition::from_wire(route.condition.as_ref()?)?, make(route))));
        Self(some.collect())
    }

    pub fn find(&self, request: &RequestView<'_>) -> Option<&R> {
        self.0.iter().find(|(condition, _)| condition.matches(request)).map(|(_, route)| route)
    }

    pub fn iter(&self) -> impl Iterator<Item = &R> {
        self.0.iter().map(|(_, route)| route)
    }
}

/// `name:port` of a profile that was asked for with this port. None when it names no Service.
pub fn dst_of(profile: &DestinationProfile, port: u16) -> Option<String> {
    let name = profile.fully_qualified_name.trim_end_matches('.');
    (!name.is_empty()).then(|| format!("{name}:{port}"))
}

impl ProfileRule {
    /// budget: of the whole profile, for routes that are retryable.
    pub fn new(dst: &str, route: &wire::Route, budget: Option<BudgetSettings>) -> Self {
        let mut labels: Vec<_> = route.metrics_labels.iter().map(|(k, v)| (k.clone(), v.clone())).collect();
        labels.sort();
        let classes = route
            .response_classes
            .iter()
            .filter_map(|class| Some((StatusCondition::from_wire(class.condition.as_ref()?)?, class.is_failure)));
        Self { dst: dst.to_owned(), labels, classes: classes.collect(), budget: budget.filter(|_| route.is_retryable) }
    }

    /// The labels of the route's series. direction: `inbound` or `outbound`.
    pub fn series_labels(&self, direction: &str) -> Labels {
        let mut labels = Labels::default().with("direction", direction).with("dst", &self.dst);
        for (key, value) in &self.labels {
            labels.add_prefixed("rt", key, value);
        }
        labels
    }

    /// The first response class that fits decides; else the gRPC code if there is one, else the status.
    pub fn is_failure(&self, head: ResponseHead) -> bool {
        let by_class = self.classes.iter().find(|(condition, _)| condition.matches(head.status));
        by_class.map_or_else(|| head.is_failure(), |(_, is_failure)| *is_failure)
    }

    /// The outcome as this route sees it. An answer that did not come, or broke off, is a failure whatever a route says.
    pub fn classified(&self, outcome: Outcome) -> Outcome {
        let Some(status) = outcome.status.filter(|_| outcome.error.is_empty()) else { return outcome };
        let grpc_status = if outcome.is_grpc { outcome.grpc_status } else { None };
        let head = ResponseHead { status, is_grpc: outcome.is_grpc, grpc_status };
        Outcome { classified: Some(self.is_failure(head)), ..outcome }
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
mod tests {
    use super::*;

    fn failing(status: u32) -> wire::ResponseClass {
        let range = wire::HttpStatusRange { min: status, max: status };
        let condition = wire::ResponseMatch { r#match: Some(StatusMatch::Status(range)) };
        wire::ResponseClass { condition: Some(condition), is_failure: true }
    }

    #[test]
    fn a_route_classifies_whole_answers_and_none_that_broke_off() {
        let route = wire::Route { response_classes: vec![failing(404)], ..Default::default() };
        let rule = ProfileRule::new("web.shop:80", &route, None);
        let outcome = |status, error| {
            let outcome = Outcome { status, is_grpc: false, grpc_status: None, error, classified: None };
            rule.classified(outcome).classified
        };
        assert_eq!(outcome(Some(404), ""), Some(true));
        assert_eq!(outcome(Some(200), ""), Some(false));
        assert_eq!(outcome(Some(500), ""), Some(true));
        assert_eq!((outcome(Some(200), "timeout"), outcome(None, "")), (None, None));
    }

    #[test]
    fn series_are_labelled_with_the_name_asked_for_and_every_label_of_the_route() {
        let metrics_labels = [("route".to_owned(), "a".to_owned()), ("kind".to_owned(), "b".to_owned())].into();
        let rule = ProfileRule::new("web.shop:80", &wire::Route { metrics_labels, ..Default::default() }, None);
        assert_eq!(
            rule.series_labels("inbound").as_str(),
            r#"direction="inbound",dst="web.shop:80",rt_kind="b",rt_route="a""#
        );
    }

    #[test]
    fn a_profile_without_a_name_is_of_no_service() {
        let named = |name: &str| DestinationProfile { fully_qualified_name: name.to_owned(), ..Default::default() };
        assert_eq!(dst_of(&named("web.shop."), 81).as_deref(), Some("web.shop:81"));
        assert_eq!(dst_of(&named(""), 81), None);
    }
}
