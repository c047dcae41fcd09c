//! What an HTTP/2 stream to a server carries: the request's body there, the answer's body back.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use h2::{Reason, RecvStream, SendStream};
use http::{HeaderMap, Response, header};
use http_body::{Body as _, Frame, SizeHint};

use crate::{
    body::{Body, BodyError},
    http2::Running,
    peer_error::PeerError,
};

/// The body of a request on its way.
pub struct Upload {
    body: Body,
    stream: SendStream<Bytes>,
    _running: Running,
}

impl Upload {
    pub fn new(body: Body, stream: SendStream<Bytes>, running: Running) -> Self {
        Self { body, stream, _running: running }
    }
}

impl Future for Upload {
    /// An error when the body broke off. Otherwise it was sent whole, or its server takes no more: the answer tells which.
    type Output = Result<(), BodyError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Self { body, stream, .. } = &mut *self;
        loop {
            if ready!(poll_room(stream, cx)).is_err() {
                return Poll::Ready(Ok(()));
            }
            let frame = match ready!(Pin::new(&mut *body).poll_frame(cx)) {
                Some(Ok(frame)) => frame,
                Some(Err(error)) => {
                    stream.send_reset(error.reset_reason());
                    return Poll::Ready(Err(error));
                }
                None => {
                    let _ = stream.send_data(Bytes::new(), true);
                    return Poll::Ready(Ok(()));
                }
            };
            let (sent, is_last) = match frame.into_data() {
                Ok(data) => {
                    let is_last = body.is_end_stream();
                    (stream.send_data(data, is_last), is_last)
                }
                Err(frame) => match frame.into_trailers() {
                    Ok(trailers) => (stream.send_trailers(trailers), true),
                    Err(_) => continue,
                },
            };
            if is_last || sent.is_err() {
                return Poll::Ready(Ok(()));
            }
        }
    }
}

/// Room for at least one byte, so that no more of a body is read than its server takes. An error when it takes none any more.
fn poll_room(stream: &mut SendStream<Bytes>, cx: &mut Context<'_>) -> Poll<Result<(), ()>> {
    stream.reserve_capacity(1);
    while stream.capacity() == 0 {
        match ready!(stream.poll_capacity(cx)) {
            Some(Ok(_)) => {}
            Some(Err(_)) | None => return Poll::Ready(Err(())),
        }
    }
    match stream.poll_reset(cx) {
        Poll::Ready(_) => Poll::Ready(Err(())),
        Poll::Pending => Poll::Ready(Ok(())),
    }
}

/// The body of an answer.
pub struct Received {
    stream: RecvStream,
    /// Bytes still to come, where the answer says how many there are.
    left: Option<u64>,
    data_has_ended: bool,
    running: Running,
}

impl Received {
    pub fn body_of(response: Response<RecvStream>, running: Running) -> Response<Body> {
        let length = content_length(response.headers());
        response.map(|stream| {
            let left = if stream.is_end_stream() { length.or(Some(0)) } else { length };
            Body::received(Self { stream, left, data_has_ended: false, running })
        })
    }

    pub fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, PeerError>>> {
        if !self.data_has_ended {
            match ready!(self.stream.poll_data(cx)) {
                Some(Ok(data)) => {
                    // Fails only for more than was received.
                    self.running.received(&data);
                    let _ = self.stream.flow_control().release_capacity(data.len());
                    self.left = self.left.map(|left| left.saturating_sub(data.len() as u64));
                    return Poll::Ready(Some(Ok(Frame::data(data))));
                }
                Some(Err(error)) => return Poll::Ready(self.breaks(error)),
                None => self.data_has_ended = true,
            }
        }
        Poll::Ready(match ready!(self.stream.poll_trailers(cx)) {
            Ok(trailers) => trailers.map(|trailers| Ok(Frame::trailers(trailers))),
            Err(error) => self.breaks(error),
        })
    }

    /// A server that has answered before the request was whole may reset the stream without an error (RFC 9113 8.1).
    fn breaks<T>(&self, error: h2::Error) -> Option<Result<T, PeerError>> {
        (error.reason() != Some(Reason::NO_ERROR)).then(|| Err(self.running.error(error)))
    }

    pub fn is_end_stream(&self) -> bool {
        self.stream.is_end_stream()
    }

    pub fn size_hint(&self) -> SizeHint {
        self.left.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

fn content_length(headers: &HeaderMap) -> Option<u64> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}
