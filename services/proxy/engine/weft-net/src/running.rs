//! The threads that do the engine's work. One worker needs no work stealing, so it gets the runtime without it.

use std::{io, thread, time::Duration};

use tokio::{
    runtime::{Builder, Handle},
    sync::oneshot,
};

/// How long tasks may take to notice that the runtime ends.
const STOP_WITHIN: Duration = Duration::from_millis(200);
const NAME: &str = "weft-engine";

pub struct Running {
    handle: Handle,
    /// Ends the runtime when it is dropped.
    keep: oneshot::Sender<()>,
    owner: thread::JoinHandle<()>,
}

impl Running {
    pub fn start(workers: usize) -> io::Result<Self> {
        let mut builder = if workers == 1 { Builder::new_current_thread() } else { Builder::new_multi_thread() };
        if workers > 1 {
            builder.worker_threads(workers);
        }
        let runtime = builder.thread_name(NAME).enable_all().build()?;
        let handle = runtime.handle().clone();
        let (keep, ended) = oneshot::channel::<()>();
        let owner = thread::Builder::new().name(NAME.to_owned()).spawn(move || {
            let _ = runtime.block_on(ended);
            runtime.shutdown_timeout(STOP_WITHIN);
        })?;
        Ok(Self { handle, keep, owner })
    }

    pub fn handle(&self) -> &Handle {
        &self.handle
    }

    pub fn stop(self) {
        drop(self.keep);
        // A panic there has been reported by its own hook; there is nothing left to end.
        let _ = self.owner.join();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_runs_with_one_worker_and_with_several_until_the_stop() {
        for workers in [1, 2] {
            let running = Running::start(workers).unwrap();
            let (sent, received) = std::sync::mpsc::channel();
            running.handle().spawn(async move {
                tokio::time::sleep(Duration::from_millis(1)).await;
                sent.send(workers).unwrap();
                std::future::pending::<()>().await;
            });
            assert_eq!(received.recv_timeout(Duration::from_secs(5)), Ok(workers));
            running.stop();
            // The task that would have waited for ever is gone, and its sender with it.
            assert!(received.recv().is_err());
        }
    }
}
