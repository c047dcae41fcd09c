//! The one body type of the proxy: passes frames through and notices the moments that metrics, balancing and connection
//! reuse depend on (observability.md 1.3).

use std::{
    collections::VecDeque,
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue};
use http_body::{Body as HttpBody, Frame, SizeHint};
use hyper::body::Incoming;
use weft_core::{
    failure::Expired,
    headers::grpc_status,
    metrics::{HttpMetrics, RouteOutcome},
    outbound::ResponseHead,
};

use crate::{
    grpc::Messages,
    http2_bodies::Received,
    peer_error::PeerError,
    record::Record,
    replay::ReplayBody,
    routing::RouteWatch,
    watch::{Broken, RequestWatch, ResponseWatch, broken},
};

pub struct Body {
    inner: Inner,
    watch: Watch,
}

enum Inner {
    Done,
    Full(Bytes),
    Incoming(Incoming),
    Received(Received),
    Replay(ReplayBody),
    Peeked(Box<Peeked>),
    Messages(Box<Messages>),
}

/// Frames that were looked at, and what follows them.
struct Peeked {
    frames: VecDeque<Result<Frame<Bytes>, BodyError>>,
    rest: Body,
}

enum Watch {
    Nothing,
    Request(RequestWatch),
    Response(Box<ResponseWatch>),
}

/// Why a body broke off.
#[derive(Debug)]
pub enum BodyError {
    Peer(PeerError),
    TimedOut(Expired, h2::Error),
}

impl BodyError {
    /// What the other side of an HTTP/2 stream is told.
    pub fn reset_reason(&self) -> h2::Reason {
        let error = match self {
            Self::Peer(error) => error.http2(),
            Self::TimedOut(_, error) => Some(error),
        };
        error.and_then(h2::Error::reason).unwrap_or(h2::Reason::INTERNAL_ERROR)
    }

    fn timed_out(expired: Expired) -> Self {
        // Reaches an HTTP/2 client as this reset.
        Self::TimedOut(expired, h2::Reason::CANCEL.into())
    }
}

impl<E: Into<PeerError>> From<E> for BodyError {
    fn from(error: E) -> Self {
        Self::Peer(error.into())
    }
}

impl fmt::Display for BodyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Peer(error) => error.fmt(f),
            Self::TimedOut(expired, _) => expired.fmt(f),
        }
    }
}

impl std::error::Error for BodyError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Peer(error) => Some(error),
            Self::TimedOut(_, reset) => Some(reset),
        }
    }
}

impl Body {
    pub fn empty() -> Self {
        Self { inner: Inner::Done, watch: Watch::Nothing }
    }

    pub fn full(bytes: Bytes) -> Self {
        let inner = if bytes.is_empty() { Inner::Done } else { Inner::Full(bytes) };
        Self { inner, watch: Watch::Nothing }
    }

    pub fn incoming(incoming: Incoming) -> Self {
        Self { inner: Inner::Incoming(incoming), watch: Watch::Nothing }
    }

    pub fn received(received: Received) -> Self {
        Self { inner: Inner::Received(received), watch: Watch::Nothing }
    }

    pub fn messages(messages: Messages) -> Self {
        Self { inner: Inner::Messages(Box::new(messages)), watch: Watch::Nothing }
    }

    pub fn replay(body: ReplayBody) -> Self {
        Self { inner: Inner::Replay(body), watch: Watch::Nothing }
    }

    /// A body that is watched already, to be watched once more.
    pub fn nested(body: Self) -> Self {
        Self { inner: Inner::Peeked(Box::new(Peeked { frames: VecDeque::new(), rest: body })), watch: Watch::Nothing }
    }

    /// Counts a request: now if it has no body, else when the body is first asked for.
    pub fn count_request(&mut self, metrics: &Arc<HttpMetrics>) {
        match &mut self.watch {
            Watch::Request(watch) => watch.count = Some(metrics.clone()),
            _ => self.watch_request(RequestWatch { count: Some(metrics.clone()), frames: None, watched: None }),
        }
    }

