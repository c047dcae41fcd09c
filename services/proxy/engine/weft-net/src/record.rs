//! The decision record of one request while it runs. What is noted on the way are facts at hand, shared rather than
//! copied; they become words only where a record is kept, tapped, logged or traced.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use http::{HeaderMap, HeaderValue, Method, Request, Response, Uri, header};
use weft_core::{
    access_log::{AccessAnswer, AccessEntry},
    failure::Failure,
    headers::grpc_status,
    inbound::ServerPolicy,
    meta::Meta,
    metrics::Outcome,
    outbound::{BackendIndex, RuleKind},
    route::RouteIndex,
    trace_context::hex,
};
use weft_proto::decision::{Decision, decision::Closer};

use crate::{
    admission::Permit,
    body::Body,
    endpoint::Endpoint,
    facts::{Connection, End, Facts, Inbound, Routed, Taken},
    observers::Observers,
    profiles::ProfileRoute,
    respond::Ended,
    routing::Routing,
    serve::BoxError,
    watch::Broken,
};

pub struct Record {
    facts: Facts,
    pub method: Method,
    pub uri: Uri,
    host: Option<HeaderValue>,
    answered: Option<Answered>,
    has_ended: bool,
    /// Those who look on while it runs; most requests have none.
    observers: Option<Box<Observers>>,
}

#[derive(Clone, Copy)]
pub struct Answered {
    pub after: Duration,
    pub status: u16,
}

/// What the client got of an answer.
#[derive(Default)]
struct Answer {
    status: u16,
    grpc_status: Option<u8>,
    bytes: u64,
}

impl Record {
    /// Reads the trace context, and writes our own span into the request when it is traced.
    pub fn begin<B>(connection: &Arc<Connection>, request: &mut Request<B>) -> Box<Self> {
        let mut record = Box::new(Self {
            facts: Facts::begin(connection),
            method: request.method().clone(),
            uri: request.uri().clone(),
            host: host_header(request),
            answered: None,
            has_ended: false,
            observers: None,
        });
        if connection.proxy.recorder.is_observed() {
            record.observers = Observers::begin(&record, request);
        }
        record
    }

    /// The request turned out to be one of HTTP/1 that HTTP/2 carried between proxies; shown as its client made it.
    pub fn carried<B>(&mut self, request: &Request<B>) {
        self.uri = request.uri().clone();
        self.host = host_header(request);
        if let Some(observers) = &mut self.observers {
            observers.carried(request);
        }
    }

    pub fn host(&self) -> &str {
        match self.uri.authority() {
            Some(authority) => authority.as_str(),
            None => self.host.as_ref().and_then(|host| host.to_str().ok()).unwrap_or_default(),
        }
    }

    pub fn connection(&self) -> &Connection {
        &self.facts.connection
    }

    pub fn started(&self) -> Instant {
        self.facts.started
    }

    /// When the request arrived, by the wall clock.
    pub fn arrived_at(&self) -> SystemTime {
        self.facts.arrived_at()
    }

    pub fn endpoint(&self) -> Option<&Arc<Endpoint>> {
        self.facts.endpoint()
    }

    /// The number pair that tells this request apart: of its connection, and within it.
    pub fn id(&self) -> (u32, u64) {
        (self.facts.connection.id, self.facts.number)
    }

    /// Inbound policy does not let the request pass. The route is there when one matched.
    pub fn refused(&mut self, policy: Arc<ServerPolicy>, route: Option<RouteIndex>) {
        self.facts.inbound = Inbound::Refused { policy, route };
    }

    /// Inbound policy lets the request pass.
    pub fn permitted(&mut self, permit: Arc<Permit>) {
        self.facts.inbound = Inbound::Permitted(permit);
    }

    /// A route of a ServiceProfile takes the inbound request.
    pub fn profiled(&mut self, route: Arc<ProfileRoute>) {
        self.facts.profile = Some(route);
    }

    /// Outbound policy is known.
    pub fn routed(&mut self, routing: &Arc<Routing>) {
        self.facts.routed = Some(Routed { routing: routing.clone(), taken: Taken::None });
    }

