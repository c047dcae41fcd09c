//! The decision record of one request while it runs. What is noted on the way are facts at hand, shared rather than
//! copied; they become words only where a record is kept, tapped, logged or traced.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant, SystemTime},
};

use http::{HeaderMap, HeaderValue, Method, Request, Response, Uri, header};
use weft_core::{
    access_log::{AccessAnswer, AccessEntry},
    addr::wire_socket,
    endpoint::OutboundTls,
    failure::Failure,
    headers::grpc_status,
    inbound::{InboundTls, NoTls, ServerPolicy},
    metrics::Outcome,
    outbound::{BackendIndex, RuleKind},
    route::RouteIndex,
    trace_context::hex,
};
use weft_proto::decision::{
    Decision, Try,
    decision::{Closer, Direction},
};

use crate::{
    admission::Permit, conn::Conn, endpoint::Endpoint, observers::Observers, proxy::Proxy, routing::Routing,
    serve::HttpVersion, watch::Broken,
};

/// What all requests of one client connection have in common.
pub struct Connection {
    pub proxy: Arc<Proxy>,
    pub direction: Direction,
    pub client: SocketAddr,
    /// Where the client was going.
    pub target: SocketAddr,
    pub tls: InboundTls,
    pub version: HttpVersion,
    id: u32,
    detected_in: Option<Duration>,
    requests: AtomicU64,
}

impl Connection {
    pub fn inbound(
        proxy: &Arc<Proxy>,
        conn: &Conn,
        client: SocketAddr,
        target: SocketAddr,
        tls: InboundTls,
        version: HttpVersion,
    ) -> Arc<Self> {
        Self::new(proxy, conn, Direction::Inbound, client, target, tls, version)
    }

    pub fn outbound(proxy: &Arc<Proxy>, conn: &Conn, target: SocketAddr, version: HttpVersion) -> Arc<Self> {
        let client = conn.peer_addr().unwrap_or(target);
        let tls = InboundTls::NoTls { reason: NoTls::Loopback };
        Self::new(proxy, conn, Direction::Outbound, client, target, tls, version)
    }

    fn new(
        proxy: &Arc<Proxy>,
        conn: &Conn,
        direction: Direction,
        client: SocketAddr,
        target: SocketAddr,
        tls: InboundTls,
        version: HttpVersion,
    ) -> Arc<Self> {
        Arc::new(Self {
            id: proxy.recorder.next_connection(),
            proxy: proxy.clone(),
            direction,
            client,
            target,
            tls,
            version,
            detected_in: conn.detected_in(),
            requests: AtomicU64::new(0),
        })
    }
}

/// What decided where the request goes, as far as it came.
pub enum Decided {
    Nothing,
    /// Inbound, and not admitted. The route is there when one matched.
    Refused {
        policy: Arc<ServerPolicy>,
        route: Option<RouteIndex>,
    },
    Permitted(Arc<Permit>),
    /// Outbound, or through the gateway; the number of the rule when one matched.
    Routed {
        routing: Arc<Routing>,
        rule: Option<usize>,
    },
}

pub struct Record {
    pub connection: Arc<Connection>,
    pub started: Instant,
    pub decided: Decided,
    number: u64,
    is_sample: bool,
    pub method: Method,
    pub uri: Uri,
    host: Option<HeaderValue>,
    /// Nearly always one; a Vec would allocate for it.
    first_try: Option<TryFacts>,
    more_tries: Vec<TryFacts>,
    answered: Option<Answered>,
    has_ended: bool,
    /// Those who look on while it runs; most requests have none.
    observers: Option<Box<Observers>>,
}

struct TryFacts {
    backend: BackendIndex,
    endpoint: Arc<Endpoint>,
    chosen_after: Duration,
    why: &'static str,
    failure: Option<String>,
}

#[derive(Clone, Copy)]
pub struct Answered {
    pub after: Duration,
    pub status: u16,
}

/// How a request ended.
struct End {
    closer: Closer,
    reason: String,
    status: u16,
    grpc_status: Option<u8>,
    bytes: u64,
    is_failure: bool,
}