    /// For a request without a body everything is told now.
    pub fn watch_request(&mut self, mut watch: RequestWatch) {
        if self.is_end_stream() {
            watch.count();
        } else {
            self.watch = Watch::Request(watch);
        }
    }

    pub fn watch_response(&mut self, watch: ResponseWatch) {
        self.watch = Watch::Response(Box::new(watch));
    }

    /// What the answer says so far. Looks at the first frame, and at the next if it is there already: a code that calls
    /// for another try may be in the trailers behind at most one data frame. Never waits for the second.
    pub async fn peek(mut self, head: &mut ResponseHead) -> Self {
        let mut frames = VecDeque::with_capacity(2);
        let first = std::future::poll_fn(|cx| Pin::new(&mut self).poll_frame(cx)).await;
        let is_data = matches!(&first, Some(Ok(frame)) if frame.is_data());
        frames.extend(first);
        if is_data {
            let second = std::future::poll_fn(|cx| Poll::Ready(Pin::new(&mut self).poll_frame(cx))).await;
            if let Poll::Ready(second) = second {
                frames.extend(second);
            }
        }
        if let Some(Ok(last)) = frames.back()
            && let Some(trailers) = last.trailers_ref()
        {
            head.grpc_status = head.grpc_status.or_else(|| grpc_status(trailers));
        }
        Self { inner: Inner::Peeked(Box::new(Peeked { frames, rest: self })), watch: Watch::Nothing }
    }

    /// This is the answer that the client gets.
    pub fn watch_record(&mut self, record: Box<Record>) {
        let Watch::Response(watch) = &mut self.watch else {
            if let Inner::Peeked(peeked) = &mut self.inner {
                peeked.rest.watch_record(record);
            }
            return;
        };
        if watch.ended {
            record.ended(watch.outcome(""), Broken::default(), watch.bytes);
        } else {
            watch.record = Some(record);
        }
    }

    /// This is the answer that the route's client gets.
    pub fn watch_route(&mut self, route: RouteWatch) {
        if let Inner::Peeked(peeked) = &mut self.inner {
            return peeked.rest.watch_route(route);
        }
        let Watch::Response(watch) = &mut self.watch else { return };
        let legacy = watch.outcome("");
        if watch.latency_done {
            route.first_frame(watch.status);
        }
        let Some(outbound) = &mut watch.outbound else { return };
        if watch.ended {
            let grpc_status = if legacy.is_grpc { legacy.grpc_status } else { None };
            route.ended(RouteOutcome { http_status: legacy.status, grpc_status, error: "" }, legacy);
        } else {
            outbound.route = Some(route);
        }
    }
}