    /// A rule of the outbound policy matched.
    pub fn takes(&mut self, rule: usize) {
        if let Some(routed) = &mut self.facts.routed {
            routed.taken = Taken::Rule(rule);
        }
    }

    /// The request goes to an endpoint. why: empty for the first choice.
    pub fn tries(&mut self, backend: BackendIndex, endpoint: &Arc<Endpoint>, why: &'static str) {
        self.facts.tries(backend, endpoint, why);
        self.dispatched();
    }

    /// The endpoint that was tried last gave no usable answer.
    pub fn try_failed(&mut self, why: &dyn std::fmt::Display) {
        self.facts.try_failed(why);
    }

    /// The request is on its way, or answered without. Safe to repeat.
    pub fn dispatched(&mut self) {
        self.observe(|observers, record| observers.dispatched(record));
    }

    /// What the client gets, as the record is told of it. answer: to a failure, which is also counted there.
    pub fn concludes(
        mut self: Box<Self>,
        result: Result<Response<Body>, Ended>,
        answer: impl FnOnce(&Failure) -> Response<Body>,
    ) -> Result<Response<Body>, BoxError> {
        match result {
            Ok(mut response) => {
                self.answers(&response);
                response.body_mut().watch_record(self);
                Ok(response)
            }
            Err(Ended::Reset(error)) => {
                self.reset(&error);
                Err(BoxError::from(error))
            }
            Err(Ended::Failed(failure)) => {
                let answer = answer(&failure);
                self.failed(&failure, &answer);
                Ok(answer)
            }
        }
    }

    /// Response headers are there.
    fn answers<B>(&mut self, response: &Response<B>) {
        let status = response.status().as_u16();
        // Costs a look at the clock, which only those who look on need.
        if self.observers.is_some() || self.facts.is_sample {
            let answered = Answered { after: self.facts.started.elapsed(), status };
            self.answered = Some(answered);
            self.observe(|observers, record| observers.answered(record, answered, response.headers()));
        }
    }

    /// The response's body ended, or broke.
    pub fn ended(mut self: Box<Self>, outcome: Outcome, broken: Broken, bytes: u64) {
        let grpc_status = if outcome.is_grpc { outcome.grpc_status } else { None };
        let (closer, reason) = match broken.reason {
            "" => (Closer::Server, ""),
            "UNKNOWN" => (Closer::Client, "the client went away before the response ended"),
            "RESPONSE_STREAM_TIMEOUT" | "REQUEST_TIMEOUT" => (Closer::Proxy, "the response took too long"),
            "IDLE_TIMEOUT" => (Closer::Proxy, "the stream was idle too long"),
            "IO" => (Closer::Server, "the connection to the endpoint broke"),
            _ => (Closer::Server, "the endpoint reset the stream"),
        };
        let is_failure = outcome.is_failure();
        let status = outcome.status.unwrap_or_default();
        self.observe(|observers, record| observers.ended(record, grpc_status, broken, bytes));
        if is_failure || self.facts.is_sample {
            let answer = Answer { status, grpc_status, bytes };
            self.keep(End { closer, reason: reason.to_owned(), is_failure }, answer);
        }
        self.has_ended = true;
    }

    /// The proxy answers by itself.
    fn failed<B>(mut self: Box<Self>, failure: &Failure, answer: &Response<B>) {
        let (status, headers) = (answer.status().as_u16(), answer.headers());
        let grpc_status = grpc_status(headers);
        self.dispatched();
        let answered = Answered { after: self.facts.started.elapsed(), status };
        self.answered = Some(answered);
        self.observe(|observers, record| {
            observers.answered(record, answered, headers);
            observers.ended(record, grpc_status, Broken::default(), 0);
        });
        // A route that redirects does what it was asked to.
        let is_failure = !matches!(failure, Failure::Redirected { .. });
        if is_failure || self.facts.is_sample {
            let reason = failure.to_string();
            self.keep(End { closer: Closer::Proxy, reason, is_failure }, Answer { status, grpc_status, bytes: 0 });
        }
        self.has_ended = true;
    }