impl Record {
    /// Reads the trace context, and writes our own span into the request when it is traced.
    pub fn begin<B>(connection: &Arc<Connection>, request: &mut Request<B>) -> Box<Self> {
        let recorder = &connection.proxy.recorder;
        let mut record = Box::new(Self {
            started: Instant::now(),
            decided: Decided::Nothing,
            number: connection.requests.fetch_add(1, Relaxed),
            is_sample: recorder.samples(),
            method: request.method().clone(),
            uri: request.uri().clone(),
            host: host_header(request),
            first_try: None,
            more_tries: Vec::new(),
            answered: None,
            has_ended: false,
            observers: None,
            connection: connection.clone(),
        });
        if recorder.is_observed() {
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

    /// The number pair that tells this request apart: of its connection, and within it.
    pub fn id(&self) -> (u32, u64) {
        (self.connection.id, self.number)
    }

    /// Policy let the request pass; it goes to the application.
    pub fn permitted(&mut self, permit: Arc<Permit>) {
        self.decided = Decided::Permitted(permit);
        self.dispatched();
    }

    /// The request goes to an endpoint. why: empty for the first choice.
    pub fn tries(&mut self, backend: BackendIndex, endpoint: &Arc<Endpoint>, why: &'static str) {
        let chosen_after = self.started.elapsed();
        let facts = TryFacts { backend, endpoint: endpoint.clone(), chosen_after, why, failure: None };
        if self.first_try.is_none() {
            self.first_try = Some(facts);
            self.dispatched();
        } else {
            self.more_tries.push(facts);
        }
    }

    /// The endpoint that was tried last gave no usable answer.
    pub fn try_failed(&mut self, why: &dyn std::fmt::Display) {
        if let Some(last) = self.more_tries.last_mut().or(self.first_try.as_mut()) {
            last.failure = Some(why.to_string());
        }
    }

    pub fn endpoint(&self) -> Option<&Arc<Endpoint>> {
        self.more_tries.last().or(self.first_try.as_ref()).map(|last| &last.endpoint)
    }

    fn dispatched(&mut self) {
        if let Some(mut observers) = self.observers.take() {
            observers.dispatched(self);
            self.observers = Some(observers);
        }
    }

    /// Response headers are there.
    pub fn answers<B>(&mut self, response: &Response<B>) {
        let status = response.status().as_u16();
        // Costs a look at the clock, which only those who look on need.
        if self.observers.is_some() || self.is_sample {
            let answered = Answered { after: self.started.elapsed(), status };
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
        if is_failure || self.is_sample {
            self.keep(End { closer, reason: reason.to_owned(), status, grpc_status, bytes, is_failure });
        }
        self.has_ended = true;
    }

    /// The proxy answers by itself.
    pub fn failed<B>(mut self: Box<Self>, failure: &Failure, answer: &Response<B>) {
        let (status, headers) = (answer.status().as_u16(), answer.headers());
        let grpc_status = grpc_status(headers);
        self.dispatched();
        let answered = Answered { after: self.started.elapsed(), status };
        self.answered = Some(answered);
        self.observe(|observers, record| {
            observers.answered(record, answered, headers);
            observers.ended(record, grpc_status, Broken::default(), 0);
        });
        // A route that redirects does what it was asked to.
        let is_failure = !matches!(failure, Failure::Redirected { .. });
        if is_failure || self.is_sample {
            let reason = failure.to_string();
            self.keep(End { closer: Closer::Proxy, reason, status, grpc_status, bytes: 0, is_failure });
        }
        self.has_ended = true;
    }

    /// The stream's error is passed on to the client.
    pub fn reset(mut self: Box<Self>, why: &dyn std::fmt::Display) {
        self.observe(|observers, record| {
            observers.ended(record, None, Broken { label: "h2(OTHER)", reason: "RESET" }, 0);
        });
        let reason = format!("the endpoint reset the stream: {why}");
        self.keep(End { closer: Closer::Server, reason, status: 0, grpc_status: None, bytes: 0, is_failure: true });
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

    /// When the request arrived, by the wall clock.
    pub fn arrived_at(&self) -> SystemTime {
        SystemTime::now() - self.started.elapsed()
    }

    fn keep(&self, end: End) {
        self.connection.proxy.recorder.keep(self.decision(end));
    }

    fn decision(&self, end: End) -> Decision {
        let connection = &self.connection;
        let total = self.started.elapsed();
        let mut decision = Decision {
            id: format!("{}:{}", connection.id, self.number),
            direction: connection.direction.into(),
            started_at: Some(self.arrived_at().into()),
            is_sample: self.is_sample,
            is_failure: end.is_failure,
            client: Some(wire_socket(connection.client)),
            target: Some(wire_socket(connection.target)),
            client_tls: text_map(connection.tls.facts()),
            protocol: match connection.version {
                HttpVersion::One => "http/1",
                HttpVersion::Two => "http/2",
            }
            .to_owned(),
            detected_in: connection.detected_in.map(wire_duration),
            method: self.method.to_string(),
            authority: self.host().to_owned(),
            path: self.uri.path().to_owned(),
            trace_id: self.observers.as_ref().and_then(|seen| seen.trace_id()).map(|id| hex(&id)).unwrap_or_default(),
            tries: self.first_try.iter().chain(&self.more_tries).map(|facts| self.wire_try(facts)).collect(),
            http_status: end.status.into(),
            grpc_status: end.grpc_status.map(u32::from),
            response_bytes: end.bytes,
            to_response_headers: self.answered.map(|answered| wire_duration(answered.after)),
            total: Some(wire_duration(total)),
            closed_by: end.closer.into(),
            reason: end.reason,
            ..Decision::default()
        };
        match &self.decided {
            Decided::Nothing => {}
            Decided::Refused { policy, route } => {
                decision.parent = Some(policy.meta.to_wire());
                decision.route = route.and_then(|route| policy.route_meta(route)).map(|meta| meta.to_wire());
            }
            Decided::Permitted(permit) => {
                decision.parent = Some(permit.policy.meta.to_wire());
                let route = permit.route.and_then(|route| permit.policy.route_meta(route));
                decision.route = route.map(|meta| meta.to_wire());
                decision.authorization = Some(permit.authz.to_wire());
            }
            Decided::Routed { routing, rule } => {
                decision.parent = Some(routing.policy.parent.to_wire());
                let rule = rule.and_then(|id| routing.policy.rules().into_iter().find(|rule| rule.id == id));
                decision.route = rule.map(|rule| rule.route.to_wire());
            }
        }
        decision
    }

    fn wire_try(&self, facts: &TryFacts) -> Try {
        let backend = match &self.decided {
            Decided::Routed { routing, .. } => routing.policy.backends.get(facts.backend).map(|b| b.meta.to_wire()),
            _ => None,
        };
        let endpoint = &facts.endpoint;
        Try {
            backend,
            endpoint: Some(wire_socket(endpoint.info.addr)),
            endpoint_age: Some(wire_duration(endpoint.known_since.elapsed())),
            labels: endpoint.info.labels.clone().into_iter().collect(),
            server_id: match &endpoint.info.tls {
                OutboundTls::Mesh(id) => id.san.to_string(),
                OutboundTls::Loopback | OutboundTls::NotProvided => String::new(),
            },
            chosen_after: Some(wire_duration(facts.chosen_after)),
            why: facts.why.to_owned(),
            failure: facts.failure.clone().unwrap_or_default(),
        }
    }

    /// What the matched route is labelled with, for taps.
    pub fn route_labels(&self) -> HashMap<String, String> {
        let named = |meta: &weft_core::meta::Meta| {
            text_map(vec![
                ("route_group", meta.group.clone()),
                ("route_kind", meta.kind.clone()),
                ("route_namespace", meta.namespace.clone()),
                ("route_name", meta.name.clone()),
            ])
        };
        match &self.decided {
            Decided::Permitted(permit) => {
                permit.route.and_then(|route| permit.policy.route_meta(route)).map(named).unwrap_or_default()
            }
            Decided::Routed { routing, rule: Some(id) } => {
                let rule = routing.policy.rules().into_iter().find(|rule| rule.id == *id);
                match rule.map(|rule| (&rule.kind, &rule.route)) {
                    Some((RuleKind::Profile(profile), _)) => profile.labels.iter().cloned().collect(),
                    Some((_, route)) => named(route),
                    None => HashMap::new(),
                }
            }
            _ => HashMap::new(),
        }
    }

    pub fn access_entry(&self, headers: &HeaderMap) -> AccessEntry {
        AccessEntry::new(
            self.connection.client,
            self.connection.tls.client_id().map(ToString::to_string),
            self.arrived_at(),
            self.method.clone(),
            self.uri.clone(),
            self.connection.version.into(),
            self.host(),
            headers,
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
        self.keep(End { closer: Closer::Client, reason, status: 0, grpc_status: None, bytes: 0, is_failure: true });
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
