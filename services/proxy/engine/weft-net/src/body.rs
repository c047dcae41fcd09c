//! The one body type of the proxy: passes frames through and notices the moments that metrics, balancing and connection
//! reuse depend on (observability.md 1.3).

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Instant,
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue};
use http_body::{Body as HttpBody, Frame, SizeHint};
use hyper::body::Incoming;
use weft_core::{
    headers::grpc_status,
    metrics::{HttpMetrics, Outcome},
};

use crate::{client::Reusable, endpoint::Pending};

pub struct Body {
    inner: Inner,
    watch: Watch,
}

enum Inner {
    Done,
    Full(Bytes),
    Incoming(Incoming),
}

enum Watch {
    Nothing,
    /// Counts the request when its body is first polled.
    Request(Arc<HttpMetrics>),
    Response(Box<ResponseWatch>),
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
    latency_done: bool,
    ended: bool,
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
            latency_done: false,
            ended: false,
        }
    }

    fn first_frame(&mut self) {
        if !std::mem::replace(&mut self.latency_done, true) {
            self.metrics.latency(Some(self.status), self.started.elapsed());
            if let Some(pending) = self.pending.take() {
                pending.sample();
            }
        }
    }

    fn end(&mut self, error: &'static str) {
        if !std::mem::replace(&mut self.ended, true) {
            self.first_frame();
            self.metrics.response(Outcome {
                status: Some(self.status),
                is_grpc: self.is_grpc,
                grpc_status: self.grpc_status,
                error,
            });
            match self.reusable.take() {
                Some(reusable) if error.is_empty() => reusable.give_back(),
                _ => {}
            }
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

    /// Counts a request: now if it has no body, else when the body is first asked for.
    pub fn count_request(&mut self, metrics: &Arc<HttpMetrics>) {
        if self.is_end_stream() {
            metrics.requests.incr();
        } else {
            self.watch = Watch::Request(metrics.clone());
        }
    }

    pub fn watch_response(&mut self, watch: ResponseWatch) {
        self.watch = Watch::Response(Box::new(watch));
    }

    /// The reason of a broken stream, as a label.
    fn error_label(error: &hyper::Error) -> &'static str {
        use std::error::Error;
        if error.is_timeout() {
            return "timeout";
        }
        let h2 = error.source().and_then(|source| source.downcast_ref::<h2::Error>()).and_then(h2::Error::reason);
        match h2 {
            Some(h2::Reason::CANCEL) => "h2(CANCEL)",
            Some(h2::Reason::REFUSED_STREAM) => "h2(REFUSED_STREAM)",
            Some(h2::Reason::INTERNAL_ERROR) => "h2(INTERNAL_ERROR)",
            Some(h2::Reason::PROTOCOL_ERROR) => "h2(PROTOCOL_ERROR)",
            Some(h2::Reason::NO_ERROR) => "h2(NO_ERROR)",
            Some(h2::Reason::ENHANCE_YOUR_CALM) => "h2(ENHANCE_YOUR_CALM)",
            Some(_) => "h2(OTHER)",
            None => "unclassified",
        }
    }
}

impl HttpBody for Body {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let this = &mut *self;
        if let Watch::Request(metrics) = &this.watch {
            metrics.requests.incr();
            this.watch = Watch::Nothing;
        }
        let frame = match &mut this.inner {
            Inner::Done => None,
            Inner::Full(bytes) => {
                let bytes = std::mem::take(bytes);
                this.inner = Inner::Done;
                Some(Ok(Frame::data(bytes)))
            }
            Inner::Incoming(incoming) => ready!(Pin::new(incoming).poll_frame(cx)),
        };
        let Watch::Response(watch) = &mut this.watch else {
            return Poll::Ready(frame);
        };
        match frame {
            None => {
                watch.end("");
                Poll::Ready(None)
            }
            Some(Ok(frame)) => {
                watch.first_frame();
                if let Some(trailers) = frame.trailers_ref() {
                    watch.grpc_status = watch.grpc_status.or_else(|| grpc_status(trailers));
                    watch.end("");
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Some(Err(error)) => {
                watch.end(Self::error_label(&error));
                if watch.is_grpc && watch.fails_with_trailers {
                    this.inner = Inner::Done;
                    return Poll::Ready(Some(Ok(Frame::trailers(unavailable()))));
                }
                Poll::Ready(Some(Err(error)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.inner {
            Inner::Done => true,
            Inner::Full(_) => false,
            Inner::Incoming(incoming) => incoming.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.inner {
            Inner::Done => SizeHint::with_exact(0),
            Inner::Full(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Inner::Incoming(incoming) => incoming.size_hint(),
        }
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
            watch.end("");
        }
    }
}

fn unavailable() -> HeaderMap {
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static("14"));
    trailers.insert("grpc-message", HeaderValue::from_static("upstream stream broke"));
    trailers
}
