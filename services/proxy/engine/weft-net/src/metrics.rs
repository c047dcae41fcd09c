//! Every family the sockets feed, registered once in exposition order, and the per-connection handles made from them.

use std::{sync::Arc, time::Duration};

use weft_core::{
    failure::Failure,
    metrics::{
        Counter, Family, Gauge, Histogram, HttpFamilies, InboundRouteFamilies, Kind, LATENCY_MS, Labels, Registry,
        RouteFamilies, RouteKind,
    },
    outbound::Carries,
    settings::ControlService,
};

use crate::{
    balancer_metrics::{BalancerFamilies, BalancerMetrics, ControlBalancerFamilies},
    discovery::Subject,
};

const DETECT_S: &[f64] = &[0.001, 0.1];

pub struct Metrics {
    pub registry: Registry,
    pub inbound_http_allow: Arc<Family<Counter>>,
    pub inbound_http_deny: Arc<Family<Counter>>,
    pub inbound_route_not_found: Arc<Family<Counter>>,
    pub inbound_ratelimit: Arc<Family<Counter>>,
    pub inbound_tcp_allow: Arc<Family<Counter>>,
    pub inbound_tcp_deny: Arc<Family<Counter>>,
    pub inbound_tcp_terminate: Arc<Family<Counter>>,
    inbound_http_errors: Arc<Family<Counter>>,
    pub inbound_tcp_errors: Arc<Family<Counter>>,
    outbound_http_errors: Arc<Family<Counter>>,
    pub outbound_tcp_errors: Arc<Family<Counter>>,
    pub http: Arc<HttpFamilies>,
    /// Of ServiceProfile routes: what their clients see, and each try.
    pub profile_routes: Arc<HttpFamilies>,
    pub profile_tries: Arc<HttpFamilies>,
    pub profile_retryable: Arc<Family<Counter>>,
    open: Arc<Family<Counter>>,
    open_now: Arc<Family<Gauge>>,
    read: Arc<Family<Counter>>,
    write: Arc<Family<Counter>>,
    close: Arc<Family<Counter>>,
    transfer_cost: Arc<Family<Counter>>,
    pub inbound_detect: Detect,
    pub outbound_detect: Detect,
    pub outbound_protocol: Arc<Family<Counter>>,
    pub transport_header: Arc<Family<Counter>>,
    pub outbound_route_open: Arc<Family<Counter>>,
    pub outbound_route_close: Arc<Family<Counter>>,
    pub outbound_tls_open: Arc<Family<Counter>>,
    pub outbound_tls_close: Arc<Family<Counter>>,
    pub inbound_http_routes: Arc<InboundRouteFamilies>,
    pub inbound_grpc_routes: Arc<InboundRouteFamilies>,
    pub http_routes: Arc<RouteFamilies>,
    pub grpc_routes: Arc<RouteFamilies>,
    http_balancers: BalancerFamilies,
    tcp_balancers: BalancerFamilies,
    tls_balancers: BalancerFamilies,
    control_balancers: ControlBalancerFamilies,
    /// By client address, so that clients which still lack a proxy can be found.
    pub unmeshed: Arc<Family<Counter>>,
    pub exchanges: Arc<Family<Counter>>,
    pub exchange_latency: Arc<Family<Histogram>>,
    pub dns: Arc<Family<Counter>>,
    pub tap_dropped: Arc<Family<Counter>>,
}

pub struct Detect {
    pub duration: Arc<Family<Histogram>>,
    pub results: Arc<Family<Counter>>,
}

impl Detect {
    pub fn record(&self, result: &str, elapsed: Duration, labels: &Labels) {
        self.duration.series(labels).observe(elapsed.as_secs_f64());
        self.results.series(&Labels::default().with("result", result).and(labels)).incr();
    }
}

