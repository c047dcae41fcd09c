//! The legacy HTTP families (observability.md 1.3, 1.4): what they are labelled with and how an outcome is classified.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use arc_swap::ArcSwap;

use super::{Counter, Family, Histogram, Kind, LATENCY_MS, Labels, Registry};

pub struct HttpFamilies {
    requests: Arc<Family<Counter>>,
    responses: Arc<Family<Counter>>,
    latency: Option<Arc<Family<Histogram>>>,
}

/// How a response ended; selects the series that counts it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// None when no response came.
    pub status: Option<u16>,
    pub is_grpc: bool,
    /// None when the stream carried no grpc-status.
    pub grpc_status: Option<u8>,
    /// Empty, `timeout`, `h2(REASON)` or `unclassified`.
    pub error: &'static str,
    /// What a ServiceProfile says of it, which goes before everything else.
    pub classified: Option<bool>,
}

impl Outcome {
    /// gRPC codes 2, 4, 7, 13, 14 and 15 are failures; elsewhere a status of 500 or more, or none at all.
    pub fn is_failure(&self) -> bool {
        if let Some(is_failure) = self.classified {
            return is_failure;
        }
        if !self.error.is_empty() {
            return true;
        }
        match (self.is_grpc, self.grpc_status) {
            (true, Some(code)) => matches!(code, 2 | 4 | 7 | 13 | 14 | 15),
            _ => self.status.is_none_or(|status| status >= 500),
        }
    }

    fn labels(&self, labels: &mut Labels) {
        if let Some(status) = self.status {
            labels.add("status_code", itoa::Buffer::new().format(status));
        }
        labels.add("classification", if self.is_failure() { "failure" } else { "success" });
        let grpc = match (self.is_grpc, self.grpc_status) {
            (true, Some(code)) => code.to_string(),
            // Counted as a success, and still reported as UNKNOWN: what dashboards built for the original expect.
            (true, None) => "2".to_owned(),
            (false, _) => String::new(),
        };
        labels.add("grpc_status", &grpc);
        labels.add("error", self.error);
    }
}

impl HttpFamilies {
    /// Of endpoints and of clients.
    pub fn new(registry: &Registry) -> Arc<Self> {
        Self::named(registry, "request_total", Some("response_latency_ms"), "response_total")
    }

    /// Of ServiceProfile routes, above retries.
    pub fn of_routes(registry: &Registry) -> Arc<Self> {
        Self::named(registry, "route_request_total", Some("route_response_latency_ms"), "route_response_total")
    }

    /// Of ServiceProfile routes, each try counted.
    pub fn of_tries(registry: &Registry) -> Arc<Self> {
        Self::named(registry, "route_actual_request_total", None, "route_actual_response_total")
    }

    fn named(
        registry: &Registry,
        requests: &'static str,
        latency: Option<&'static str>,
        responses: &'static str,
    ) -> Arc<Self> {
        let counter = |name, help| registry.family(name, help, Kind::Counter, Counter::default);
        Arc::new(Self {
            requests: counter(requests, "Total count of HTTP requests."),
            latency: latency.map(|latency| {
                registry.family(
                    latency,
                    "Elapsed times between a request's headers being received and its response stream completing",
                    Kind::Histogram,
                    || Histogram::new(LATENCY_MS),
                )
            }),
            responses: counter(responses, "Total count of HTTP responses."),
        })
    }

    pub fn metrics(self: &Arc<Self>, labels: Labels) -> Arc<HttpMetrics> {
        Arc::new(HttpMetrics {
            requests: self.requests.series(&labels),
            labels,
            responses: ArcSwap::default(),
            latencies: ArcSwap::default(),
            families: Arc::downgrade(self),
        })
    }
}

pub(super) type Known<K, M> = ArcSwap<Vec<(K, Arc<M>)>>;

