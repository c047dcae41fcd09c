//! The families of balancers, their queues and their gates (observability.md 1.9).

use std::{
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use weft_core::{
    metrics::{Counter, Family, Gauge, Histogram, Kind, Labels, Registry},
    outbound::Carries,
    settings::ControlService,
};

use crate::discovery::Subject;

const LATENCY_S: &[f64] = &[0.0005, 0.005, 0.05, 0.5, 1.0, 3.0];

pub struct BalancerFamilies {
    endpoints: Arc<Family<Gauge>>,
    known: Arc<Family<Gauge>>,
    updates: Arc<Family<Counter>>,
    length: Arc<Family<Gauge>>,
    requests: Arc<Family<Counter>>,
    latency: Arc<Family<Histogram>>,
    open: Arc<Family<Counter>>,
    shut: Arc<Family<Counter>>,
    open_time: Arc<Family<Gauge>>,
    shut_time: Arc<Family<Gauge>>,
    timeout: Arc<Family<Gauge>>,
}

macro_rules! families {
    ($registry:expr, $prefix:literal) => {{
        let registry: &Registry = $registry;
        let counter = |name, help| registry.family(name, help, Kind::Counter, Counter::default);
        let gauge = |name, help| registry.family(name, help, Kind::Gauge, Gauge::default);
        BalancerFamilies {
            endpoints: gauge(concat!($prefix, "_endpoints"), "Endpoints by state."),
            known: gauge(concat!($prefix, "_p2c_endpoints"), "Endpoints known to the balancer."),
            updates: counter(concat!($prefix, "_p2c_updates_total"), "Changes of the set of endpoints."),
            length: gauge(concat!($prefix, "_queue_length"), "Requests waiting for an endpoint."),
            requests: counter(concat!($prefix, "_queue_requests_total"), "Requests enqueued."),
            latency: registry.family(
                concat!($prefix, "_queue_latency_seconds"),
                "Time that requests waited for an endpoint.",
                Kind::Histogram,
                || Histogram::new(LATENCY_S),
            ),
            open: counter(concat!($prefix, "_queue_gate_open_total"), "Times the gate opened."),
            shut: counter(concat!($prefix, "_queue_gate_shut_total"), "Times the gate shut."),
            open_time: gauge(concat!($prefix, "_queue_gate_open_time_seconds"), "When the gate opened, 0 while shut."),
            shut_time: gauge(concat!($prefix, "_queue_gate_shut_time_seconds"), "When the gate shut, 0 while open."),
            timeout: gauge(
                concat!($prefix, "_queue_gate_timeout_seconds"),
                "How long nothing is ready before it shuts.",
            ),
        }
    }};
}

impl BalancerFamilies {
    pub fn new(registry: &Registry, carries: Carries) -> Self {
        match carries {
            Carries::Http => families!(registry, "outbound_http_balancer"),
            Carries::Tcp => families!(registry, "outbound_tcp_balancer"),
            Carries::Tls => families!(registry, "outbound_tls_balancer"),
        }
    }

    pub fn balancer(&self, subject: &Subject, failfast: Duration) -> BalancerMetrics {
        let path = &subject.balancing.path;
        let mut labels = Labels::default();
        if subject.carries != Carries::Tls {
            subject.parent.full_labels("parent", &mut labels);
            subject.backend.full_labels("backend", &mut labels);
        }
        match subject.carries {
            Carries::Http => {}
            Carries::Tcp => {
                labels.add("logical", path);
                labels.add("concrete", path);
            }
            Carries::Tls => labels.add("concrete", path),
        }
        self.series(&labels, failfast)
    }

    fn series(&self, labels: &Labels, failfast: Duration) -> BalancerMetrics {
        let state = |state| self.endpoints.series(&Labels::default().with("endpoint_state", state).and(labels));
        let op = |op| self.updates.series(&Labels::default().with("op", op).and(labels));
        let metrics = BalancerMetrics {
            ready: state("ready"),
            pending: state("pending"),
            known: self.known.series(labels),
            resets: op("Reset"),
            adds: op("Add"),
            removes: op("Remove"),
            length: self.length.series(labels),
            requests: self.requests.series(labels),
            latency: self.latency.series(labels),
            open: self.open.series(labels),
            shut: self.shut.series(labels),
            open_time: self.open_time.series(labels),
            shut_time: self.shut_time.series(labels),
            _timeout: self.timeout.series(labels),
        };
        metrics._timeout.set(failfast.as_secs() as i64);
        metrics.gate(true);
        metrics
    }
}

/// Of the services of the control plane, each with families of its own.
pub struct ControlBalancerFamilies {
    identity: BalancerFamilies,
    destination: BalancerFamilies,
    policy: BalancerFamilies,
    trace_collector: BalancerFamilies,
}

impl ControlBalancerFamilies {
    pub fn new(registry: &Registry) -> Self {
        Self {
            identity: families!(registry, "control_identity_balancer"),
            destination: families!(registry, "control_destination_balancer"),
            policy: families!(registry, "control_policy_balancer"),
            trace_collector: families!(registry, "opentelemetry_balancer"),
        }
    }

    pub fn balancer(&self, service: &ControlService, failfast: Duration) -> BalancerMetrics {
        let families = match service.name.as_str() {
            "identity" => &self.identity,
            "destination" => &self.destination,
            "policy" => &self.policy,
            _ => &self.trace_collector,
        };
        let labels = Labels::default().with("addr", &format!("{}:{}", service.host, service.port));
        families.series(&labels, failfast)
    }
}

/// The series of one balancer. Two that differ only in how they accrue failures share them.
pub struct BalancerMetrics {
    ready: Arc<Gauge>,
    pending: Arc<Gauge>,
    known: Arc<Gauge>,
    resets: Arc<Counter>,
    adds: Arc<Counter>,
    removes: Arc<Counter>,
    length: Arc<Gauge>,
    requests: Arc<Counter>,
    latency: Arc<Histogram>,
    open: Arc<Counter>,
    shut: Arc<Counter>,
    open_time: Arc<Gauge>,
    shut_time: Arc<Gauge>,
    /// Held so that it is exported.
    _timeout: Arc<Gauge>,
}

/// How a set of endpoints changed.
pub struct Change {
    /// The set started over.
    pub replaces: bool,
    pub added: usize,
    pub removed: usize,
}

impl BalancerMetrics {
    pub fn endpoints(&self, ready: usize, all: usize) {
        self.ready.set(ready as i64);
        self.pending.set((all - ready) as i64);
        self.known.set(all as i64);
    }

    pub fn updated(&self, change: Change) {
        if change.replaces {
            return self.resets.incr();
        }
        self.adds.add(change.added as u64);
        self.removes.add(change.removed as u64);
    }

    /// A request found an endpoint without waiting.
    pub fn passed(&self) {
        self.requests.incr();
        self.latency.observe(0.0);
    }

    pub fn queued(&self) -> Queued<'_> {
        self.requests.incr();
        self.length.add(1);
        Queued { metrics: self, since: Instant::now() }
    }

    pub fn gate(&self, is_open: bool) {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs() as i64;
        let (counter, open, shut) = if is_open { (&self.open, now, 0) } else { (&self.shut, 0, now) };
        counter.incr();
        self.open_time.set(open);
        self.shut_time.set(shut);
    }
}

/// A request that waits.
pub struct Queued<'a> {
    metrics: &'a BalancerMetrics,
    since: Instant,
}

impl Queued<'_> {
    pub fn passed(self) {
        self.metrics.latency.observe(self.since.elapsed().as_secs_f64());
    }
}

impl Drop for Queued<'_> {
    fn drop(&mut self) {
        self.metrics.length.add(-1);
    }
}
