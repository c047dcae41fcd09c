//! Cuts clients that begin a request head and do not finish it. A connection that is idle between requests costs no timer:
//! the clock starts with the first byte of a head.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    task::{Context, Poll},
    time::{Duration, Instant},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Bytes read from a client so far.
#[derive(Clone, Default)]
pub struct ReadCount(Arc<AtomicU64>);

impl ReadCount {
    fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }

    /// Resolves when fewer than this many bytes came within the limit; else never.
    pub async fn stays_below(self, bytes: u64, limit: Duration) {
        tokio::time::sleep(limit).await;
        if self.get() >= bytes {
            std::future::pending::<()>().await;
        }
    }
}

/// Counts what is read.
pub struct Counted<T> {
    io: T,
    read: ReadCount,
}

impl<T> Counted<T> {
    pub fn new(io: T) -> (Self, ReadCount) {
        let read = ReadCount::default();
        (Self { io, read: read.clone() }, read)
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Counted<T> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let result = Pin::new(&mut self.io).poll_read(cx, buf);
        self.read.0.fetch_add((buf.filled().len() - before) as u64, Relaxed);
        result
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Counted<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

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
        count.0.fetch_add(1, Relaxed);
        let begun = tokio::time::Instant::now();
        sleep.await;
        assert!(begun.elapsed() >= LIMIT);
    }

    #[tokio::test(start_paused = true)]
    async fn enough_bytes_in_time_are_never_cut() {
        let count = ReadCount::default();
        count.0.fetch_add(33, Relaxed);
        let cut = tokio::time::timeout(LIMIT * 10, count.clone().stays_below(33, LIMIT)).await;
        assert!(cut.is_err());
        count.stays_below(34, LIMIT).await;
    }
}
