//! Pings of one HTTP/2 connection: whether its other end is still there, and how far to open its windows.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use bytes::Bytes;
use h2::{Ping, PingPong, client::Connection};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::Sleep,
};
use weft_core::{adaptive_window::AdaptiveWindow, http2_params::KeepAlive};

use crate::read_count::ReadCount;

/// Between two pings that measure: at first, and when there was nothing left to learn for long.
const OFTEN: Duration = Duration::from_millis(100);
const SELDOM: Duration = Duration::from_secs(10);

pub struct Pings {
    pings: PingPong,
    /// One ping at a time, whatever for: any answer tells of both.
    asked: Option<Instant>,
    watch: Option<Watch>,
    measure: Option<Measure>,
}

struct Watch {
    keep_alive: KeepAlive,
    count: ReadCount,
    sleep: Pin<Box<Sleep>>,
    /// Bytes read when the sleep began.
    read: u64,
    awaits_answer: bool,
}

struct Measure {
    window: AdaptiveWindow,
    /// Of bodies only: what else the other end says needs no window.
    count: ReadCount,
    /// Bytes that no sample has to count: what led to a ping, in one burst perhaps, is the first that does.
    read: u64,
    asked_at: Option<Instant>,
    every: Duration,
}

impl Pings {
    /// watched: what was read of the connection. measured: what of it were bodies.
    pub fn new(pings: PingPong, watched: Option<(KeepAlive, ReadCount)>, measured: Option<ReadCount>) -> Self {
        let watch = watched.map(|(keep_alive, count)| Watch {
            keep_alive,
            sleep: Box::pin(tokio::time::sleep(keep_alive.interval)),
            read: count.get(),
            count,
            awaits_answer: false,
        });
        let measure = measured.map(|count| Measure {
            window: AdaptiveWindow::default(),
            count,
            read: 0,
            asked_at: None,
            every: OFTEN,
        });
        Self { pings, asked: None, watch, measure }
    }

    /// Ready when the other end owes an answer for too long. To be polled after the connection.
    pub fn poll_silent<T>(
        &mut self,
        connection: &mut Connection<T, Bytes>,
        is_busy: bool,
        cx: &mut Context<'_>,
    ) -> Poll<()>
    where
        T: AsyncRead + AsyncWrite + Unpin,
    {
        self.take_answer(connection, cx);
        self.measure();
        self.watch(is_busy, cx)
    }

    fn take_answer<T>(&mut self, connection: &mut Connection<T, Bytes>, cx: &mut Context<'_>)
    where
        T: AsyncRead + AsyncWrite + Unpin,
    {
        // Asked for each time, as it is also what wakes us.
        let Some(asked_at) = self.asked else { return };
        if !matches!(self.pings.poll_pong(cx), Poll::Ready(Ok(_))) {
            return;
        }
        self.asked = None;
        let Some(measure) = &mut self.measure else { return };
        let read = measure.count.get();
        let arrived = read - std::mem::replace(&mut measure.read, read);
        match measure.window.sample(arrived, asked_at.elapsed()) {
            Some(bytes) => {
                measure.every = OFTEN;
                connection.set_target_window_size(bytes);
                // Fails only while the other end has not taken the last size; the next sample sets another.
                let _ = connection.set_initial_window_size(bytes);
                cx.waker().wake_by_ref();
            }
            None => measure.every = (measure.every * 2).min(SELDOM),
        }
    }

    fn measure(&mut self) {
        let Some(measure) = &mut self.measure else { return };
        let read = measure.count.get();
        if self.asked.is_some() || measure.read == read {
            return;
        }
        if measure.asked_at.is_some_and(|at| at.elapsed() < measure.every) {
            measure.read = read;
            return;
        }
        measure.asked_at = Some(Instant::now());
        self.ask();
    }

    fn watch(&mut self, is_busy: bool, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            let Some(watch) = &mut self.watch else { return Poll::Pending };
            if watch.awaits_answer && self.asked.is_none() {
                watch.awaits_answer = false;
                watch.read = watch.count.get();
                watch.restart(watch.keep_alive.interval);
            }
            ready!(watch.sleep.as_mut().poll(cx));
            if watch.awaits_answer {
                return Poll::Ready(());
            }
            let read = watch.count.get();
            let is_quiet = std::mem::replace(&mut watch.read, read) == read;
            if is_quiet && (is_busy || watch.keep_alive.while_idle) {
                watch.awaits_answer = true;
                watch.restart(watch.keep_alive.timeout);
                self.ask();
            } else {
                watch.restart(watch.keep_alive.interval);
            }
        }
    }

    fn ask(&mut self) {
        if self.asked.is_none() && self.pings.send_ping(Ping::opaque()).is_ok() {
            self.asked = Some(Instant::now());
        }
    }
}

impl Watch {
    fn restart(&mut self, time: Duration) {
        self.sleep.as_mut().reset(tokio::time::Instant::now() + time);
    }
}
