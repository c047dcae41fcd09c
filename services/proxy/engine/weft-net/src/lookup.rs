//! A question to discovery, with its latest answer once there is one.

use std::sync::Arc;

use arc_swap::ArcSwapOption;
use tokio::sync::Notify;

pub struct Lookup<T> {
    current: ArcSwapOption<T>,
    answered: Notify,
}

impl<T> Default for Lookup<T> {
    fn default() -> Self {
        Self { current: ArcSwapOption::empty(), answered: Notify::new() }
    }
}

impl<T> Lookup<T> {
    pub fn current(&self) -> Option<Arc<T>> {
        self.current.load_full()
    }

    pub fn answer(&self, answer: T) {
        self.current.store(Some(Arc::new(answer)));
        self.answered.notify_waiters();
    }

    /// Waits as long as discovery takes.
    pub async fn discovered(&self) -> Arc<T> {
        loop {
            if let Some(answer) = self.current() {
                return answer;
            }
            let answered = self.answered.notified();
            tokio::pin!(answered);
            answered.as_mut().enable();
            // What came before the wait began wakes nobody.
            if let Some(answer) = self.current() {
                return answer;
            }
            answered.await;
        }
    }
}
