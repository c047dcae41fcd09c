//! What waits for the bodies of one exchange: counts, the endpoint's load and breaker, the connection to give back.
//! Knows the moments (first frame, data, end), not where the frames come from.

use std::{sync::Arc, time::Instant};

use http::HeaderMap;
use weft_core::{
    breaker::Class,
    failure::Failure,
    headers::grpc_status,
    metrics::{BackendSeries, Histogram, HttpMetrics, InboundRouteSeries, Outcome, RouteOutcome},
    profile::ProfileRule,
};

use crate::{
    body::BodyError,
    client::Reusable,
    deadlines::{Deadlines, Watched},
    endpoint::{Pending, Verdict},
    profiles::ProfileRoute,
    record::Record,
    routing::RouteWatch,
};

/// What waits for a request's body.
pub struct RequestWatch {
    /// Counts the request when its body is first polled.
    pub count: Option<Arc<HttpMetrics>>,
    pub frames: Option<Arc<Histogram>>,
    /// Told when data moves, and when all is sent.
    pub watched: Option<Arc<Watched>>,
}

/// What waits for a response's body.
pub struct ResponseWatch {
    pub metrics: Arc<HttpMetrics>,
    pub started: Instant,
    pub status: u16,
    pub is_grpc: bool,
    pub grpc_status: Option<u8>,
    /// A broken gRPC body ends in trailers when the client speaks HTTP/2.
    pub fails_with_trailers: bool,
    /// Outstanding work of the endpoint, until the first body frame.
    pub pending: Option<Pending>,
    /// An HTTP/1 connection to give back once the body has ended.
    pub reusable: Option<Reusable>,
    /// Boxed together: only outbound responses have them.
    pub outbound: Option<Box<OutboundWatch>>,
    /// Of the ServiceProfile route that says what a failure is.
    pub rule: Option<Arc<ProfileRule>>,
    /// Of the inbound route, once per permitted request.
    pub inbound: Option<InboundWatch>,
    /// Once this is the answer that the client gets.
    pub record: Option<Box<Record>>,
    /// Of the response's body so far.
    pub bytes: u64,
    pub latency_done: bool,
    pub ended: bool,
}

/// What an outbound response's body reports to besides.
pub struct OutboundWatch {
    pub verdict: Verdict,
    pub backend: Option<Arc<BackendSeries>>,
    pub sent: Sent,
    /// Of the route, once this is the answer that its client gets.
    pub route: Option<RouteWatch>,
    pub deadlines: Option<Deadlines>,
    /// Of ServiceProfile routes: each try.
    pub actual: Option<Arc<HttpMetrics>>,
}

/// What an inbound response's body reports to besides.
pub struct InboundWatch {
    pub series: Arc<InboundRouteSeries>,
    pub sent: Sent,
    /// Of the name that the request was for.
    pub profile: Option<Arc<ProfileRoute>>,
}

impl InboundWatch {
    pub fn ended(&self, outcome: RouteOutcome, started: Instant) {
        let now = Instant::now();
        // A response that ends before its request was sent whole took no time after it.
        let answer = now.saturating_duration_since(self.sent.at(now));
        self.series.ended(outcome, now.saturating_duration_since(started), answer);
    }
}

/// When a request was sent whole.
pub enum Sent {
    At(Instant),
    When(Arc<Watched>),
}

impl Sent {
    pub fn at(&self, now: Instant) -> Instant {
        match self {
            Self::At(at) => *at,
            Self::When(watched) => watched.sent_at().unwrap_or(now),
        }
    }
}

impl ResponseWatch {
    pub fn new(metrics: Arc<HttpMetrics>, started: Instant, status: u16, headers: &HeaderMap) -> Self {
        let is_grpc = weft_core::headers::is_grpc(headers);
        Self {
            metrics,
            started,
            status,
            is_grpc,
            grpc_status: if is_grpc { grpc_status(headers) } else { None },
            fails_with_trailers: false,
            pending: None,
            reusable: None,
            outbound: None,
            rule: None,
            inbound: None,
            record: None,
            bytes: 0,
            latency_done: false,
            ended: false,
        }
    }

    pub fn first_frame(&mut self) {
        if !std::mem::replace(&mut self.latency_done, true) {
            self.metrics.latency(Some(self.status), self.started.elapsed());
            if let Some(pending) = self.pending.take() {
                pending.sample();
            }
            if let Some(route) = self.outbound.as_ref().and_then(|outbound| outbound.route.as_ref()) {
                route.first_frame(self.status);
            }
            if let Some(profile) = self.inbound.as_ref().and_then(|inbound| inbound.profile.as_ref()) {
                profile.series.latency(Some(self.status), self.started.elapsed());
            }
        }
    }

