//! A request body that can be sent again: what was read of it is kept, up to a limit.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body as HttpBody, Frame, SizeHint};
use parking_lot::Mutex;

use crate::body::{Body, BodyError};

/// Hands out the body of each try.
pub struct Replay(Arc<Mutex<Shared>>);

struct Shared {
    source: Body,
    kept: Vec<Bytes>,
    trailers: Option<HeaderMap>,
    size: usize,
    limit: usize,
    /// More was read than may be kept: no try can follow.
    is_capped: bool,
    is_complete: bool,
    /// Which try's body reads; those of earlier ones are given up.
    turn: u32,
}

/// The body of one try: what is kept, then what is still to come.
pub struct ReplayBody {
    shared: Arc<Mutex<Shared>>,
    turn: u32,
    next: usize,
    ended: bool,
}

impl Replay {
    /// None when the body is known to be longer than the limit, bytes.
    pub fn new(source: Body, limit: usize) -> Result<Self, Body> {
        let hint = source.size_hint();
        if hint.lower() > limit as u64 {
            return Err(source);
        }
        let is_complete = source.is_end_stream();
        let shared =
            Shared { source, kept: Vec::new(), trailers: None, size: 0, limit, is_capped: false, is_complete, turn: 0 };
        Ok(Self(Arc::new(Mutex::new(shared))))
    }

    pub fn body(&self) -> Body {
        let mut shared = self.0.lock();
        if shared.is_complete && shared.kept.is_empty() && shared.trailers.is_none() {
            return Body::empty();
        }
        shared.turn += 1;
        Body::replay(ReplayBody { shared: self.0.clone(), turn: shared.turn, next: 0, ended: false })
    }

    /// All of it was read, and all of it is kept. Who sends a body asks whether more will come, and where none will does
    /// not read on to the end.
    pub fn is_whole(&self) -> bool {
        let shared = self.0.lock();
        (shared.is_complete || shared.source.is_end_stream()) && !shared.is_capped
    }

    /// Nothing was read that is not kept.
    pub fn is_kept(&self) -> bool {
        !self.0.lock().is_capped
    }
}

impl ReplayBody {
    pub fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let mut shared = self.shared.lock();
        let shared = &mut *shared;
        if self.ended {
            return Poll::Ready(None);
        }
        if shared.turn != self.turn {
            // A later try reads now. This one must not end as if it were whole, nor wait for what will not come.
            self.ended = true;
            return Poll::Ready(Some(Err(BodyError::from(h2::Error::from(h2::Reason::CANCEL)))));
        }
        if let Some(data) = shared.kept.get(self.next) {
            self.next += 1;
            return Poll::Ready(Some(Ok(Frame::data(data.clone()))));
        }
        if !shared.is_complete {
            match ready!(Pin::new(&mut shared.source).poll_frame(cx)) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => {
                        shared.keep(&data);
                        self.next = shared.kept.len();
                        return Poll::Ready(Some(Ok(Frame::data(data))));
                    }
                    Err(frame) => shared.trailers = frame.into_trailers().ok(),
                },
                Some(Err(error)) => {
                    shared.is_capped = true;
                    self.ended = true;
                    return Poll::Ready(Some(Err(error)));
                }
                None => {}
            }
            shared.is_complete = true;
        }
        self.ended = true;
        Poll::Ready(shared.trailers.clone().map(|trailers| Ok(Frame::trailers(trailers))))
    }

    pub fn is_end_stream(&self) -> bool {
        let shared = self.shared.lock();
        let has_more = self.next < shared.kept.len() || shared.trailers.is_some();
        self.ended || (!has_more && (shared.is_complete || shared.source.is_end_stream()))
    }

    pub fn size_hint(&self) -> SizeHint {
        let shared = self.shared.lock();
        let kept: usize = shared.kept.iter().skip(self.next).map(Bytes::len).sum();
        let rest = if shared.is_complete { SizeHint::with_exact(0) } else { shared.source.size_hint() };
        let mut hint = SizeHint::new();
        hint.set_lower(kept as u64 + rest.lower());
        if let Some(upper) = rest.upper() {
            hint.set_upper(kept as u64 + upper);
        }
        hint
    }
}

impl Shared {
    fn keep(&mut self, data: &Bytes) {
        if self.is_capped {
            return;
        }
        self.size += data.len();
        if self.size > self.limit {
            self.is_capped = true;
            self.kept = Vec::new();
        } else {
            self.kept.push(data.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;

    use super::*;

    fn source(text: &'static str) -> Body {
        Body::full(Bytes::from_static(text.as_bytes()))
    }

    async fn read(body: Body) -> Bytes {
        body.collect().await.unwrap().to_bytes()
    }

    #[tokio::test]
    async fn a_body_within_the_limit_is_read_again() {
        let replay = Replay::new(source("hello"), 5).ok().unwrap();
        assert!(!replay.is_whole());
        assert_eq!(read(replay.body()).await, "hello");
        assert!(replay.is_whole());
        let again = replay.body();
        assert_eq!(again.size_hint().exact(), Some(5));
        assert_eq!(read(again).await, "hello");
    }

    #[tokio::test]
    async fn a_body_is_whole_with_its_last_frame() {
        let replay = Replay::new(source("hello"), 5).ok().unwrap();
        let mut body = replay.body();
        body.frame().await.unwrap().unwrap();
        assert!(body.is_end_stream() && replay.is_whole());
    }

    #[tokio::test]
    async fn a_body_known_to_be_longer_is_handed_back() {
        let back = Replay::new(source("hello"), 4).err().unwrap();
        assert_eq!(read(back).await, "hello");
    }

    #[tokio::test]
    async fn a_try_that_stopped_half_way_is_followed_by_a_whole_one() {
        let first_read = source("hello");
        let replay = Replay::new(first_read, 10).ok().unwrap();
        let mut first = replay.body();
        assert_eq!(first.frame().await.unwrap().unwrap().into_data().unwrap(), "hello");
        assert!(replay.is_kept());
        let second = replay.body();
        // Whoever still sends the first is told to stop, and does not take it for whole.
        assert_eq!(first.frame().await.unwrap().unwrap_err().reset_reason(), h2::Reason::CANCEL);
        assert_eq!(read(second).await, "hello");
    }

    #[tokio::test]
    async fn an_empty_body_stays_empty() {
        let replay = Replay::new(Body::empty(), 10).ok().unwrap();
        assert!(replay.body().is_end_stream());
        assert!(replay.is_whole());
    }
}
