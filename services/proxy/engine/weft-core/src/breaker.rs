//! Failure accrual of one endpoint: open, shut after failures, on probation after a wait (wire.md 7.3).
//! Time and randomness are arguments.

use std::time::{Duration, Instant};

use weft_proto::linkerd::outbound::{self as wire, failure_accrual::Kind};

use crate::backoff::Backoff;

const BUCKETS: usize = 10;
const DEFAULT_WINDOW: Duration = Duration::from_secs(10);
const SHORTEST_WINDOW: Duration = Duration::from_millis(10);
const MOST_SAMPLES: u32 = 1_000_000;

/// What a policy says about failing endpoints.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Accrual {
    /// 0: never.
    pub max_consecutive: u32,
    pub rate: Option<SuccessRate>,
    pub backoff: Backoff,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SuccessRate {
    /// Below this share of successes the endpoint is shut.
    pub threshold: f64,
    pub window: Duration,
    pub min_samples: u32,
}

/// How an answer counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    Success,
    Failure,
    /// 429 and gRPC RESOURCE_EXHAUSTED: a failure for the success rate and for a probe, a success otherwise.
    RateLimited,
}

/// Whether an endpoint takes a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    Open,
    /// One request that decides.
    Probe,
    /// Not before this time; None while a probe is under way.
    Shut(Option<Instant>),
}

#[derive(Debug)]
pub struct Breaker {
    accrual: Accrual,
    state: State,
    consecutive: u32,
    /// Times shut since the last success.
    trips: u32,
    window: Window,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Open,
    Shut { until: Instant },
    Probing,
}

impl Accrual {
    /// Errors name what the policy got wrong (wire.md 2.7).
    pub fn from_wire(accrual: &wire::FailureAccrual) -> Result<Self, String> {
        let backoff = |backoff: Option<&wire::ExponentialBackoff>| {
            Backoff::from_wire(backoff.ok_or("failure accrual has no backoff")?)
        };
        Ok(match accrual.kind.as_ref().ok_or("failure accrual has no kind")? {
            Kind::ConsecutiveFailures(c) => {
                Self { max_consecutive: c.max_failures, rate: None, backoff: backoff(c.backoff.as_ref())? }
            }
            Kind::Unified(u) => {
                let threshold = u.success_rate_threshold;
                if !(0.0..=1.0).contains(&threshold) {
                    return Err("success rate threshold must be between 0 and 1".to_owned());
                }
                if u.min_requests > MOST_SAMPLES {
                    return Err(format!("success rate needs at most {MOST_SAMPLES} requests"));
                }
                let window = u.decay.and_then(|d| Duration::try_from(d).ok()).unwrap_or(DEFAULT_WINDOW);
                if threshold > 0.0 && window < SHORTEST_WINDOW {
                    return Err("success rate window must be 10ms or more".to_owned());
                }
                let rate = SuccessRate { threshold, window, min_samples: u.min_requests };
                Self {
                    max_consecutive: u.max_consecutive_failures,
                    rate: Some(rate).filter(|rate| rate.threshold > 0.0),
                    backoff: backoff(u.backoff.as_ref())?,
                }
            }
        })
    }
}

impl Breaker {
    pub fn new(accrual: Accrual, now: Instant) -> Self {
        let length = accrual.rate.map_or(DEFAULT_WINDOW, |rate| rate.window);
        Self { accrual, state: State::Open, consecutive: 0, trips: 0, window: Window::new(length, now) }
    }

    pub fn admission(&self, now: Instant) -> Admission {
        match self.state {
            State::Open => Admission::Open,
            State::Shut { until } if until <= now => Admission::Probe,
            State::Shut { until } => Admission::Shut(Some(until)),
            State::Probing => Admission::Shut(None),
        }
    }

    /// A probe begins, if one is due. True when the caller's request is it.
    pub fn begin_probe(&mut self, now: Instant) -> bool {
        let is_due = self.admission(now) == Admission::Probe;
        if is_due {
            self.state = State::Probing;
        }
        is_due
    }

    /// The probe ended without an answer, so the next request is one.
    pub fn abandon_probe(&mut self, now: Instant) {
        if self.state == State::Probing {
            self.state = State::Shut { until: now };
        }
    }

    /// Takes an answer into account. Those of ordinary requests are ignored while shut: they say how it was before.
    pub fn record(&mut self, class: Class, is_probe: bool, now: Instant, random: u64) {
        match self.state {
            State::Open => self.record_open(class, now, random),
            State::Probing if is_probe => match class {
                Class::Success => self.open(now),
                Class::Failure | Class::RateLimited => self.shut(now, random),
            },
            State::Probing | State::Shut { .. } => {}
        }
    }

