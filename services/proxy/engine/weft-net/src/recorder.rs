//! Keeps decision records, a bounded number of each kind, and knows who taps the proxy now.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed},
    },
};

use arc_swap::{ArcSwap, Guard};
use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::mpsc;
use weft_core::{
    metrics::{Counter, Labels},
    tap::TapMatch,
};
use weft_proto::{
    decision::{Decision, DecisionList, ListDecisions},
    linkerd::tap::TapEvent,
};

use crate::{grpc, metrics::Metrics};

/// Of failures and of sampled successes, each: about half a MiB when full.
const MAX_KEPT: usize = 512;
/// One request in so many is kept although it succeeded.
const SAMPLE_EVERY: u64 = 100;
/// Events that wait for a slow tap client; more are dropped and counted.
const TAP_BUFFER: usize = 400;
/// Taps at once; each costs every request a look.
const MAX_TAPS: usize = 32;

pub struct Recorder {
    connections: AtomicU32,
    requests: AtomicU64,
    kept: Mutex<Kept>,
    taps: ArcSwap<Vec<Arc<Tap>>>,
    /// The access log or traces are on, for good.
    is_logging: bool,
    is_tapped: AtomicBool,
    dropped: Arc<Counter>,
}

#[derive(Default)]
struct Kept {
    failures: VecDeque<Decision>,
    samples: VecDeque<Decision>,
    forgotten: u64,
}

/// One client's tap.
pub struct Tap {
    pub matcher: TapMatch,
    /// Headers and trailers are wanted.
    pub extracts: bool,
    left: AtomicU32,
    events: mpsc::Sender<Bytes>,
    dropped: Arc<Counter>,
}

impl Recorder {
    pub fn new(metrics: &Metrics, is_logging: bool) -> Self {
        Self {
            connections: AtomicU32::new(0),
            requests: AtomicU64::new(0),
            kept: Mutex::default(),
            taps: ArcSwap::default(),
            is_logging,
            is_tapped: AtomicBool::new(false),
            dropped: metrics.tap_dropped.series(&Labels::default()),
        }
    }

    pub fn next_connection(&self) -> u32 {
        self.connections.fetch_add(1, Relaxed)
    }

    /// Whether this request is kept even if it succeeds; the first one is, so that a young proxy has something to show.
    pub fn samples(&self) -> bool {
        self.requests.fetch_add(1, Relaxed).is_multiple_of(SAMPLE_EVERY)
    }

    /// Somebody may want to look on while requests run.
    pub fn is_observed(&self) -> bool {
        self.is_logging || self.is_tapped.load(Relaxed)
    }

    pub fn keep(&self, decision: Decision) {
        let mut kept = self.kept.lock();
        let ring = if decision.is_failure { &mut kept.failures } else { &mut kept.samples };
        ring.push_back(decision);
        if ring.len() > MAX_KEPT {
            ring.pop_front();
            kept.forgotten += 1;
        }
    }

    /// Newest first.
    pub fn list(&self, asked: &ListDecisions) -> DecisionList {
        let kept = self.kept.lock();
        let samples = kept.samples.iter().filter(|_| !asked.failures_only);
        let mut decisions: Vec<Decision> = kept
            .failures
            .iter()
            .chain(samples)
            .filter(|decision| asked.id.is_empty() || decision.id == asked.id)
            .cloned()
            .collect();
        let forgotten = kept.forgotten;
        drop(kept);
        decisions.sort_by_key(|decision| std::cmp::Reverse(decision.started_at.map(|at| (at.seconds, at.nanos))));
        if asked.limit > 0 {
            decisions.truncate(asked.limit as usize);
        }
        DecisionList { decisions, forgotten }
    }

    pub fn taps(&self) -> Guard<Arc<Vec<Arc<Tap>>>> {
        self.taps.load()
    }

    /// None when there are too many already. The receiver ends once the tap has seen `limit` requests to their ends.
    pub fn tap(&self, matcher: TapMatch, extracts: bool, limit: u32) -> Option<(Weak<Tap>, mpsc::Receiver<Bytes>)> {
        let (events, receiver) = mpsc::channel(TAP_BUFFER);
        let dropped = self.dropped.clone();
        let tap = Arc::new(Tap { matcher, extracts, left: AtomicU32::new(limit), events, dropped });
        let mut is_added = false;
        self.change(|taps| {
            is_added = taps.len() < MAX_TAPS;
            if is_added {
                taps.push(tap.clone());
            }
        });
        is_added.then(|| (Arc::downgrade(&tap), receiver))
    }

