//! The registry families of inbound routes (observability.md 1.5): permitted requests, by server and route.

use std::{sync::Arc, time::Duration};

use super::{
    Counter, Family, Histogram, Kind, Labels, Registry, RouteKind, RouteOutcome,
    http::{Known, remember},
    route::{FRAME_BYTES, REQUEST_S, RESPONSE_S},
};

pub struct InboundRouteFamilies {
    kind: RouteKind,
    requests: Arc<Family<Counter>>,
    request_frames: Arc<Family<Histogram>>,
    response_frames: Arc<Family<Histogram>>,
    request_duration: Arc<Family<Histogram>>,
    response_duration: Arc<Family<Histogram>>,
    statuses: Arc<Family<Counter>>,
}

macro_rules! families {
    ($registry:expr, $kind:expr, $prefix:literal) => {{
        let registry: &Registry = $registry;
        let counter = |name, help| registry.family(name, help, Kind::Counter, Counter::default);
        let histogram = |name, help, make| registry.family(name, help, Kind::Histogram, make);
        Arc::new(InboundRouteFamilies {
            kind: $kind,
            requests: counter(concat!($prefix, "_requests_total"), "Requests that an inbound route permitted."),
            request_frames: histogram(
                concat!($prefix, "_request_frame_size_bytes"),
                "Sizes of request data frames.",
                || Histogram::new(FRAME_BYTES),
            ),
            response_frames: histogram(
                concat!($prefix, "_response_frame_size_bytes"),
                "Sizes of response data frames.",
                || Histogram::new(FRAME_BYTES),
            ),
            // The whole exchange has the finer buckets here, the other way round than outbound.
            request_duration: histogram(
                concat!($prefix, "_request_duration_seconds"),
                "Time from a request's arrival to the end of its response.",
                || Histogram::new(RESPONSE_S),
            ),
            response_duration: histogram(
                concat!($prefix, "_response_duration_seconds"),
                "Time from the end of a request to the end of its response.",
                || Histogram::new(REQUEST_S),
            ),
            statuses: counter(concat!($prefix, "_statuses_total"), "Completed requests by status."),
        })
    }};
}

impl InboundRouteFamilies {
    pub fn new(registry: &Registry, kind: RouteKind) -> Arc<Self> {
        match kind {
            RouteKind::Http => families!(registry, kind, "inbound_http"),
            RouteKind::Grpc => families!(registry, kind, "inbound_grpc"),
        }
    }

    /// labels: PARENT_IN.
    pub fn series(self: &Arc<Self>, labels: Labels) -> Arc<InboundRouteSeries> {
        Arc::new(InboundRouteSeries {
            requests: self.requests.series(&labels),
            request_frames: self.request_frames.series(&labels),
            response_frames: self.response_frames.series(&labels),
            request_duration: self.request_duration.series(&labels),
            response_duration: self.response_duration.series(&labels),
            statuses: Known::default(),
            families: self.clone(),
            labels,
        })
    }
}

/// Of one route of one server.
pub struct InboundRouteSeries {
    pub requests: Arc<Counter>,
    pub request_frames: Arc<Histogram>,
    pub response_frames: Arc<Histogram>,
    request_duration: Arc<Histogram>,
    response_duration: Arc<Histogram>,
    /// By status; None where there was none.
    statuses: Known<Option<u16>, Counter>,
    families: Arc<InboundRouteFamilies>,
    labels: Labels,
}

impl InboundRouteSeries {
    /// whole: since the request arrived. answer: since it was sent whole, zero if it never was.
    pub fn ended(&self, outcome: RouteOutcome, whole: Duration, answer: Duration) {
        self.request_duration.observe(whole.as_secs_f64());
        self.response_duration.observe(answer.as_secs_f64());
        let status = match self.families.kind {
            RouteKind::Http => outcome.http_status,
            RouteKind::Grpc => outcome.grpc_status.map(u16::from),
        };
        if let Some((_, counter)) = self.statuses.load().iter().find(|(seen, _)| *seen == status) {
            return counter.incr();
        }
        let text = status.map(|status| status.to_string()).unwrap_or_default();
        let counter = self.families.statuses.series(&self.labels.clone().with("status", &text));
        counter.incr();
        remember(&self.statuses, status, counter);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    fn exposed(kind: RouteKind, outcome: RouteOutcome) -> String {
        let registry = Registry::default();
        let series = InboundRouteFamilies::new(&registry, kind).series(Labels::default().with("parent_name", "p"));
        series.requests.incr();
        series.ended(outcome, Duration::from_millis(60), Duration::from_millis(20));
        registry.expose(Instant::now(), Duration::from_secs(60))
    }

    #[test]
    fn http_routes_count_by_status_and_time_both_spans() {
        let text = exposed(RouteKind::Http, RouteOutcome { http_status: Some(204), grpc_status: None, error: "" });
        for line in [
            "inbound_http_requests_total{parent_name=\"p\"} 1\n",
            "inbound_http_statuses_total{parent_name=\"p\",status=\"204\"} 1\n",
            "inbound_http_request_duration_seconds_bucket{parent_name=\"p\",le=\"0.05\"} 0\n",
            "inbound_http_request_duration_seconds_bucket{parent_name=\"p\",le=\"0.1\"} 1\n",
            "inbound_http_response_duration_seconds_bucket{parent_name=\"p\",le=\"0.05\"} 1\n",
        ] {
            assert!(text.contains(line), "{line}{text}");
        }
    }

    #[test]
    fn grpc_routes_count_by_number_and_an_absent_status_is_empty() {
        let outcome = RouteOutcome { http_status: Some(200), grpc_status: Some(14), error: "" };
        assert!(
            exposed(RouteKind::Grpc, outcome)
                .contains("inbound_grpc_statuses_total{parent_name=\"p\",status=\"14\"} 1")
        );
        let none = RouteOutcome { http_status: None, grpc_status: None, error: "IO" };
        assert!(exposed(RouteKind::Grpc, none).contains("status=\"\"} 1"));
    }
}