impl Metrics {
    pub fn new() -> Self {
        let registry = Registry::default();
        let counter = |name, help| registry.family(name, help, Kind::Counter, Counter::default);
        let detect = |duration, results| Detect {
            duration: registry
                .family(duration, "Time taken for protocol detection.", Kind::Histogram, || Histogram::new(DETECT_S)),
            results: counter(results, "Protocol detection results."),
        };
        Self {
            inbound_http_allow: counter("inbound_http_authz_allow_total", "Inbound HTTP requests that were permitted."),
            inbound_http_deny: counter("inbound_http_authz_deny_total", "Inbound HTTP requests that were refused."),
            inbound_route_not_found: counter(
                "inbound_http_route_not_found_total",
                "Inbound HTTP requests that matched no route.",
            ),
            inbound_ratelimit: counter(
                "inbound_http_local_ratelimit_total",
                "Inbound HTTP requests refused by a local rate limit.",
            ),
            inbound_tcp_allow: counter("inbound_tcp_authz_allow_total", "Inbound TCP connections that were permitted."),
            inbound_tcp_deny: counter("inbound_tcp_authz_deny_total", "Inbound TCP connections that were refused."),
            inbound_tcp_terminate: counter(
                "inbound_tcp_authz_terminate_total",
                "Inbound TCP connections ended because the policy changed.",
            ),
            inbound_http_errors: counter("inbound_http_errors_total", "Inbound HTTP requests answered by the proxy."),
            inbound_tcp_errors: counter("inbound_tcp_errors_total", "Inbound TCP connections that failed."),
            outbound_http_errors: counter(
                "outbound_http_errors_total",
                "Outbound HTTP requests answered by the proxy.",
            ),
            outbound_tcp_errors: counter("outbound_tcp_errors_total", "Outbound TCP connections that failed."),
            http: HttpFamilies::new(&registry),
            profile_routes: HttpFamilies::of_routes(&registry),
            profile_tries: HttpFamilies::of_tries(&registry),
            profile_retryable: counter("route_retryable_total", "Requests of ServiceProfile routes that were retried."),
            open: counter("tcp_open_total", "Total count of opened connections."),
            open_now: registry.family("tcp_open_connections", "Connections now open.", Kind::Gauge, Gauge::default),
            read: counter("tcp_read_bytes_total", "Total bytes read from peers."),
            write: counter("tcp_write_bytes_total", "Total bytes written to peers."),
            close: counter("tcp_close_total", "Total count of closed connections."),
            transfer_cost: counter(
                "outbound_tcp_transfer_cost_bytes_total",
                "Bytes to and from endpoints, by whether they are in this proxy's zone.",
            ),
            inbound_detect: detect("inbound_tcp_detect_http_duration_seconds", "inbound_tcp_detect_http_results_total"),
            outbound_detect: detect(
                "outbound_tcp_detect_http_duration_seconds",
                "outbound_tcp_detect_http_results_total",
            ),
            outbound_protocol: counter(
                "outbound_tcp_protocol_connections_total",
                "Outbound connections by configured protocol.",
            ),
            transport_header: counter(
                "inbound_tcp_transport_header_connections_total",
                "Inbound connections that brought a transport header.",
            ),
            outbound_route_open: counter("outbound_tcp_route_open_total", "Connections dispatched to opaque routes."),
            outbound_route_close: counter("outbound_tcp_route_close_total", "Closed connections of opaque routes."),
            outbound_tls_open: counter("outbound_tls_route_open_total", "Connections dispatched to TLS routes."),
            outbound_tls_close: counter("outbound_tls_route_close_total", "Closed connections of TLS routes."),
            inbound_http_routes: InboundRouteFamilies::new(&registry, RouteKind::Http),
            inbound_grpc_routes: InboundRouteFamilies::new(&registry, RouteKind::Grpc),
            http_routes: RouteFamilies::new(&registry, RouteKind::Http),
            grpc_routes: RouteFamilies::new(&registry, RouteKind::Grpc),
            http_balancers: BalancerFamilies::new(&registry, Carries::Http),
            tcp_balancers: BalancerFamilies::new(&registry, Carries::Tcp),
            tls_balancers: BalancerFamilies::new(&registry, Carries::Tls),
            control_balancers: ControlBalancerFamilies::new(&registry),
            unmeshed: counter(
                "weft_inbound_unmeshed_total",
                "Requests, and connections of opaque bytes, that were permitted without mesh TLS.",
            ),
            exchanges: counter(
                "weft_tcp_exchanges_total",
                "Bursts of opaque bytes from a client, by whether the server answered.",
            ),
            exchange_latency: registry.family(
                "weft_tcp_exchange_latency_ms",
                "Time from a burst's first byte to the answer's first byte.",
                Kind::Histogram,
                || Histogram::new(LATENCY_MS),
            ),
            dns: counter("control_dns_resolutions_total", "Lookups of control-plane names."),
            tap_dropped: counter("weft_tap_events_dropped_total", "Events that tap clients were too slow for."),
            registry,
        }
    }