    /// Requests that began under the tap still report to it, if its client is there.
    pub fn untap(&self, tap: &Arc<Tap>) {
        self.change(|taps| taps.retain(|other| !Arc::ptr_eq(other, tap)));
    }

    /// Takes one of the requests that the tap may still see.
    pub fn claims(&self, tap: &Arc<Tap>) -> bool {
        let Ok(left) = tap.left.fetch_update(Relaxed, Relaxed, |left| left.checked_sub(1)) else {
            return false;
        };
        if left == 1 {
            self.untap(tap);
        }
        true
    }

    fn change(&self, mut change: impl FnMut(&mut Vec<Arc<Tap>>)) {
        self.taps.rcu(|taps| {
            let mut taps = Vec::clone(taps);
            change(&mut taps);
            taps
        });
        self.is_tapped.store(!self.taps.load().is_empty(), Relaxed);
    }
}

impl Tap {
    pub fn send(&self, event: &TapEvent) {
        if self.events.try_send(grpc::frame(event)).is_err() {
            self.dropped.incr();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn recorder() -> Recorder {
        Recorder::new(&Metrics::new(), false)
    }

    fn decision(id: u32, is_failure: bool) -> Decision {
        let started_at = Some(prost_types::Timestamp { seconds: id.into(), nanos: 0 });
        Decision { id: format!("0:{id}"), is_failure, started_at, ..Decision::default() }
    }

    #[test]
    fn many_successes_push_out_no_failure() {
        let recorder = recorder();
        recorder.keep(decision(0, true));
        for id in 1..2_000 {
            recorder.keep(decision(id, false));
        }
        let all = recorder.list(&ListDecisions::default());
        assert_eq!((all.decisions.len(), all.forgotten), (MAX_KEPT + 1, 2_000 - 1 - MAX_KEPT as u64));
        assert_eq!(all.decisions[0].id, "0:1999");
        let failures = recorder.list(&ListDecisions { failures_only: true, ..Default::default() });
        assert_eq!(failures.decisions.iter().map(|one| one.id.as_str()).collect::<Vec<_>>(), ["0:0"]);
        let one = recorder.list(&ListDecisions { id: "0:1999".to_owned(), ..Default::default() });
        assert_eq!(one.decisions.len(), 1);
        assert_eq!(recorder.list(&ListDecisions { limit: 3, ..Default::default() }).decisions.len(), 3);
    }

    #[test]
    fn a_tap_sees_as_many_requests_as_it_asked_for() {
        let recorder = recorder();
        let everything = || TapMatch::All(Vec::new());
        assert!(!recorder.is_observed());
        let (tap, mut events) = recorder.tap(everything(), false, 2).unwrap();
        let tap = tap.upgrade().unwrap();
        assert!(recorder.is_observed());
        assert!(recorder.claims(&tap) && recorder.claims(&tap));
        assert!(!recorder.claims(&tap));
        assert!(!recorder.is_observed(), "a tap that saw enough costs nothing");
        assert!(events.try_recv() == Err(mpsc::error::TryRecvError::Empty), "its requests may still report");
        drop(tap);
        assert!(events.try_recv() == Err(mpsc::error::TryRecvError::Disconnected));
    }

    #[test]
    fn taps_are_bounded() {
        let recorder = recorder();
        let taps: Vec<_> = (0..MAX_TAPS).map(|_| recorder.tap(TapMatch::All(Vec::new()), false, 1).unwrap()).collect();
        assert!(recorder.tap(TapMatch::All(Vec::new()), false, 1).is_none());
        recorder.untap(&taps[0].0.upgrade().unwrap());
        assert!(recorder.tap(TapMatch::All(Vec::new()), false, 1).is_some());
    }

    #[test]
    fn one_success_in_a_hundred_is_kept_and_the_first_is() {
        let recorder = recorder();
        let kept: Vec<_> = (0..250).filter(|_| recorder.samples()).collect();
        assert_eq!(kept, [0, 100, 200]);
    }
}
