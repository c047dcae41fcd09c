//! Those who look on while a request runs: taps, the access log, traces. Made only for requests that have any.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use http::{HeaderMap, Request};
use weft_core::{
    access_log::AccessEntry,
    addr::wire_socket,
    endpoint::OutboundTls,
    inbound::InboundTls,
    span::{Attributes, request_attributes},
    tap::{TapView, wire_method, wire_scheme},
    trace_context::TraceContext,
};
use weft_proto::{
    decision::decision::Direction,
    engine::{AccessLine, Span, event::Kind},
    linkerd::{
        http_types::{Headers, headers::Header},
        tap::{
            Eos, TapEvent, eos,
            tap_event::{
                EndpointMeta, Event, Http, ProxyDirection, RouteMeta,
                http::{self as tap_http, RequestInit, ResponseEnd, ResponseInit, StreamId},
            },
        },
    },
};

use crate::{
    record::{Answered, Record, access_answer, text_map, wire_duration},
    recorder::Tap,
    watch::Broken,
};

pub struct Observers {
    /// Before dispatch every tap there is, afterwards those that want this request.
    taps: Vec<Arc<Tap>>,
    is_dispatched: bool,
    /// Kept when a tap may want them.
    request_headers: Option<HeaderMap>,
    trailers: Option<HeaderMap>,
    tapped: Option<TapFacts>,
    access: Option<AccessEntry>,
    traced: Option<Traced>,
    trace_id: Option<[u8; 16]>,
    /// Time spent working on the call, as far as it is measured.
    pub busy: Duration,
}

/// What every event of one request repeats.
struct TapFacts {
    event: TapEvent,
    answered_after: Option<Duration>,
}

struct Traced {
    context: TraceContext,
    server_span: [u8; 8],
    client_span: [u8; 8],
    attributes: Attributes,
    dispatched_at: Option<SystemTime>,
}

impl Observers {
    /// None when nobody wants this request.
    pub fn begin<B>(record: &Record, request: &mut Request<B>) -> Option<Box<Self>> {
        let proxy = &record.connection().proxy;
        let taps = proxy.recorder.taps();
        let is_inbound = record.connection().direction == Direction::Inbound;
        let wants_headers = taps.iter().any(|tap| tap.extracts);
        let traced = if proxy.settings.trace { Traced::begin(record, request) } else { None };
        let observers = Self {
            trace_id: traced.as_ref().map(|traced| traced.context.trace_id),
            traced,
            request_headers: wants_headers.then(|| request.headers().clone()),
            trailers: None,
            tapped: None,
            is_dispatched: false,
            access: (is_inbound && proxy.settings.access_log.is_some()).then(|| record.access_entry(request)),
            busy: Duration::ZERO,
            taps: taps.to_vec(),
        };
        let has_any = !observers.taps.is_empty() || observers.access.is_some() || observers.traced.is_some();
        has_any.then(|| Box::new(observers))
    }

    pub fn carried<B>(&mut self, request: &Request<B>) {
        if let Some(access) = &mut self.access {
            access.uri = request.uri().clone();
            access.version = request.version();
        }
    }

    /// The request is on its way, or refused. Safe to repeat.
    pub fn dispatched(&mut self, record: &Record) {
        if std::mem::replace(&mut self.is_dispatched, true) {
            return;
        }
        if let Some(traced) = &mut self.traced {
            traced.dispatched_at = Some(SystemTime::now());
        }
        if self.taps.is_empty() {
            return;
        }
        let facts = tap_facts(record);
        let no_labels = HashMap::new();
        let labels = facts.destination_meta.as_ref().map_or(&no_labels, |meta| &meta.labels);
        let routes = facts.route_meta.as_ref().map_or(&no_labels, |meta| &meta.labels);
        let view = TapView {
            source: record.connection().client,
            destination: destination(record),
            scheme: record.uri.scheme_str().unwrap_or("http"),
            authority: record.host(),
            method: &record.method,
            path: record.uri.path(),
            destination_labels: labels,
            route_labels: routes,
        };
        let recorder = &record.connection().proxy.recorder;
        self.taps.retain(|tap| tap.matcher.matches(&view) && recorder.claims(tap));
        if self.taps.is_empty() {
            return;
        }
        let init = |headers| RequestInit {
            id: Some(stream_id(record)),
            method: Some(wire_method(&record.method)),
            scheme: Some(wire_scheme(view.scheme)),
            authority: view.authority.to_owned(),
            path: view.path.to_owned(),
            headers,
        };
        let shown = self.request_headers.take().map(|headers| with_pseudo_headers(record, &headers));
        let tapped = TapFacts { event: facts.clone(), answered_after: None };
        for tap in &self.taps {
            let headers = shown.clone().filter(|_| tap.extracts);
            tap.send(&tapped.with(tap_http::Event::RequestInit(init(headers))));
        }
        self.tapped = Some(tapped);
    }

