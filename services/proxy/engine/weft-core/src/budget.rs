//! How many retries a ServiceProfile can afford: a share of recent requests, and a few per second besides (wire.md 7.4).
//! Time is an argument.

use std::time::{Duration, Instant};

use weft_proto::linkerd::destination::RetryBudget as Wire;

const SLOTS: usize = 10;

/// What the profile says; its use is counted in a `Budget`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BudgetSettings {
    pub ratio: f32,
    pub min_per_second: u32,
    pub ttl: Duration,
}

/// Deposits of the last `ttl`, in slots, so that what is older can be forgotten.
#[derive(Debug)]
pub struct Budget {
    deposit: i64,
    withdrawal: i64,
    reserve: i64,
    slot_length: Duration,
    slots: [i64; SLOTS],
    newest: usize,
    newest_began: Instant,
}

impl BudgetSettings {
    /// None for a budget outside its limits: then nothing is retried.
    pub fn from_wire(budget: &Wire) -> Option<Self> {
        let ttl = budget.ttl.and_then(|ttl| Duration::try_from(ttl).ok())?;
        let fits = (0.0..=1000.0).contains(&budget.retry_ratio)
            && (Duration::from_secs(1)..=Duration::from_secs(60)).contains(&ttl);
        fits.then_some(Self { ratio: budget.retry_ratio, min_per_second: budget.min_retries_per_second, ttl })
    }
}

impl Budget {
    pub fn new(settings: BudgetSettings, now: Instant) -> Self {
        let (deposit, withdrawal) = if settings.ratio == 0.0 {
            (0, 1)
        } else if settings.ratio <= 1.0 {
            (1, (1.0 / settings.ratio) as i64)
        } else {
            // Whole numbers still, for ratios that give several retries per request.
            (1000, (1000.0 / settings.ratio) as i64)
        };
        Self {
            deposit,
            withdrawal,
            reserve: i64::from(settings.min_per_second) * settings.ttl.as_secs() as i64 * withdrawal,
            slot_length: settings.ttl / SLOTS as u32,
            slots: [0; SLOTS],
            newest: 0,
            newest_began: now,
        }
    }

    /// A request was answered for good, without need of a retry.
    pub fn deposit(&mut self, now: Instant) {
        self.expire(now);
        self.slots[self.newest] += self.deposit;
    }

    /// True when a retry can be afforded; it is then paid for.
    pub fn withdraw(&mut self, now: Instant) -> bool {
        self.expire(now);
        let balance = self.reserve + self.slots.iter().sum::<i64>();
        let affordable = balance >= self.withdrawal;
        if affordable {
            self.slots[self.newest] -= self.withdrawal;
        }
        affordable
    }

    fn expire(&mut self, now: Instant) {
        for _ in 0..SLOTS {
            if now.saturating_duration_since(self.newest_began) < self.slot_length {
                return;
            }
            self.newest = (self.newest + 1) % SLOTS;
            self.slots[self.newest] = 0;
            self.newest_began += self.slot_length;
        }
        self.newest_began = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TTL: Duration = Duration::from_secs(10);

    fn budget(ratio: f32, min_per_second: u32, now: Instant) -> Budget {
        Budget::new(BudgetSettings { ratio, min_per_second, ttl: TTL }, now)
    }

    fn affordable(budget: &mut Budget, now: Instant) -> usize {
        (0..10_000).take_while(|_| budget.withdraw(now)).count()
    }

    #[test]
    fn a_share_of_requests_can_be_retried() {
        let now = Instant::now();
        let mut fifth = budget(0.2, 0, now);
        (0..100).for_each(|_| fifth.deposit(now));
        assert_eq!(affordable(&mut fifth, now), 20);
        let mut double = budget(2.0, 0, now);
        (0..10).for_each(|_| double.deposit(now));
        assert_eq!(affordable(&mut double, now), 20);
        let mut none = budget(0.0, 0, now);
        (0..10).for_each(|_| none.deposit(now));
        assert_eq!(affordable(&mut none, now), 0);
    }

    #[test]
    fn the_reserve_comes_back_after_the_time_to_live() {
        let now = Instant::now();
        let mut budget = budget(0.2, 3, now);
        assert_eq!(affordable(&mut budget, now), 30);
        assert_eq!(affordable(&mut budget, now + TTL / 2), 0);
        assert_eq!(affordable(&mut budget, now + TTL), 30);
    }

    #[test]
    fn old_deposits_are_forgotten() {
        let now = Instant::now();
        let mut budget = budget(1.0, 0, now);
        budget.deposit(now);
        budget.deposit(now + TTL * 9 / 10);
        assert_eq!(affordable(&mut budget, now + TTL), 1);
        budget.deposit(now + TTL);
        assert_eq!(affordable(&mut budget, now + TTL * 50), 0);
    }

    #[test]
    fn budgets_outside_their_limits_are_none() {
        let wire = |retry_ratio, seconds| {
            let ttl = Some(prost_types::Duration { seconds, nanos: 0 });
            BudgetSettings::from_wire(&Wire { retry_ratio, min_retries_per_second: 1, ttl })
        };
        assert!(wire(0.2, 10).is_some());
        assert!(wire(-0.1, 10).is_none());
        assert!(wire(1000.5, 10).is_none());
        assert!(wire(0.2, 0).is_none());
        assert!(wire(0.2, 61).is_none());
    }
}
