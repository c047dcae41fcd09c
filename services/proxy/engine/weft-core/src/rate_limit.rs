//! Local rate limits of a server: one for all its clients, one per identity, and overrides (wire.md 3.5).
//!
//! Each limit is a GCRA bucket with a burst of one second's worth. Time comes from the caller, counted from any fixed moment.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use parking_lot::Mutex;
use weft_proto::linkerd::inbound as wire;

use crate::meta::Meta;

/// Identities remembered before those whose bucket is full again are forgotten.
const MAX_IDENTITIES: usize = 4096;
const SECOND_NS: u64 = 1_000_000_000;

/// Which limit refused a request; the label that counts it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    Total,
    /// Of one client, by the common limit or by its override.
    Identity,
}

impl Scope {
    pub fn label(self) -> &'static str {
        match self {
            Self::Total => "total",
            Self::Identity => "identity",
        }
    }
}

pub struct LocalRateLimit {
    /// None when the policy does not say where it comes from.
    pub meta: Option<Meta>,
    total: Option<Bucket>,
    per_identity: Option<PerIdentity>,
    /// By client identity; clients of one override share its bucket.
    overrides: HashMap<String, Arc<Bucket>>,
    wire: wire::HttpLocalRateLimit,
}

/// One bucket per identity; clients without one share another.
struct PerIdentity {
    rate: u32,
    buckets: Mutex<HashMap<Option<Arc<str>>, Bucket>>,
}

/// Nanoseconds throughout.
struct Bucket {
    interval: u64,
    /// How far ahead of its time a request may come.
    tolerance: u64,
    /// When the bucket will be full again.
    full_at: AtomicU64,
}

impl LocalRateLimit {
    /// A rate of zero means no limit, as does an absent one.
    pub fn from_wire(limit: &wire::HttpLocalRateLimit) -> Self {
        let rate = |limit: Option<&wire::http_local_rate_limit::Limit>| {
            limit.map(|limit| limit.requests_per_second).filter(|rate| *rate > 0)
        };
        let mut overrides = HashMap::new();
        for one in &limit.overrides {
            let Some(bucket) = rate(one.limit.as_ref()).map(|rate| Arc::new(Bucket::new(rate))) else { continue };
            for client in one.clients.iter().flat_map(|clients| &clients.identities) {
                overrides.insert(client.name.clone(), bucket.clone());
            }
        }
        Self {
            meta: Meta::from_wire(limit.metadata.as_ref()),
            total: rate(limit.total.as_ref()).map(Bucket::new),
            per_identity: rate(limit.identity.as_ref()).map(|rate| PerIdentity { rate, buckets: Mutex::default() }),
            overrides,
            wire: limit.clone(),
        }
    }

    /// The same limits: their buckets may be kept.
    pub fn is_same(&self, other: &Self) -> bool {
        self.wire == other.wire
    }

    /// Takes one request's share. Errors name the limit that is used up.
    pub fn admit(&self, client_id: Option<&Arc<str>>, now: Duration) -> Result<(), Scope> {
        let now = u64::try_from(now.as_nanos()).unwrap_or(u64::MAX);
        if self.total.as_ref().is_some_and(|bucket| !bucket.take(now)) {
            return Err(Scope::Total);
        }
        let admitted = match client_id.and_then(|id| self.overrides.get(&**id)) {
            Some(bucket) => bucket.take(now),
            None => self.per_identity.as_ref().is_none_or(|limit| limit.take(client_id, now)),
        };
        if admitted { Ok(()) } else { Err(Scope::Identity) }
    }
}

impl PerIdentity {
    fn take(&self, client_id: Option<&Arc<str>>, now: u64) -> bool {
        let mut buckets = self.buckets.lock();
        let key = client_id.cloned();
        if buckets.len() >= MAX_IDENTITIES && !buckets.contains_key(&key) {
            // A full bucket is as good as a new one.
            buckets.retain(|_, bucket| bucket.full_at.load(Relaxed) > now);
        }
        buckets.entry(key).or_insert_with(|| Bucket::new(self.rate)).take(now)
    }
}

impl Bucket {
    /// rate: requests per second, at least 1.
    fn new(rate: u32) -> Self {
        let interval = SECOND_NS / u64::from(rate);
        Self { interval, tolerance: interval * u64::from(rate - 1), full_at: AtomicU64::new(0) }
    }