impl HttpBody for Body {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = &mut *self;
        match &mut this.watch {
            Watch::Nothing => {}
            Watch::Request(watch) => watch.count(),
            Watch::Response(watch) => {
                let deadlines = watch.outbound.as_mut().and_then(|outbound| outbound.deadlines.as_mut());
                if let Some(deadlines) = deadlines.filter(|_| !watch.ended)
                    && let Poll::Ready(expired) = deadlines.poll_expired(cx)
                {
                    return Poll::Ready(this.breaks(BodyError::timed_out(expired)));
                }
            }
        }
        let frame = match &mut this.inner {
            Inner::Done => None,
            Inner::Full(bytes) => {
                let bytes = std::mem::take(bytes);
                this.inner = Inner::Done;
                Some(Ok(Frame::data(bytes)))
            }
            Inner::Incoming(incoming) => {
                ready!(Pin::new(incoming).poll_frame(cx)).map(|frame| frame.map_err(BodyError::from))
            }
            Inner::Received(received) => ready!(received.poll_frame(cx)).map(|frame| frame.map_err(BodyError::from)),
            Inner::Replay(replay) => ready!(replay.poll_frame(cx)),
            Inner::Messages(messages) => ready!(messages.poll_frame(cx)).map(Ok),
            Inner::Peeked(peeked) => match peeked.frames.pop_front() {
                Some(frame) => Some(frame),
                None => ready!(Pin::new(&mut peeked.rest).poll_frame(cx)),
            },
        };
        match &mut this.watch {
            Watch::Nothing => Poll::Ready(frame),
            Watch::Request(watch) => {
                match &frame {
                    Some(Ok(frame)) => {
                        if let (Some(data), Some(sizes)) = (frame.data_ref(), &watch.frames) {
                            sizes.observe(data.len() as f64);
                        }
                        if let Some(watched) = &watch.watched {
                            watched.moved();
                        }
                    }
                    Some(Err(_)) | None => this.watch = Watch::Nothing,
                }
                Poll::Ready(frame)
            }
            Watch::Response(watch) => Poll::Ready(match frame {
                None => {
                    watch.end(Broken::default());
                    None
                }
                Some(Ok(frame)) => {
                    watch.first_frame();
                    if let Some(data) = frame.data_ref() {
                        watch.data(data.len());
                    }
                    if let Some(trailers) = frame.trailers_ref() {
                        watch.trailers(trailers);
                        watch.end(Broken::default());
                    }
                    Some(Ok(frame))
                }
                Some(Err(error)) => return Poll::Ready(this.breaks(error)),
            }),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.inner {
            Inner::Done => true,
            Inner::Full(_) | Inner::Messages(_) => false,
            Inner::Incoming(incoming) => incoming.is_end_stream(),
            Inner::Received(received) => received.is_end_stream(),
            Inner::Replay(replay) => replay.is_end_stream(),
            Inner::Peeked(peeked) => peeked.frames.is_empty() && peeked.rest.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.inner {
            Inner::Done => SizeHint::with_exact(0),
            Inner::Full(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Inner::Incoming(incoming) => incoming.size_hint(),
            Inner::Received(received) => received.size_hint(),
            Inner::Replay(replay) => replay.size_hint(),
            Inner::Messages(_) => SizeHint::default(),
            Inner::Peeked(peeked) => peeked.size_hint(),
        }
    }
}

impl Body {
    /// A gRPC client hears of a broken response in trailers, any other as the error it is.
    fn breaks(&mut self, error: BodyError) -> Option<Result<Frame<Bytes>, BodyError>> {
        let Watch::Response(watch) = &mut self.watch else {
            return Some(Err(error));
        };
        watch.end(broken(&error));
        let as_trailers = watch.is_grpc && watch.fails_with_trailers;
        // Whatever else arrives is of no use any more.
        self.inner = Inner::Done;
        Some(if as_trailers { Ok(Frame::trailers(broken_trailers(&error))) } else { Err(error) })
    }
}

impl Peeked {
    fn size_hint(&self) -> SizeHint {
        let rest = self.rest.size_hint();
        let peeked: usize = self.frames.iter().flatten().filter_map(Frame::data_ref).map(Bytes::len).sum();
        let mut hint = SizeHint::new();
        hint.set_lower(rest.lower() + peeked as u64);
        if let Some(upper) = rest.upper() {
            hint.set_upper(upper + peeked as u64);
        }
        hint
    }
}

impl Drop for Body {
    fn drop(&mut self) {
        let complete = self.is_end_stream();
        if let Watch::Response(watch) = &mut self.watch {
            // A body dropped before its end leaves bytes on the connection: it cannot be used again.
            if !complete && !watch.ended {
                watch.reusable = None;
            }
            watch.end(Broken { label: "", reason: if complete { "" } else { "UNKNOWN" } });
        }
    }
}

fn broken_trailers(error: &BodyError) -> HeaderMap {
    let (code, message) = match error {
        BodyError::Peer(_) => ("14", "upstream stream broke"),
        BodyError::TimedOut(Expired::Idle, _) => ("4", "stream idled out"),
        BodyError::TimedOut(..) => ("4", "response timed out"),
    };
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static(code));
    trailers.insert("grpc-message", HeaderValue::from_static(message));
    trailers
}