/// Resolved series of one label set. A status seen before costs a short scan and no lock.
pub struct HttpMetrics {
    pub requests: Arc<Counter>,
    labels: Labels,
    responses: Known<Outcome, Counter>,
    latencies: Known<Option<u16>, Histogram>,
    families: Weak<HttpFamilies>,
}

impl HttpMetrics {
    /// A request whose connection failed: counted as the answer the proxy gave.
    pub fn failed(&self, status: u16, elapsed: Duration) {
        self.latency(Some(status), elapsed);
        self.response(Outcome { status: Some(status), is_grpc: false, grpc_status: None, error: "", classified: None });
    }

    pub fn response(&self, outcome: Outcome) {
        if let Some((_, counter)) = self.responses.load().iter().find(|(known, _)| *known == outcome) {
            return counter.incr();
        }
        let Some(families) = self.families.upgrade() else {
            return;
        };
        let mut labels = self.labels.clone();
        outcome.labels(&mut labels);
        let counter = families.responses.series(&labels);
        counter.incr();
        remember(&self.responses, outcome, counter);
    }

    /// Whole milliseconds, as the original truncates them.
    pub fn latency(&self, status: Option<u16>, elapsed: Duration) {
        let value = elapsed.as_millis() as f64;
        if let Some((_, histogram)) = self.latencies.load().iter().find(|(known, _)| *known == status) {
            return histogram.observe(value);
        }
        let families = self.families.upgrade();
        let Some(family) = families.as_ref().and_then(|families| families.latency.as_ref()) else {
            return;
        };
        let mut labels = self.labels.clone();
        if let Some(status) = status {
            labels.add("status_code", itoa::Buffer::new().format(status));
        }
        let histogram = family.series(&labels);
        histogram.observe(value);
        remember(&self.latencies, status, histogram);
    }
}

pub(super) fn remember<K: Copy + PartialEq, M>(known: &Known<K, M>, key: K, metric: Arc<M>) {
    known.rcu(|list| {
        let mut list = Vec::clone(list);
        if !list.iter().any(|(seen, _)| *seen == key) {
            list.push((key, metric.clone()));
        }
        list
    });
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    fn outcome(status: u16, grpc_status: Option<u8>, is_grpc: bool) -> Outcome {
        Outcome { status: Some(status), is_grpc, grpc_status, error: "", classified: None }
    }

    #[test]
    fn failures_are_5xx_or_the_six_grpc_codes() {
        assert!(outcome(500, None, false).is_failure());
        assert!(!outcome(404, None, false).is_failure());
        for code in 0..=16 {
            let failed = matches!(code, 2 | 4 | 7 | 13 | 14 | 15);
            assert_eq!(outcome(200, Some(code), true).is_failure(), failed, "{code}");
        }
        assert!(!outcome(200, None, true).is_failure());
        assert!(Outcome { error: "unclassified", ..outcome(200, None, false) }.is_failure());
    }

    #[test]
    fn exposition_names_status_and_class() {
        let registry = Registry::default();
        let families = HttpFamilies::new(&registry);
        let metrics = families.metrics(Labels::default().with("direction", "inbound"));
        metrics.requests.incr();
        metrics.response(outcome(200, None, true));
        metrics.response(outcome(200, None, true));
        metrics.latency(Some(200), Duration::from_micros(2_900));
        let text = registry.expose(Instant::now(), Duration::from_secs(60));
        assert!(text.contains("request_total{direction=\"inbound\"} 1\n"), "{text}");
        assert!(text.contains(
            "response_total{direction=\"inbound\",status_code=\"200\",classification=\"success\",grpc_status=\"2\",error=\"\"} 2\n"
        ));
        assert!(text.contains("response_latency_ms_bucket{direction=\"inbound\",status_code=\"200\",le=\"2\"} 1\n"));
        assert!(text.contains("response_latency_ms_bucket{direction=\"inbound\",status_code=\"200\",le=\"1\"} 0\n"));
    }
}