    pub fn is_open(&self) -> bool {
        self.state == State::Open
    }

    fn record_open(&mut self, class: Class, now: Instant, random: u64) {
        self.consecutive = if class == Class::Failure { self.consecutive.saturating_add(1) } else { 0 };
        let in_a_row = self.accrual.max_consecutive > 0 && self.consecutive >= self.accrual.max_consecutive;
        let below = self.accrual.rate.is_some_and(|rate| {
            self.window.add(class == Class::Success, now);
            let (successes, all) = self.window.totals();
            all > 0 && all >= rate.min_samples && f64::from(successes) < rate.threshold * f64::from(all)
        });
        if in_a_row || below {
            self.shut(now, random);
        }
    }

    fn shut(&mut self, now: Instant, random: u64) {
        self.state = State::Shut { until: now + self.accrual.backoff.delay(self.trips, random) };
        self.trips = self.trips.saturating_add(1);
    }

    fn open(&mut self, now: Instant) {
        *self = Self::new(self.accrual, now);
    }
}

/// Successes and all answers of a sliding time, in buckets.
#[derive(Debug)]
struct Window {
    bucket_length: Duration,
    buckets: [(u32, u32); BUCKETS],
    newest: usize,
    newest_began: Instant,
}

impl Window {
    fn new(length: Duration, now: Instant) -> Self {
        let bucket_length = (length / BUCKETS as u32).max(Duration::from_millis(1));
        Self { bucket_length, buckets: [(0, 0); BUCKETS], newest: 0, newest_began: now }
    }

    fn add(&mut self, success: bool, now: Instant) {
        let mut steps = 0;
        while now.saturating_duration_since(self.newest_began) >= self.bucket_length {
            if steps == BUCKETS {
                self.newest_began = now;
                break;
            }
            steps += 1;
            self.newest = (self.newest + 1) % BUCKETS;
            self.buckets[self.newest] = (0, 0);
            self.newest_began += self.bucket_length;
        }
        let (successes, all) = &mut self.buckets[self.newest];
        *successes = successes.saturating_add(u32::from(success));
        *all = all.saturating_add(1);
    }

