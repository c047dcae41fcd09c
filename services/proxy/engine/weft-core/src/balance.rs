//! Power of two choices over peak-EWMA latency (wire.md 7.1). Time and randomness are arguments.

use std::time::{Duration, Instant};

const FLOOR: f64 = 1e6;

/// What a balancer weighs its endpoints by.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Load {
    pub default_rtt: Duration,
    pub decay: Duration,
    pub penalty: Option<Penalty>,
}

/// What a failing answer counts as, instead of the time it took: quick errors must not draw traffic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Penalty {
    pub rtt: Duration,
    /// A server may ask for more with `retry-after`, up to this.
    pub max_retry_after: Duration,
}

impl Penalty {
    /// None when the answer is no failure. retry_after: the server's hint.
    pub fn of(&self, status: u16, grpc_status: Option<u8>, retry_after: Option<Duration>) -> Option<Duration> {
        let fails =
            status == 429 || (500..600).contains(&status) || matches!(grpc_status, Some(2 | 4 | 8 | 13 | 14 | 15));
        fails.then(|| self.rtt.max(retry_after.unwrap_or_default().min(self.max_retry_after)))
    }
}

/// Latency estimate of one endpoint, nanoseconds: jumps up at once, decays down slowly.
#[derive(Clone, Debug)]
pub struct PeakEwma {
    estimate_ns: f64,
    decay_ns: f64,
    updated: Instant,
}

impl PeakEwma {
    pub fn new(default_rtt: Duration, decay: Duration, now: Instant) -> Self {
        Self {
            estimate_ns: (default_rtt.as_nanos() as f64).max(FLOOR),
            decay_ns: (decay.as_nanos() as f64).max(1.0),
            updated: now,
        }
    }

    pub fn record(&mut self, rtt: Duration, now: Instant) {
        let rtt_ns = rtt.as_nanos() as f64;
        if rtt_ns > self.estimate_ns {
            self.estimate_ns = rtt_ns;
        } else {
            let elapsed_ns = now.saturating_duration_since(self.updated).as_nanos() as f64;
            let keep = (-elapsed_ns / self.decay_ns).exp();
            self.estimate_ns = self.estimate_ns * keep + rtt_ns * (1.0 - keep);
        }
        self.updated = now;
    }

    /// Estimate times outstanding work. A read decays the estimate, so an endpoint that was slow once is tried again.
    pub fn load(&mut self, pending: u32, now: Instant) -> f64 {
        self.record(Duration::ZERO, now);
        self.estimate_ns * f64::from(pending + 1)
    }
}

/// Two distinct indices below `count` out of one random word; equal only when there is one endpoint.
pub fn two_of(count: usize, random: u64) -> Option<(usize, usize)> {
    match count {
        0 => None,
        1 => Some((0, 0)),
        _ => {
            let first = (random as u32 as usize) % count;
            let second = ((random >> 32) as usize) % (count - 1);
            Some((first, if second >= first { second + 1 } else { second }))
        }
    }
}

/// Small, fast generator (SplitMix64): choosing endpoints needs spread, not secrecy.
#[derive(Clone, Debug)]
pub struct Rng(pub u64);

impl Rng {
    pub fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

/// Index drawn by weight; None when every weight is 0.
pub fn weighted(weights: impl Iterator<Item = u32> + Clone, random: u64) -> Option<usize> {
    let total: u64 = weights.clone().map(u64::from).sum();
    if total == 0 {
        return None;
    }
    let mut left = random % total;
    for (index, weight) in weights.enumerate() {
        let weight = u64::from(weight);
        if left < weight {
            return Some(index);
        }
        left -= weight;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peak_is_taken_at_once_and_decays() {
        let start = Instant::now();
        let mut ewma = PeakEwma::new(Duration::from_millis(30), Duration::from_secs(10), start);
        ewma.record(Duration::from_millis(500), start);
        assert_eq!(ewma.load(0, start), 500e6);
        let later = ewma.load(0, start + Duration::from_secs(10));
        assert!((later - 500e6 * (-1f64).exp()).abs() < 1.0);
    }

    #[test]
    fn failures_weigh_as_much_as_their_penalty_or_what_the_server_asks_for() {
        let seconds = Duration::from_secs;
        let penalty = Penalty { rtt: seconds(5), max_retry_after: seconds(300) };
        assert_eq!(penalty.of(200, None, Some(seconds(9))), None);
        assert_eq!(penalty.of(404, None, None), None);
        assert_eq!(penalty.of(429, None, None), Some(seconds(5)));
        assert_eq!(penalty.of(503, None, Some(seconds(60))), Some(seconds(60)));
        assert_eq!(penalty.of(503, None, Some(seconds(1))), Some(seconds(5)));
        assert_eq!(penalty.of(503, None, Some(seconds(1000))), Some(seconds(300)));
        for code in 0..=16 {
            let fails = matches!(code, 2 | 4 | 8 | 13 | 14 | 15);
            assert_eq!(penalty.of(200, Some(code), None).is_some(), fails, "{code}");
        }
    }

    #[test]
    fn outstanding_work_multiplies_the_load() {
        let now = Instant::now();
        let mut ewma = PeakEwma::new(Duration::ZERO, Duration::from_secs(10), now);
        assert_eq!(ewma.load(3, now), 4.0 * FLOOR);
    }

    #[test]
    fn two_choices_are_distinct_and_cover_all() {
        let mut rng = Rng(1);
        let mut seen = [false; 5];
        for _ in 0..200 {
            let (a, b) = two_of(5, rng.next_u64()).unwrap();
            assert_ne!(a, b);
            seen[a] = true;
            seen[b] = true;
        }
        assert_eq!(seen, [true; 5]);
        assert_eq!(two_of(0, 7), None);
        assert_eq!(two_of(1, 7), Some((0, 0)));
    }

    #[test]
    fn weights_are_honoured() {
        let mut rng = Rng(2);
        let mut hits = [0u32; 3];
        for _ in 0..10_000 {
            hits[weighted([90, 0, 10].into_iter(), rng.next_u64()).unwrap()] += 1;
        }
        assert_eq!(hits[1], 0);
        assert!((8_500..9_500).contains(&hits[0]), "{hits:?}");
        assert_eq!(weighted([0, 0].into_iter(), 1), None);
    }
}