    fn take(&self, now: u64) -> bool {
        let next = |full_at: u64| {
            let start = full_at.max(now);
            (start - now <= self.tolerance).then(|| start.saturating_add(self.interval))
        };
        self.full_at.fetch_update(Relaxed, Relaxed, next).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use wire::http_local_rate_limit::{Limit, Override, r#override::ClientIdentities};

    use super::*;

    fn limit(rate: u32) -> Option<Limit> {
        Some(Limit { requests_per_second: rate })
    }

    fn rate_limit(total: u32, identity: u32, overrides: &[(u32, &[&str])]) -> LocalRateLimit {
        let overrides = overrides.iter().map(|(rate, clients)| Override {
            limit: limit(*rate),
            clients: Some(ClientIdentities {
                identities: clients.iter().map(|name| wire::Identity { name: (*name).into() }).collect(),
            }),
        });
        LocalRateLimit::from_wire(&wire::HttpLocalRateLimit {
            total: limit(total),
            identity: limit(identity),
            overrides: overrides.collect(),
            metadata: None,
        })
    }

    fn admitted(limit: &LocalRateLimit, client: Option<&str>, asked: usize, now: Duration) -> usize {
        let id = client.map(Arc::from);
        (0..asked).filter(|_| limit.admit(id.as_ref(), now).is_ok()).count()
    }

    const NOW: Duration = Duration::from_secs(100);

    #[test]
    fn a_burst_is_one_second_of_the_rate_and_refills_evenly() {
        let limit = rate_limit(10, 0, &[]);
        assert_eq!(admitted(&limit, None, 50, NOW), 10);
        assert_eq!(limit.admit(None, NOW), Err(Scope::Total));
        assert_eq!(admitted(&limit, None, 50, NOW + Duration::from_millis(350)), 3);
        assert_eq!(admitted(&limit, None, 50, NOW + Duration::from_secs(60)), 10);
    }

    #[test]
    fn each_identity_has_its_own_bucket_and_strangers_share_one() {
        let limit = rate_limit(0, 5, &[]);
        assert_eq!(admitted(&limit, Some("a"), 50, NOW), 5);
        assert_eq!(admitted(&limit, Some("b"), 50, NOW), 5);
        assert_eq!(admitted(&limit, None, 50, NOW), 5);
        assert_eq!(limit.admit(None, NOW), Err(Scope::Identity));
    }

    #[test]
    fn an_override_replaces_the_identity_limit_and_is_shared_by_its_clients() {
        let limit = rate_limit(0, 5, &[(8, &["a", "b"])]);
        assert_eq!(admitted(&limit, Some("a"), 50, NOW) + admitted(&limit, Some("b"), 50, NOW), 8);
        assert_eq!(admitted(&limit, Some("c"), 50, NOW), 5);
    }

    #[test]
    fn the_total_is_used_up_first() {
        let limit = rate_limit(3, 2, &[]);
        assert_eq!(admitted(&limit, Some("a"), 9, NOW), 2);
        assert_eq!(limit.admit(Some(&Arc::from("b")), NOW), Err(Scope::Total));
    }

    #[test]
    fn zero_limits_nothing() {
        assert_eq!(admitted(&rate_limit(0, 0, &[(0, &["a"])]), Some("a"), 1000, NOW), 1000);
    }

    #[test]
    fn full_buckets_are_forgotten_and_the_others_kept() {
        let limit = rate_limit(0, 1, &[]);
        let id = |n: usize| Some(Arc::from(n.to_string()));
        for n in 0..MAX_IDENTITIES {
            assert!(limit.admit(id(n).as_ref(), NOW).is_ok());
        }
        let later = NOW + Duration::from_secs(5);
        assert!(limit.admit(id(0).as_ref(), later).is_ok());
        assert!(limit.admit(id(MAX_IDENTITIES).as_ref(), later).is_ok());
        assert_eq!(limit.per_identity.as_ref().unwrap().buckets.lock().len(), 2);
        assert_eq!(limit.admit(id(0).as_ref(), later), Err(Scope::Identity));
    }

    proptest! {
        /// Over any window, at most the burst plus what the window refills, however requests arrive.
        #[test]
        fn no_schedule_gets_more_than_its_rate(rate in 1u32..200, steps in prop::collection::vec(0u64..50_000, 1..300)) {
            let bucket = Bucket::new(rate);
            let mut now = SECOND_NS;
            let mut admitted = 0u64;
            for step_us in steps {
                now += step_us * 1000;
                admitted += u64::from(bucket.take(now));
            }
            let refilled = (now - SECOND_NS) / bucket.interval;
            prop_assert!(admitted <= u64::from(rate) + refilled);
        }
    }
}