    /// The stream's error is passed on to the client.
    fn reset(mut self: Box<Self>, why: &dyn std::fmt::Display) {
        self.observe(|observers, record| {
            observers.ended(record, None, Broken { label: "h2(OTHER)", reason: "RESET" }, 0);
        });
        let reason = format!("the endpoint reset the stream: {why}");
        self.keep(End { closer: Closer::Server, reason, is_failure: true }, Answer::default());
        self.has_ended = true;
    }

    /// Trailers of the response, for those who want them.
    pub fn trailers(&mut self, trailers: &HeaderMap) {
        if let Some(observers) = &mut self.observers {
            observers.trailers(trailers);
        }
    }

    /// Somebody wants to know how long the call works rather than waits.
    pub fn is_timed(&self) -> bool {
        self.observers.as_ref().is_some_and(|observers| observers.is_timed())
    }

    pub fn worked(&mut self, busy: Duration) {
        if let Some(observers) = &mut self.observers {
            observers.busy = busy;
        }
    }

    fn observe(&mut self, tell: impl FnOnce(&mut Observers, &Self)) {
        if let Some(mut observers) = self.observers.take() {
            tell(&mut observers, self);
            self.observers = Some(observers);
        }
    }

    fn keep(&self, end: End, answer: Answer) {
        let trace_id = self.observers.as_ref().and_then(|seen| seen.trace_id());
        let decision = Decision {
            method: self.method.to_string(),
            authority: self.host().to_owned(),
            path: self.uri.path().to_owned(),
            trace_id: trace_id.map(|id| hex(&id)).unwrap_or_default(),
            http_status: answer.status.into(),
            grpc_status: answer.grpc_status.map(u32::from),
            response_bytes: answer.bytes,
            to_response_headers: self.answered.map(|answered| wire_duration(answered.after)),
            ..self.facts.decision(end)
        };
        self.facts.keep(decision);
    }

    /// What the matched route is labelled with, for taps.
    pub fn route_labels(&self) -> HashMap<String, String> {
        let named = |meta: &Meta| {
            text_map(vec![
                ("route_group", meta.group.clone()),
                ("route_kind", meta.kind.clone()),
                ("route_namespace", meta.namespace.clone()),
                ("route_name", meta.name.clone()),
            ])
        };
        let outbound = match self.facts.routed.as_ref().and_then(Routed::rule).map(|rule| &rule.kind) {
            Some(RuleKind::Profile(profile)) => Some(profile),
            _ => None,
        };
        match outbound.or(self.facts.profile.as_ref().map(|route| &route.rule)) {
            Some(profile) => profile.labels.iter().cloned().collect(),
            None => self.facts.route().map(named).unwrap_or_default(),
        }
    }

    pub fn access_entry<B>(&self, request: &Request<B>) -> AccessEntry {
        let connection = self.connection();
        AccessEntry::new(
            connection.client,
            connection.tls.client_id().map(ToString::to_string),
            self.arrived_at(),
            self.method.clone(),
            self.uri.clone(),
            request.version(),
            self.host(),
            request.headers(),
        )
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        if self.has_ended {
            return;
        }
        self.observe(|observers, record| {
            observers.ended(record, None, Broken { label: "h2(CANCEL)", reason: "CANCEL" }, 0);
        });
        let reason = "the client went away before there was an answer".to_owned();
        self.keep(End { closer: Closer::Client, reason, is_failure: true }, Answer::default());
    }
}

/// None when the target of the request names its host.
fn host_header<B>(request: &Request<B>) -> Option<HeaderValue> {
    if request.uri().authority().is_none() { request.headers().get(header::HOST).cloned() } else { None }
}

pub fn text_map(pairs: Vec<(&'static str, String)>) -> HashMap<String, String> {
    pairs.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
}

pub fn wire_duration(duration: Duration) -> prost_types::Duration {
    // Only durations of 292 billion years do not fit.
    prost_types::Duration::try_from(duration).unwrap_or_default()
}

/// The line of the access log for a request that got an answer, or none.
pub fn access_answer(answered: Answered, headers: &HeaderMap, busy: Duration) -> AccessAnswer {
    AccessAnswer::new(answered.status, headers, answered.after, busy)
}
