//! Counts connections in flight and tells them to finish.

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};

use tokio::sync::{Notify, watch};

pub struct Drain {
    open: AtomicU32,
    idle: Notify,
    draining: watch::Sender<bool>,
}

/// Held by every data-plane connection until its last byte.
pub struct InFlight(Arc<Drain>);

impl Drain {
    pub fn new() -> Arc<Self> {
        Arc::new(Self { open: AtomicU32::new(0), idle: Notify::new(), draining: watch::Sender::new(false) })
    }

    pub fn enter(self: &Arc<Self>) -> InFlight {
        self.open.fetch_add(1, Ordering::Relaxed);
        InFlight(self.clone())
    }

    pub fn open(&self) -> u32 {
        self.open.load(Ordering::Relaxed)
    }

    pub fn begin(&self) {
        self.draining.send_replace(true);
    }

    /// Resolves when draining has begun.
    pub async fn begun(&self) {
        let mut draining = self.draining.subscribe();
        // The sender lives in self, so waiting cannot fail while we are borrowed.
        let _ = draining.wait_for(|draining| *draining).await;
    }

    pub async fn finished(&self) {
        loop {
            let idle = self.idle.notified();
            if self.open() == 0 {
                return;
            }
            idle.await;
        }
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        if self.0.open.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.0.idle.notify_waiters();
        }
    }
}