    pub fn transport(&self, labels: &Labels) -> Arc<TransportMetrics> {
        Arc::new(self.transport_series(labels, None))
    }

    /// Of connections to an endpoint, whose bytes also count for its zone. locality: `Local`, `Remote` or `Unknown`.
    pub fn transport_to_zone(&self, labels: &Labels, locality: &str) -> Arc<TransportMetrics> {
        let cost = |op| self.transfer_cost.series(&Labels::default().with("op", op).with("zone_locality", locality));
        Arc::new(self.transport_series(labels, Some(TransferCost { received: cost("Recv"), sent: cost("Send") })))
    }

    fn transport_series(&self, labels: &Labels, cost: Option<TransferCost>) -> TransportMetrics {
        TransportMetrics {
            open: self.open.series(labels),
            open_now: self.open_now.series(labels),
            read: self.read.series(labels),
            write: self.write.series(labels),
            close: self.close.clone(),
            labels: labels.clone(),
            cost,
        }
    }

    /// The series of a balancer, made when it is.
    pub fn balancer(&self, subject: &Subject, failfast: Duration) -> BalancerMetrics {
        let families = match subject.carries {
            Carries::Http => &self.http_balancers,
            Carries::Tcp => &self.tcp_balancers,
            Carries::Tls => &self.tls_balancers,
        };
        families.balancer(subject, failfast)
    }

    /// Of the connections to a service of the control plane. failfast: how long one may take.
    pub fn control_balancer(&self, service: &ControlService, failfast: Duration) -> BalancerMetrics {
        self.control_balancers.balancer(service, failfast)
    }

    pub fn inbound_failure(&self, failure: &Failure, labels: &Labels) {
        if let Some(error) = failure.metric_label() {
            self.inbound_http_errors.series(&Labels::default().with("error", error).and(labels)).incr();
        }
    }

    pub fn outbound_failure(&self, failure: &Failure) {
        if let Some(error) = failure.metric_label() {
            self.outbound_http_errors.series(&Labels::default().with("error", error)).incr();
        }
    }
}

/// The series of one kind of connection, shared by all of that kind.
pub struct TransportMetrics {
    open: Arc<Counter>,
    open_now: Arc<Gauge>,
    read: Arc<Counter>,
    write: Arc<Counter>,
    close: Arc<Family<Counter>>,
    labels: Labels,
    cost: Option<TransferCost>,
}

/// Bytes to and from one zone.
struct TransferCost {
    received: Arc<Counter>,
    sent: Arc<Counter>,
}

impl TransportMetrics {
    pub fn opened(&self) {
        self.open.incr();
        self.open_now.add(1);
    }

    pub fn has_read(&self, bytes: usize) {
        self.read.add(bytes as u64);
        if let Some(cost) = &self.cost {
            cost.received.add(bytes as u64);
        }
    }

    pub fn has_written(&self, bytes: usize) {
        self.write.add(bytes as u64);
        if let Some(cost) = &self.cost {
            cost.sent.add(bytes as u64);
        }
    }

    /// errno: empty on a clean close.
    pub fn closed(&self, errno: &str) {
        self.open_now.add(-1);
        self.close.series(&self.labels.clone().with("errno", errno)).incr();
    }
}
