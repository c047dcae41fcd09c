//! The registry families of outbound policy routes (observability.md 1.6): the whole as its client sees it, and each try.

use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use super::{
    Counter, Family, Histogram, Kind, Labels, Registry,
    http::{Known, remember},
};

pub(super) const FRAME_BYTES: &[f64] = &[128.0, 1024.0, 10240.0];
pub(super) const REQUEST_S: &[f64] = &[0.05, 0.5, 1.0, 10.0];
pub(super) const RESPONSE_S: &[f64] = &[0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 10.0];

const GRPC_NAMES: [&str; 17] = [
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
];

/// Which of the two sets of families a route belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RouteKind {
    Http,
    Grpc,
}

/// How an exchange ended; selects the series that counts it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RouteOutcome {
    /// None when no response came.
    pub http_status: Option<u16>,
    /// None when none was seen.
    pub grpc_status: Option<u8>,
    /// Empty, or one of the reasons of observability.md 1.6.
    pub error: &'static str,
}

impl RouteOutcome {
    fn labels(&self, kind: RouteKind, labels: &mut Labels) {
        match (kind, self.http_status) {
            (RouteKind::Http, Some(status)) => labels.add("http_status", itoa::Buffer::new().format(status)),
            (RouteKind::Http, None) => labels.add("http_status", ""),
            (RouteKind::Grpc, Some(_)) => {
                let name = GRPC_NAMES.get(usize::from(self.grpc_status.unwrap_or(2)));
                labels.add("grpc_status", name.unwrap_or(&"UNKNOWN"));
            }
            (RouteKind::Grpc, None) => labels.add("grpc_status", ""),
        }
        labels.add("error", self.error);
    }
}

pub struct RouteFamilies {
    kind: RouteKind,
    request_duration: Arc<Family<Histogram>>,
    request_statuses: Arc<Family<Counter>>,
    request_frames: Arc<Family<Histogram>>,
    backend_requests: Arc<Family<Counter>>,
    response_duration: Arc<Family<Histogram>>,
    response_statuses: Arc<Family<Counter>>,
    response_frames: Arc<Family<Histogram>>,
    retry_requests: Arc<Family<Counter>>,
    retry_successes: Arc<Family<Counter>>,
    retry_limit_exceeded: Arc<Family<Counter>>,
    retry_overflow: Arc<Family<Counter>>,
}

macro_rules! families {
    ($registry:expr, $kind:expr, $prefix:literal) => {{
        let registry: &Registry = $registry;
        let counter = |name, help| registry.family(name, help, Kind::Counter, Counter::default);
        let sizes = |name, help| registry.family(name, help, Kind::Histogram, || Histogram::new(FRAME_BYTES));
        Arc::new(RouteFamilies {
            kind: $kind,
            request_duration: registry.family(
                concat!($prefix, "_request_duration_seconds"),
                "Time from a request's arrival to the end of its response.",
                Kind::Histogram,
                || Histogram::new(REQUEST_S),
            ),
            request_statuses: counter(concat!($prefix, "_request_statuses_total"), "Completed requests by outcome."),
            request_frames: sizes(concat!($prefix, "_request_frame_size_bytes"), "Sizes of request data frames."),
            backend_requests: counter(concat!($prefix, "_backend_requests_total"), "Requests dispatched to a backend."),
            response_duration: registry.family(
                concat!($prefix, "_backend_response_duration_seconds"),
                "Time from a request being sent to the end of its response.",
                Kind::Histogram,
                || Histogram::new(RESPONSE_S),
            ),
            response_statuses: counter(
                concat!($prefix, "_backend_response_statuses_total"),
                "Completed responses of a backend by outcome.",
            ),
            response_frames: sizes(
                concat!($prefix, "_backend_response_frame_size_bytes"),
                "Sizes of response data frames.",
            ),
            retry_requests: counter(concat!($prefix, "_retry_requests_total"), "Retries sent."),
            retry_successes: counter(concat!($prefix, "_retry_successes_total"), "Retries that succeeded."),
            retry_limit_exceeded: counter(
                concat!($prefix, "_retry_limit_exceeded_total"),
                "Requests that failed when their retries were used up.",
            ),
            retry_overflow: counter(
                concat!($prefix, "_retry_overflow_total"),
                "Retries that no backend was ready for.",
            ),
        })
    }};
}

impl RouteFamilies {
    pub fn new(registry: &Registry, kind: RouteKind) -> Arc<Self> {
        match kind {
            RouteKind::Http => families!(registry, kind, "outbound_http_route"),
            RouteKind::Grpc => families!(registry, kind, "outbound_grpc_route"),
        }
    }

    /// labels: PARENT, ROUTE and `hostname`.
    pub fn route(self: &Arc<Self>, labels: Labels) -> Arc<RouteSeries> {
        Arc::new(RouteSeries {
            duration: self.request_duration.series(&labels),
            frames: self.request_frames.series(&labels),
            statuses: Known::default(),
            retries: OnceLock::new(),
            families: self.clone(),
            labels,
        })
    }