    pub fn answered(&mut self, record: &Record, answered: Answered, headers: &HeaderMap) {
        let proxy = &record.connection().proxy;
        if let (Some(format), Some(entry)) = (proxy.settings.access_log, &self.access) {
            let text = entry.line(format, Some(&access_answer(answered, headers, self.busy)));
            proxy.events.push_losable(Kind::AccessLine(AccessLine { text }));
            self.access = None;
        }
        if let Some(traced) = self.traced.take() {
            traced.end(record, answered, headers);
        }
        if let Some(tapped) = &mut self.tapped {
            tapped.answered_after = Some(answered.after);
            for tap in &self.taps {
                tap.send(&tapped.with(tap_http::Event::ResponseInit(ResponseInit {
                    id: Some(stream_id(record)),
                    since_request_init: Some(wire_duration(answered.after)),
                    http_status: answered.status.into(),
                    headers: tap.extracts.then(|| {
                        let mut shown = Headers::default();
                        shown.headers.push(text_header(":status", &answered.status.to_string()));
                        shown.headers.extend(wire_headers(headers));
                        shown
                    }),
                })));
            }
        }
    }

    pub fn ended(&mut self, record: &Record, grpc_status: Option<u8>, broken: Broken, bytes: u64) {
        let proxy = &record.connection().proxy;
        if let (Some(format), Some(entry)) = (proxy.settings.access_log, self.access.take()) {
            proxy.events.push_losable(Kind::AccessLine(AccessLine { text: entry.line(format, None) }));
        }
        let Some(tapped) = &self.tapped else { return };
        let total = record.started().elapsed();
        let end = match (broken.reason, grpc_status) {
            ("", Some(code)) => Some(eos::End::GrpcStatusCode(code.into())),
            ("", None) => None,
            (reason, _) => Some(eos::End::ResetErrorCode(reset_code(reason))),
        };
        for tap in &self.taps {
            tap.send(&tapped.with(tap_http::Event::ResponseEnd(ResponseEnd {
                id: Some(stream_id(record)),
                since_request_init: Some(wire_duration(total)),
                since_response_init: Some(wire_duration(total.saturating_sub(tapped.answered_after.unwrap_or(total)))),
                response_bytes: bytes,
                eos: end.map(|end| Eos { end: Some(end) }),
                trailers: match &self.trailers {
                    Some(trailers) if tap.extracts => Some(Headers { headers: wire_headers(trailers).collect() }),
                    _ => None,
                },
            })));
        }
    }

    pub fn trailers(&mut self, trailers: &HeaderMap) {
        if self.taps.iter().any(|tap| tap.extracts) {
            self.trailers = Some(trailers.clone());
        }
    }

    pub fn trace_id(&self) -> Option<[u8; 16]> {
        self.trace_id
    }

    pub fn is_timed(&self) -> bool {
        self.access.is_some()
    }
}

impl TapFacts {
    /// One event as it goes to the client.
    fn with(&self, event: tap_http::Event) -> TapEvent {
        TapEvent { event: Some(Event::Http(Http { event: Some(event) })), ..self.event.clone() }
    }
}

impl Traced {
    fn begin<B>(record: &Record, request: &mut Request<B>) -> Option<Self> {
        let context = TraceContext::read(request.headers()).filter(|context| context.is_sampled)?;
        let direction = direction_text(record.connection().direction);
        let attributes = request_attributes(direction, &record.method, &record.uri, record.host(), request.headers());
        let span = || record.connection().proxy.random().to_be_bytes();
        let (server_span, client_span) = (span(), span());
        context.write(client_span, request.headers_mut());
        Some(Self { context, server_span, client_span, attributes, dispatched_at: None })
    }

