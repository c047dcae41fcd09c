//! Watches the limits of one try while it waits for headers and while its body streams.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    task::{Context, Poll, ready},
    time::Instant,
};

use tokio::time::Sleep;
use weft_core::{
    failure::Expired,
    outbound::{Limits, Progress},
};

/// How far one try has come, told by both bodies.
pub struct Watched {
    epoch: Instant,
    /// Microseconds after the epoch, plus one; 0 while the request is not sent whole.
    sent_us: AtomicU64,
    moved_us: AtomicU64,
}

impl Watched {
    pub fn new(epoch: Instant) -> Arc<Self> {
        Arc::new(Self { epoch, sent_us: AtomicU64::new(0), moved_us: AtomicU64::new(1) })
    }

    fn now_us(&self) -> u64 {
        self.epoch.elapsed().as_micros() as u64 + 1
    }

    pub fn moved(&self) {
        self.moved_us.store(self.now_us(), Relaxed);
    }

    /// The request was sent whole, or given up; only the first call counts.
    pub fn sent(&self) {
        let _ = self.sent_us.compare_exchange(0, self.now_us(), Relaxed, Relaxed);
    }

    fn at(&self, micros: u64) -> Instant {
        self.epoch + std::time::Duration::from_micros(micros - 1)
    }

    pub fn sent_at(&self) -> Option<Instant> {
        match self.sent_us.load(Relaxed) {
            0 => None,
            micros => Some(self.at(micros)),
        }
    }

    fn progress(&self) -> Progress {
        Progress { sent_at: self.sent_at(), moved_at: self.at(self.moved_us.load(Relaxed)) }
    }
}

pub struct Deadlines {
    limits: Limits,
    watched: Arc<Watched>,
    sleep: Pin<Box<Sleep>>,
}

impl Deadlines {
    pub fn new(limits: Limits, watched: Arc<Watched>) -> Self {
        let sleep = Box::pin(tokio::time::sleep_until(watched.epoch.into()));
        Self { limits, watched, sleep }
    }

    /// The headers came: from here on only the limits of the whole and of the response count.
    pub fn headers_came(&mut self) {
        self.limits.headers = None;
        self.watched.moved();
    }

    pub fn moved(&self) {
        self.watched.moved();
    }

    pub fn poll_expired(&mut self, cx: &mut Context<'_>) -> Poll<Expired> {
        loop {
            match self.limits.check(Instant::now(), self.watched.progress()) {
                Err(expired) => return Poll::Ready(expired),
                Ok(None) => return Poll::Pending,
                Ok(Some(at)) => {
                    self.sleep.as_mut().reset(at.into());
                    ready!(self.sleep.as_mut().poll(cx));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{future::poll_fn, time::Duration};

    use super::*;

    #[tokio::test]
    async fn the_limit_that_runs_out_first_is_named() {
        let limits = Limits { idle: Some(Duration::from_millis(20)), ..Limits::default() };
        let mut deadlines = Deadlines::new(limits, Watched::new(Instant::now()));
        assert_eq!(poll_fn(|cx| deadlines.poll_expired(cx)).await, Expired::Idle);
    }
}