    /// labels: PARENT, ROUTE and BACKEND.
    pub fn backend(self: &Arc<Self>, labels: Labels) -> Arc<BackendSeries> {
        Arc::new(BackendSeries {
            requests: self.backend_requests.series(&labels),
            duration: self.response_duration.series(&labels),
            frames: self.response_frames.series(&labels),
            statuses: Known::default(),
            families: self.clone(),
            labels,
        })
    }
}

/// What a route's clients see, over all tries.
pub struct RouteSeries {
    duration: Arc<Histogram>,
    pub frames: Arc<Histogram>,
    statuses: Known<RouteOutcome, Counter>,
    retries: OnceLock<RetrySeries>,
    families: Arc<RouteFamilies>,
    labels: Labels,
}

pub struct RetrySeries {
    pub requests: Arc<Counter>,
    pub successes: Arc<Counter>,
    pub limit_exceeded: Arc<Counter>,
    pub overflow: Arc<Counter>,
}

impl RouteSeries {
    pub fn ended(&self, outcome: RouteOutcome, elapsed: Duration) {
        self.duration.observe(elapsed.as_secs_f64());
        count(&self.statuses, outcome, &self.families.request_statuses, self.families.kind, &self.labels);
    }

    /// Made when first needed: most routes never retry.
    pub fn retries(&self) -> &RetrySeries {
        self.retries.get_or_init(|| RetrySeries {
            requests: self.families.retry_requests.series(&self.labels),
            successes: self.families.retry_successes.series(&self.labels),
            limit_exceeded: self.families.retry_limit_exceeded.series(&self.labels),
            overflow: self.families.retry_overflow.series(&self.labels),
        })
    }
}

/// Each try that a route sends to one of its backends.
pub struct BackendSeries {
    pub requests: Arc<Counter>,
    duration: Arc<Histogram>,
    pub frames: Arc<Histogram>,
    statuses: Known<RouteOutcome, Counter>,
    families: Arc<RouteFamilies>,
    labels: Labels,
}

impl BackendSeries {
    /// elapsed: since the request was sent.
    pub fn ended(&self, outcome: RouteOutcome, elapsed: Duration) {
        self.duration.observe(elapsed.as_secs_f64());
        count(&self.statuses, outcome, &self.families.response_statuses, self.families.kind, &self.labels);
    }
}

fn count(
    known: &Known<RouteOutcome, Counter>,
    outcome: RouteOutcome,
    family: &Family<Counter>,
    kind: RouteKind,
    labels: &Labels,
) {
    if let Some((_, counter)) = known.load().iter().find(|(seen, _)| *seen == outcome) {
        return counter.incr();
    }
    let mut labels = labels.clone();
    outcome.labels(kind, &mut labels);
    let counter = family.series(&labels);
    counter.incr();
    remember(known, outcome, counter);
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    fn exposed(kind: RouteKind, outcome: RouteOutcome) -> String {
        let registry = Registry::default();
        let families = RouteFamilies::new(&registry, kind);
        let route = families.route(Labels::default().with("parent_name", "p"));
        route.ended(outcome, Duration::from_millis(60));
        route.ended(outcome, Duration::from_millis(60));
        registry.expose(Instant::now(), Duration::from_secs(60))
    }

    #[test]
    fn http_routes_count_by_status_and_error() {
        let outcome = RouteOutcome { http_status: Some(200), grpc_status: None, error: "CANCEL" };
        let text = exposed(RouteKind::Http, outcome);
        let line =
            "outbound_http_route_request_statuses_total{parent_name=\"p\",http_status=\"200\",error=\"CANCEL\"} 2\n";
        assert!(text.contains(line), "{text}");
        assert!(
            text.contains("outbound_http_route_request_duration_seconds_bucket{parent_name=\"p\",le=\"0.05\"} 0\n")
        );
        assert!(text.contains("outbound_http_route_request_duration_seconds_bucket{parent_name=\"p\",le=\"0.5\"} 2\n"));
        assert!(!text.contains("retry"), "a route that never retries has no series for it");
    }

    #[test]
    fn grpc_routes_count_by_name_and_a_missing_status_is_unknown() {
        let outcome = |grpc_status| RouteOutcome { http_status: Some(200), grpc_status, error: "" };
        assert!(exposed(RouteKind::Grpc, outcome(Some(14))).contains("grpc_status=\"UNAVAILABLE\",error=\"\"} 2"));
        assert!(exposed(RouteKind::Grpc, outcome(None)).contains("grpc_status=\"UNKNOWN\",error=\"\"} 2"));
        let failed = RouteOutcome { http_status: None, grpc_status: None, error: "FAIL_FAST" };
        assert!(exposed(RouteKind::Grpc, failed).contains("grpc_status=\"\",error=\"FAIL_FAST\"} 2"));
    }
}
