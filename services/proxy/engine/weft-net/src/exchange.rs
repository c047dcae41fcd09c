//! Golden metrics for opaque bytes: a client's burst and the server's first answer to it make one exchange. Our addition;
//! it gives protocols that the proxy cannot read a rate, a success rate and latencies.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    task::{Context, Poll, ready},
    time::Instant,
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use weft_core::metrics::{Counter, Histogram, Labels};

use crate::{
    connection_record::{Side, Tally},
    metrics::Metrics,
    splice::splice,
};

/// Series of one kind of connection.
pub struct ExchangeMetrics {
    answered: Arc<Counter>,
    unanswered: Arc<Counter>,
    latency_ms: Arc<Histogram>,
}

impl ExchangeMetrics {
    pub fn new(metrics: &Metrics, labels: &Labels) -> Self {
        let counter = |result| metrics.exchanges.series(&labels.clone().with("result", result));
        Self {
            answered: counter("answered"),
            unanswered: counter("unanswered"),
            latency_ms: metrics.exchange_latency.series(labels),
        }
    }
}

/// Copies both ways until both ends are done, counting exchanges. One that the server left open, by closing or breaking
/// the connection before it answered, is unanswered. How it ends is told to the tally.
pub async fn splice_counted<C, S>(client: &mut C, server: &mut S, metrics: &ExchangeMetrics, tally: &Tally)
where
    C: AsyncRead + AsyncWrite + Unpin,
    S: AsyncRead + AsyncWrite + Unpin,
{
    let turns = Turns { metrics, tally, epoch: Instant::now(), open_since: AtomicU64::new(0) };
    let mut client = Observed { io: client, turns: &turns, side: Side::Client };
    let mut server = Observed { io: server, turns: &turns, side: Side::Server };
    let _ = splice(&mut client, &mut server).await;
}

/// Both directions run in one task; atomics only make that task movable between threads.
struct Turns<'a> {
    metrics: &'a ExchangeMetrics,
    tally: &'a Tally,
    epoch: Instant,
    /// Microseconds after the epoch, plus one; 0 while nothing waits for an answer.
    open_since: AtomicU64,
}

impl Turns<'_> {
    fn asked(&self) {
        if self.open_since.load(Relaxed) == 0 {
            self.open_since.store(self.epoch.elapsed().as_micros() as u64 + 1, Relaxed);
        }
    }

    fn answered(&self) {
        let since = self.open_since.swap(0, Relaxed);
        // A server that speaks first answers nothing.
        if since > 0 {
            let waited_us = (self.epoch.elapsed().as_micros() as u64 + 1).saturating_sub(since);
            self.metrics.answered.incr();
            self.metrics.latency_ms.observe((waited_us / 1000) as f64);
        }
    }

    fn server_ended(&self) {
        if self.open_since.swap(0, Relaxed) > 0 {
            self.metrics.unanswered.incr();
        }
    }
}

struct Observed<'a, T> {
    io: &'a mut T,
    turns: &'a Turns<'a>,
    side: Side,
}

impl<T: AsyncRead + Unpin> AsyncRead for Observed<'_, T> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        let result = ready!(Pin::new(&mut *this.io).poll_read(cx, buf));
        let count = buf.filled().len() - before;
        let is_over = result.is_err() || count == 0;
        match &result {
            Err(error) => this.turns.tally.broke(this.side, error),
            Ok(()) if is_over => this.turns.tally.done(this.side),
            Ok(()) => this.turns.tally.passed(this.side, count),
        }
        match (this.side, is_over) {
            (Side::Client, false) => this.turns.asked(),
            (Side::Server, false) => this.turns.answered(),
            (Side::Server, true) => this.turns.server_ended(),
            // The client may have sent its last request and wait for the answer.
            (Side::Client, true) => {}
        }
        Poll::Ready(result)
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Observed<'_, T> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let result = Pin::new(&mut *this.io).poll_write(cx, buf);
        if let Poll::Ready(Err(error)) = &result {
            this.turns.tally.broke(this.side, error);
        }
        result
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.get_mut().io).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.get_mut().io).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::*;

    #[tokio::test]
    async fn bursts_that_are_answered_and_one_that_is_not() {
        let (mut app, mut near) = duplex(1024);
        let (mut far, mut server) = duplex(1024);
        let all = Metrics::new();
        let metrics = ExchangeMetrics::new(&all, &Labels::default());
        let talk = async {
            let mut buffer = [0; 64];
            for burst in [&b"one"[..], b"two"] {
                app.write_all(burst).await.unwrap();
                server.read_exact(&mut buffer[..3]).await.unwrap();
                // Two writes of one answer are one answer.
                server.write_all(b"an").await.unwrap();
                app.read_exact(&mut buffer[..2]).await.unwrap();
                server.write_all(b"swer").await.unwrap();
                app.read_exact(&mut buffer[..4]).await.unwrap();
            }
            app.write_all(b"three").await.unwrap();
            server.read_exact(&mut buffer[..5]).await.unwrap();
            drop(server);
            drop(app);
        };
        let tally = Tally::default();
        tokio::join!(talk, splice_counted(&mut near, &mut far, &metrics, &tally));
        assert_eq!((metrics.answered.value(), metrics.unanswered.value(), metrics.latency_ms.count()), (2, 1, 2));
    }

    #[tokio::test]
    async fn a_server_that_speaks_first_answers_nothing() {
        let (app, mut near) = duplex(64);
        let (mut far, mut server) = duplex(64);
        let all = Metrics::new();
        let metrics = ExchangeMetrics::new(&all, &Labels::default());
        server.write_all(b"220 ready").await.unwrap();
        drop((app, server));
        splice_counted(&mut near, &mut far, &metrics, &Tally::default()).await;
        assert_eq!((metrics.answered.value(), metrics.unanswered.value()), (0, 0));
    }
}
