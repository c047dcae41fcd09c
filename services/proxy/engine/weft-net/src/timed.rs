//! The time a future works, as opposed to the time it waits.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
    time::{Duration, Instant},
};

pin_project_lite::pin_project! {
    /// Gives the future's output and how long its polls took together.
    pub struct Timed<F> {
        #[pin]
        future: F,
        busy: Duration,
    }
}

impl<F> Timed<F> {
    pub fn new(future: F) -> Self {
        Self { future, busy: Duration::ZERO }
    }
}

impl<F: Future> Future for Timed<F> {
    type Output = (F::Output, Duration);

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let started = Instant::now();
        let polled = this.future.poll(cx);
        *this.busy += started.elapsed();
        polled.map(|output| (output, *this.busy))
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::*;

    #[test]
    fn waiting_is_not_working() {
        let waits = Duration::from_millis(20);
        let mut polls = 0;
        let future = std::future::poll_fn(|_| {
            polls += 1;
            if polls == 1 { Poll::Pending } else { Poll::Ready(7) }
        });
        let mut timed = std::pin::pin!(Timed::new(future));
        let mut cx = Context::from_waker(Waker::noop());
        let started = Instant::now();
        assert!(timed.as_mut().poll(&mut cx).is_pending());
        std::thread::sleep(waits);
        let Poll::Ready((output, busy)) = timed.as_mut().poll(&mut cx) else { panic!("ready at the second poll") };
        assert_eq!(output, 7);
        assert!(busy <= started.elapsed() - waits, "{busy:?}");
    }
}
