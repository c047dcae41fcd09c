//! Waits that grow with every failure, up to a limit, spread by chance. Randomness is an argument.

use std::time::Duration;

use weft_proto::linkerd::outbound as wire;

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Backoff {
    pub min: Duration,
    pub max: Duration,
    /// Up to this share of a wait is added to it.
    pub jitter_ratio: f64,
}

impl Backoff {
    /// Errors name what the policy got wrong (wire.md 2.7).
    pub fn from_wire(backoff: &wire::ExponentialBackoff) -> Result<Self, String> {
        let time = |d: Option<prost_types::Duration>| d.and_then(|d| Duration::try_from(d).ok());
        let min = time(backoff.min_backoff).ok_or("backoff has no minimum")?;
        let max = time(backoff.max_backoff).ok_or("backoff has no maximum")?;
        let jitter_ratio = f64::from(backoff.jitter_ratio);
        if max.is_zero() || min > max {
            return Err("backoff needs a maximum above zero and not below its minimum".to_owned());
        }
        if !(0.0..=100.0).contains(&jitter_ratio) {
            return Err("backoff jitter must be between 0 and 100".to_owned());
        }
        Ok(Self { min, max, jitter_ratio })
    }

    /// The wait after `failures` earlier ones; never beyond the maximum.
    pub fn delay(&self, failures: u32, random: u64) -> Duration {
        let base = self.min.saturating_mul(1 << failures.min(16)).min(self.max);
        let share = (random >> 11) as f64 / (1u64 << 53) as f64;
        base.saturating_add(base.mul_f64(self.jitter_ratio * share)).min(self.max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BACKOFF: Backoff =
        Backoff { min: Duration::from_millis(100), max: Duration::from_millis(500), jitter_ratio: 0.5 };

    #[test]
    fn waits_double_up_to_the_maximum() {
        let waits: Vec<_> = (0..5).map(|n| BACKOFF.delay(n, 0).as_millis()).collect();
        assert_eq!(waits, [100, 200, 400, 500, 500]);
        assert_eq!(BACKOFF.delay(u32::MAX, 0), BACKOFF.max);
    }

    #[test]
    fn jitter_adds_at_most_its_share_and_stays_below_the_maximum() {
        let most = BACKOFF.delay(0, u64::MAX).as_secs_f64();
        assert!((0.149..=0.150).contains(&most), "{most}");
        assert_eq!(BACKOFF.delay(2, u64::MAX), BACKOFF.max);
    }

    #[test]
    fn impossible_limits_are_refused() {
        let time = |ms: i32| Some(prost_types::Duration { seconds: 0, nanos: ms * 1_000_000 });
        let wire = |min, max, jitter_ratio| wire::ExponentialBackoff {
            min_backoff: time(min),
            max_backoff: time(max),
            jitter_ratio,
            ..Default::default()
        };
        assert!(Backoff::from_wire(&wire(10, 20, 0.1)).is_ok());
        assert!(Backoff::from_wire(&wire(20, 10, 0.1)).is_err());
        assert!(Backoff::from_wire(&wire(0, 0, 0.1)).is_err());
        assert!(Backoff::from_wire(&wire(10, 20, 101.0)).is_err());
        assert!(Backoff::from_wire(&wire::ExponentialBackoff::default()).is_err());
    }
}