    fn totals(&self) -> (u32, u32) {
        self.buckets
            .iter()
            .fold((0, 0), |(s, a), (successes, all)| (s.saturating_add(*successes), a.saturating_add(*all)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const BACKOFF: Backoff = Backoff { min: SECOND, max: Duration::from_secs(3), jitter_ratio: 0.0 };

    fn consecutive(max_consecutive: u32, now: Instant) -> Breaker {
        Breaker::new(Accrual { max_consecutive, rate: None, backoff: BACKOFF }, now)
    }

    fn rated(threshold: f64, min_samples: u32, now: Instant) -> Breaker {
        let rate = Some(SuccessRate { threshold, window: 10 * SECOND, min_samples });
        Breaker::new(Accrual { max_consecutive: 0, rate, backoff: BACKOFF }, now)
    }

    fn record(breaker: &mut Breaker, classes: &[Class], now: Instant) {
        for class in classes {
            breaker.record(*class, false, now, 0);
        }
    }

    use Class::{Failure, RateLimited, Success};

    #[test]
    fn failures_in_a_row_shut_and_a_success_between_them_does_not() {
        let now = Instant::now();
        let mut breaker = consecutive(3, now);
        record(&mut breaker, &[Failure, Failure, Success, Failure, Failure, RateLimited, Failure, Failure], now);
        assert_eq!(breaker.admission(now), Admission::Open);
        record(&mut breaker, &[Failure], now);
        assert_eq!(breaker.admission(now), Admission::Shut(Some(now + SECOND)));
    }

    #[test]
    fn zero_never_shuts() {
        let now = Instant::now();
        let mut breaker = consecutive(0, now);
        record(&mut breaker, &[Failure; 100], now);
        assert!(breaker.is_open());
    }

    #[test]
    fn one_probe_is_let_in_and_its_success_opens() {
        let now = Instant::now();
        let mut breaker = consecutive(1, now);
        record(&mut breaker, &[Failure], now);
        assert!(!breaker.begin_probe(now));
        let later = now + SECOND;
        assert_eq!(breaker.admission(later), Admission::Probe);
        assert!(breaker.begin_probe(later));
        assert_eq!(breaker.admission(later), Admission::Shut(None));
        assert!(!breaker.begin_probe(later));
        breaker.record(Success, true, later, 0);
        assert!(breaker.is_open());
        record(&mut breaker, &[Failure], later);
        assert_eq!(breaker.admission(later), Admission::Shut(Some(later + SECOND)), "the wait starts over");
    }

    #[test]
    fn a_failed_probe_waits_longer_each_time() {
        let mut now = Instant::now();
        let mut breaker = consecutive(1, now);
        record(&mut breaker, &[Failure], now);
        for seconds in [1, 2, 3, 3] {
            assert_eq!(breaker.admission(now), Admission::Shut(Some(now + seconds * SECOND)));
            now += seconds * SECOND;
            assert!(breaker.begin_probe(now));
            breaker.record(Failure, true, now, 0);
        }
    }

    #[test]
    fn late_answers_count_for_nothing() {
        let now = Instant::now();
        let mut breaker = consecutive(1, now);
        record(&mut breaker, &[Failure, Success], now);
        assert!(!breaker.is_open());
        assert!(breaker.begin_probe(now + SECOND));
        record(&mut breaker, &[Success], now + SECOND);
        assert!(!breaker.is_open(), "only the probe's own answer decides");
    }

    #[test]
    fn an_abandoned_probe_leaves_its_place_to_the_next() {
        let now = Instant::now();
        let mut breaker = consecutive(1, now);
        record(&mut breaker, &[Failure], now);
        assert!(breaker.begin_probe(now + SECOND));
        breaker.abandon_probe(now + SECOND);
        assert_eq!(breaker.admission(now + SECOND), Admission::Probe);
    }

    #[test]
    fn a_low_success_rate_shuts_once_there_are_enough_samples() {
        let now = Instant::now();
        let mut breaker = rated(0.8, 5, now);
        record(&mut breaker, &[Success, Success, Success, Failure], now);
        assert!(breaker.is_open());
        record(&mut breaker, &[RateLimited], now);
        assert!(!breaker.is_open(), "three of five is below 80 %");
        assert!(breaker.begin_probe(now + SECOND));
        breaker.record(RateLimited, true, now + SECOND, 0);
        assert_eq!(breaker.admission(now + SECOND), Admission::Shut(Some(now + 3 * SECOND)));
    }

    #[test]
    fn the_success_rate_forgets_what_is_older_than_its_window() {
        let now = Instant::now();
        let mut breaker = rated(0.5, 4, now);
        record(&mut breaker, &[Failure; 3], now);
        record(&mut breaker, &[Success], now + 11 * SECOND);
        record(&mut breaker, &[Failure, Failure], now + 12 * SECOND);
        assert!(breaker.is_open(), "only three answers are recent");
        record(&mut breaker, &[Failure], now + 13 * SECOND);
        assert!(!breaker.is_open());
    }

    #[test]
    fn recovery_clears_the_window() {
        let now = Instant::now();
        let mut breaker = rated(0.9, 2, now);
        record(&mut breaker, &[Failure, Failure], now);
        assert!(breaker.begin_probe(now + SECOND));
        breaker.record(Success, true, now + SECOND, 0);
        record(&mut breaker, &[Success, Success], now + SECOND);
        assert!(breaker.is_open());
    }

    #[test]
    fn policies_outside_their_limits_are_refused() {
        let time = |nanos| Some(prost_types::Duration { seconds: 0, nanos });
        let backoff = wire::ExponentialBackoff { min_backoff: time(1), max_backoff: time(2), ..Default::default() };
        let unified = |success_rate_threshold, decay, min_requests| {
            let unified = wire::failure_accrual::Unified {
                success_rate_threshold,
                decay,
                min_requests,
                max_consecutive_failures: 1,
                backoff: Some(backoff),
            };
            Accrual::from_wire(&wire::FailureAccrual { kind: Some(Kind::Unified(unified)), ..Default::default() })
        };
        assert_eq!(unified(0.8, None, 5).unwrap().rate.unwrap().window, DEFAULT_WINDOW);
        assert_eq!(unified(0.0, time(1), 5).unwrap().rate, None);
        assert!(unified(1.1, None, 5).is_err());
        assert!(unified(0.8, time(1), 5).is_err());
        assert!(unified(0.8, None, 1_000_001).is_err());
        assert!(Accrual::from_wire(&wire::FailureAccrual::default()).is_err());
    }
}
