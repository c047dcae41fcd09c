//! As much of gRPC over HTTP/2 as the tap port needs: length-prefixed messages and statuses.

use std::task::{Context, Poll, ready};

use bytes::{BufMut, Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, Response, StatusCode, Version, header};
use http_body::Frame;
use http_body_util::{BodyExt, Limited};
use prost::Message;
use tokio::sync::mpsc;

use crate::{body::Body, respond};

const PREFIX: usize = 5;
const MAX_REQUEST: usize = 64 * 1024;

/// Source: the gRPC protocol's status codes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Code {
    Ok = 0,
    InvalidArgument = 3,
    ResourceExhausted = 8,
    Unimplemented = 12,
    Unauthenticated = 16,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    pub code: Code,
    pub message: String,
}

impl Status {
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }

    pub fn ok() -> Self {
        Self::new(Code::Ok, "")
    }

    pub fn trailers(&self) -> HeaderMap {
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", HeaderValue::from(self.code as u16));
        if !self.message.is_empty() {
            trailers.insert("grpc-message", respond::text(&self.message));
        }
        trailers
    }
}

/// One uncompressed message as it goes over the wire.
pub fn frame(message: &impl Message) -> Bytes {
    let length = message.encoded_len();
    let mut out = BytesMut::with_capacity(PREFIX + length);
    out.put_u8(0);
    out.put_u32(length as u32);
    message.encode(&mut out).expect("the buffer grows");
    out.freeze()
}

/// The only message of a unary or server-streaming call.
pub async fn message<M: Message + Default>(body: Body) -> Result<M, Status> {
    let invalid = |why: &str| Status::new(Code::InvalidArgument, why);
    let bytes = Limited::new(body, MAX_REQUEST).collect().await;
    let bytes = bytes.map_err(|_| invalid("the request broke off, or is too long"))?.to_bytes();
    let Some((prefix, rest)) = bytes.split_first_chunk::<PREFIX>() else {
        return Err(invalid("the request has no message"));
    };
    if prefix[0] != 0 {
        return Err(Status::new(Code::Unimplemented, "compressed messages are not supported"));
    }
    let length = u32::from_be_bytes([prefix[1], prefix[2], prefix[3], prefix[4]]) as usize;
    if rest.len() != length {
        return Err(invalid("the request must hold exactly one message"));
    }
    M::decode(rest).map_err(|error| invalid(&error.to_string()))
}

/// The messages of an answer, framed, and the trailers behind them.
pub struct Messages {
    ready: Option<Bytes>,
    more: Option<mpsc::Receiver<Bytes>>,
    trailers: Option<HeaderMap>,
    /// Dropped with the answer, however it ends.
    _guard: Option<Box<dyn Send + Sync>>,
}

impl Messages {
    pub fn one(message: &impl Message) -> Self {
        Self { ready: Some(frame(message)), more: None, trailers: Some(Status::ok().trailers()), _guard: None }
    }

    pub fn stream(frames: mpsc::Receiver<Bytes>, guard: Box<dyn Send + Sync>) -> Self {
        Self { ready: None, more: Some(frames), trailers: Some(Status::ok().trailers()), _guard: Some(guard) }
    }

    pub fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Frame<Bytes>>> {
        if let Some(ready) = self.ready.take() {
            return Poll::Ready(Some(Frame::data(ready)));
        }
        if let Some(more) = &mut self.more {
            match ready!(more.poll_recv(cx)) {
                Some(frame) => return Poll::Ready(Some(Frame::data(frame))),
                None => self.more = None,
            }
        }
        Poll::Ready(self.trailers.take().map(Frame::trailers))
    }
}

/// A call that ends before any message.
pub fn refused(status: &Status) -> Response<Body> {
    let mut response = with_body(Body::empty());
    response.headers_mut().extend(status.trailers());
    response
}

/// A call that is answered by the body's messages and trailers.
pub fn answer(messages: Messages) -> Response<Body> {
    with_body(Body::messages(messages))
}

fn with_body(body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = StatusCode::OK;
    *response.version_mut() = Version::HTTP_2;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    response
}