    /// Reports both spans of this hop: the one that the client waited for, and ours to the next one.
    fn end(self, record: &Record, answered: Answered, headers: &HeaderMap) {
        let started = record.arrived_at();
        let ended = started + answered.after;
        let grpc_status = weft_core::headers::grpc_status(headers);
        let is_error = answered.status >= 500 || grpc_status.is_some_and(|code| code != 0);
        let span = |is_client, span_id: [u8; 8], parent: [u8; 8], started: SystemTime| {
            let texts = self.attributes.texts.iter().map(|(key, value)| ((*key).to_owned(), value.clone()));
            let numbers = self.attributes.numbers.iter().map(|(key, value)| ((*key).to_owned(), *value));
            let mut numbers: HashMap<String, i64> = numbers.collect();
            numbers.insert("http.response.status_code".to_owned(), answered.status.into());
            if let Some(code) = grpc_status {
                numbers.insert("rpc.grpc.status_code".to_owned(), code.into());
            }
            Span {
                trace_id: self.context.trace_id.to_vec(),
                span_id: span_id.to_vec(),
                parent_id: parent.to_vec(),
                is_client,
                name: record.uri.path().to_owned(),
                start_unix_ns: unix_ns(started),
                end_unix_ns: unix_ns(ended),
                texts: texts.collect(),
                numbers,
                is_error,
            }
        };
        let events = &record.connection().proxy.events;
        events.push_losable(Kind::Span(span(false, self.server_span, self.context.span_id, started)));
        if let Some(sent) = self.dispatched_at {
            events.push_losable(Kind::Span(span(true, self.client_span, self.server_span, sent)));
        }
    }
}

fn unix_ns(at: SystemTime) -> u64 {
    at.duration_since(UNIX_EPOCH).map(|since| since.as_nanos() as u64).unwrap_or_default()
}

fn direction_text(direction: Direction) -> &'static str {
    match direction {
        Direction::Inbound => "inbound",
        Direction::Outbound => "outbound",
        Direction::Unspecified => "",
    }
}

fn destination(record: &Record) -> std::net::SocketAddr {
    record.endpoint().map_or(record.connection().target, |endpoint| endpoint.info.addr)
}

fn stream_id(record: &Record) -> StreamId {
    let (base, stream) = record.id();
    StreamId { base, stream }
}

fn tap_facts(record: &Record) -> TapEvent {
    let connection = record.connection();
    let mut labels = HashMap::new();
    if let Some(endpoint) = record.endpoint() {
        labels.extend(endpoint.info.labels.iter().map(|(key, value)| (key.clone(), value.clone())));
        labels.extend(text_map(match &endpoint.info.tls {
            OutboundTls::Mesh(id) => vec![("tls", "true".to_owned()), ("server_id", id.san.to_string())],
            OutboundTls::Loopback => vec![("tls", "loopback".to_owned())],
            OutboundTls::NotProvided => vec![("tls", "not_provided_by_service_discovery".to_owned())],
        }));
    }
    TapEvent {
        source: Some(wire_socket(connection.client)),
        destination: Some(wire_socket(destination(record))),
        source_meta: Some(EndpointMeta { labels: text_map(source_facts(&connection.tls)) }),
        destination_meta: Some(EndpointMeta { labels }),
        route_meta: Some(RouteMeta { labels: record.route_labels() }),
        proxy_direction: match connection.direction {
            Direction::Inbound => ProxyDirection::Inbound,
            Direction::Outbound => ProxyDirection::Outbound,
            Direction::Unspecified => ProxyDirection::Unknown,
        }
        .into(),
        event: None,
    }
}

/// Taps name the lack of TLS by its reason (observability.md 4.1).
fn source_facts(tls: &InboundTls) -> Vec<(&'static str, String)> {
    match tls {
        InboundTls::Mesh { .. } => tls.facts(),
        InboundTls::PassedThrough { sni } => vec![("tls", "passthru".to_owned()), ("sni", sni.clone())],
        InboundTls::NoTls { reason } => vec![("tls", reason.text().to_owned())],
    }
}

fn reset_code(reason: &str) -> u32 {
    let reason = match reason {
        "CANCEL" | "UNKNOWN" => h2::Reason::CANCEL,
        "REFUSED" => h2::Reason::REFUSED_STREAM,
        "ENHANCE_YOUR_CALM" => h2::Reason::ENHANCE_YOUR_CALM,
        _ => h2::Reason::INTERNAL_ERROR,
    };
    reason.into()
}

fn with_pseudo_headers(record: &Record, headers: &HeaderMap) -> Headers {
    let path = record.uri.path_and_query().map_or("/", |path| path.as_str());
    let scheme = record.uri.scheme_str().unwrap_or("http");
    let pseudo =
        [(":method", record.method.as_str()), (":scheme", scheme), (":authority", record.host()), (":path", path)];
    let pseudo = pseudo.into_iter().map(|(name, value)| text_header(name, value));
    Headers { headers: pseudo.chain(wire_headers(headers)).collect() }
}

fn text_header(name: &str, value: &str) -> Header {
    Header { name: name.to_owned(), value: value.as_bytes().to_vec() }
}

fn wire_headers(headers: &HeaderMap) -> impl Iterator<Item = Header> + '_ {
    headers.iter().map(|(name, value)| Header { name: name.to_string(), value: value.as_bytes().to_vec() })
}
