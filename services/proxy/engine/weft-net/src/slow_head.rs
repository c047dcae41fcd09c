//! Cuts clients that begin a request head and do not finish it. A connection that is idle between requests costs no timer:
//! the clock starts with the first byte of a head.

use std::{
    pin::Pin,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use crate::read_count::ReadCount;

/// hyper's clock for the head of a request. It asks for a sleep when it begins to wait for one, which may be long before
/// the client has anything to say.
#[derive(Clone)]
pub struct HeadTimer(pub ReadCount);

impl hyper::rt::Timer for HeadTimer {
    fn sleep(&self, duration: Duration) -> Pin<Box<dyn hyper::rt::Sleep>> {
        Box::pin(HeadSleep { read: self.0.clone(), read_before: self.0.get(), limit: duration, sleep: None })
    }

    fn sleep_until(&self, deadline: Instant) -> Pin<Box<dyn hyper::rt::Sleep>> {
        self.sleep(deadline.saturating_duration_since(Instant::now()))
    }
}

struct HeadSleep {
    read: ReadCount,
    read_before: u64,
    limit: Duration,
    sleep: Option<Pin<Box<tokio::time::Sleep>>>,
}

impl Future for HeadSleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        // Polled again whenever bytes have come, so nothing needs to wake it before.
        if self.read.get() == self.read_before {
            return Poll::Pending;
        }
        let limit = self.limit;
        self.sleep.get_or_insert_with(|| Box::pin(tokio::time::sleep(limit))).as_mut().poll(cx)
    }
}

impl hyper::rt::Sleep for HeadSleep {}

#[cfg(test)]
mod tests {
    use hyper::rt::Timer;

    use super::*;

    const LIMIT: Duration = Duration::from_millis(20);

    #[tokio::test(start_paused = true)]
    async fn the_clock_starts_with_the_first_byte() {
        let count = ReadCount::default();
        let mut sleep = HeadTimer(count.clone()).sleep(LIMIT);
        let idle = std::future::poll_fn(|cx| Poll::Ready(sleep.as_mut().poll(cx))).await;
        assert!(idle.is_pending());
        tokio::time::sleep(LIMIT * 3).await;
        count.add(1);
        let begun = tokio::time::Instant::now();
        sleep.await;
        assert!(begun.elapsed() >= LIMIT);
    }
}