    pub fn end(&mut self, error: Broken) {
        if std::mem::replace(&mut self.ended, true) {
            return;
        }
        self.first_frame();
        let legacy = self.outcome(error.label);
        self.metrics.response(legacy);
        match self.reusable.take() {
            Some(reusable) if error.label.is_empty() && error.reason.is_empty() => reusable.give_back(),
            _ => {}
        }
        let is_grpc = self.is_grpc;
        let (status, grpc_status) = (self.status, if is_grpc { self.grpc_status } else { None });
        if let Some(record) = self.record.take() {
            record.ended(legacy, error, self.bytes);
        }
        let outcome = RouteOutcome { http_status: Some(status), grpc_status, error: error.reason };
        if let Some(inbound) = &self.inbound {
            inbound.ended(outcome, self.started);
            if let Some(profile) = &inbound.profile {
                profile.series.response(legacy);
            }
        }
        let Some(outbound) = &mut self.outbound else { return };
        if let Some(backend) = &outbound.backend {
            let now = Instant::now();
            backend.ended(outcome, now.saturating_duration_since(outbound.sent.at(now)));
        }
        let failed = legacy.is_failure();
        outbound.verdict.record(class_of(status, grpc_status, failed));
        if let Some(actual) = &outbound.actual {
            actual.response(legacy);
        }
        if let Some(route) = outbound.route.take() {
            route.ended(outcome, legacy);
        }
    }

    pub fn outcome(&self, error: &'static str) -> Outcome {
        let outcome = Outcome {
            status: Some(self.status),
            is_grpc: self.is_grpc,
            grpc_status: self.grpc_status,
            error,
            classified: None,
        };
        match &self.rule {
            Some(rule) => rule.classified(outcome),
            None => outcome,
        }
    }

    pub fn trailers(&mut self, trailers: &HeaderMap) {
        self.grpc_status = self.grpc_status.or_else(|| grpc_status(trailers));
        if let Some(record) = &mut self.record {
            record.trailers(trailers);
        }
    }

    pub fn data(&mut self, size: usize) {
        self.bytes += size as u64;
        if let Some(inbound) = &self.inbound {
            inbound.series.response_frames.observe(size as f64);
        }
        if let Some(outbound) = &self.outbound {
            if let Some(backend) = &outbound.backend {
                backend.frames.observe(size as f64);
            }
            if let Some(deadlines) = &outbound.deadlines {
                deadlines.moved();
            }
        }
    }
}

/// What an answer says about the endpoint that gave it.
pub fn class_of(status: u16, grpc_status: Option<u8>, failed: bool) -> Class {
    match (status, grpc_status) {
        (429, _) | (_, Some(8)) => Class::RateLimited,
        _ if failed => Class::Failure,
        _ => Class::Success,
    }
}

/// How a body broke off, as the two generations of metrics call it; both empty when it did not.
#[derive(Clone, Copy, Default)]
pub struct Broken {
    pub label: &'static str,
    pub reason: &'static str,
}

impl RequestWatch {
    pub fn count(&mut self) {
        if let Some(metrics) = self.count.take() {
            metrics.requests.incr();
        }
    }
}

impl Drop for RequestWatch {
    fn drop(&mut self) {
        if let Some(watched) = &self.watched {
            watched.sent();
        }
    }
}

/// The reason of a broken stream, as labels.
pub fn broken(error: &BodyError) -> Broken {
    let error = match error {
        BodyError::TimedOut(expired, _) => {
            return Broken { label: "timeout", reason: Failure::TimedOut(*expired).route_label() };
        }
        BodyError::Peer(error) => error,
    };
    let h2 = error.http2();
    let (label, reason) = match h2.and_then(h2::Error::reason) {
        _ if h2.is_some_and(h2::Error::is_go_away) => ("h2(OTHER)", "GO_AWAY"),
        Some(h2::Reason::CANCEL) => ("h2(CANCEL)", "CANCEL"),
        Some(h2::Reason::REFUSED_STREAM) => ("h2(REFUSED_STREAM)", "REFUSED"),
        Some(h2::Reason::INTERNAL_ERROR) => ("h2(INTERNAL_ERROR)", "RESET"),
        Some(h2::Reason::PROTOCOL_ERROR) => ("h2(PROTOCOL_ERROR)", "RESET"),
        Some(h2::Reason::NO_ERROR) => ("h2(NO_ERROR)", "RESET"),
        Some(h2::Reason::ENHANCE_YOUR_CALM) => ("h2(ENHANCE_YOUR_CALM)", "ENHANCE_YOUR_CALM"),
        Some(_) => ("h2(OTHER)", "RESET"),
        None => ("unclassified", "IO"),
    };
    Broken { label, reason }
}
