//! Entries that live while they are used and for a while after, then are released.

use std::{
    collections::HashMap,
    hash::Hash,
    ops::Deref,
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use tokio::runtime::Handle;

pub struct Cache<K, V> {
    slots: Mutex<HashMap<K, Slot<V>>>,
    idle: Duration,
    /// Told under the lock, so that a release never overtakes the creation of a successor.
    released: Box<dyn Fn(&K) + Send + Sync>,
}

struct Slot<V> {
    value: Arc<V>,
    users: usize,
    idle_since: Instant,
    /// A task watches this slot for idleness.
    is_watched: bool,
}

/// Keeps one entry alive.
pub struct Lease<K: Key, V: Value> {
    key: K,
    value: Arc<V>,
    cache: Arc<Cache<K, V>>,
}

pub trait Key: Clone + Eq + Hash + Send + Sync + 'static {}
impl<T: Clone + Eq + Hash + Send + Sync + 'static> Key for T {}
pub trait Value: Send + Sync + 'static {}
impl<T: Send + Sync + 'static> Value for T {}

impl<K: Key, V: Value> Cache<K, V> {
    pub fn new(idle: Duration, released: impl Fn(&K) + Send + Sync + 'static) -> Arc<Self> {
        Arc::new(Self { slots: Mutex::default(), idle, released: Box::new(released) })
    }

    pub fn lease(self: &Arc<Self>, key: K, make: impl FnOnce() -> V) -> Lease<K, V> {
        self.hold(&mut self.slots.lock(), key, make)
    }

    /// As `lease`, with at most so many entries: a new one takes the place of that which nobody has used for longest. None
    /// when each is in use, or was within `spare`.
    pub fn lease_within(
        self: &Arc<Self>,
        most: usize,
        spare: Duration,
        key: K,
        make: impl FnOnce() -> V,
    ) -> Option<Lease<K, V>> {
        let mut slots = self.slots.lock();
        if slots.len() >= most && !slots.contains_key(&key) {
            let now = Instant::now();
            let idle = slots.iter().filter(|(_, slot)| slot.users == 0 && now - slot.idle_since >= spare);
            let oldest = idle.min_by_key(|(_, slot)| slot.idle_since).map(|(key, _)| key.clone())?;
            slots.remove(&oldest);
            (self.released)(&oldest);
        }
        Some(self.hold(&mut slots, key, make))
    }

    fn hold(self: &Arc<Self>, slots: &mut HashMap<K, Slot<V>>, key: K, make: impl FnOnce() -> V) -> Lease<K, V> {
        let slot = slots.entry(key.clone()).or_insert_with(|| Slot {
            value: Arc::new(make()),
            users: 0,
            idle_since: Instant::now(),
            is_watched: false,
        });
        slot.users += 1;
        Lease { key, value: slot.value.clone(), cache: self.clone() }
    }

    pub fn get(&self, key: &K) -> Option<Arc<V>> {
        self.slots.lock().get(key).map(|slot| slot.value.clone())
    }

    fn give_back(self: &Arc<Self>, key: &K) {
        let mut slots = self.slots.lock();
        let Some(slot) = slots.get_mut(key) else {
            return;
        };
        slot.users -= 1;
        if slot.users > 0 {
            return;
        }
        slot.idle_since = Instant::now();
        // Without a runtime the whole engine is being taken down.
        let Ok(runtime) = Handle::try_current() else {
            return;
        };
        if !std::mem::replace(&mut slot.is_watched, true) {
            runtime.spawn(self.clone().release_when_idle(key.clone()));
        }
    }

    async fn release_when_idle(self: Arc<Self>, key: K) {
        let mut look_at = Instant::now() + self.idle;
        loop {
            tokio::time::sleep_until(look_at.into()).await;
            let mut slots = self.slots.lock();
            let Some(slot) = slots.get_mut(&key) else {
                return;
            };
            if slot.users > 0 {
                // The next last user starts a watch again.
                slot.is_watched = false;
                return;
            }
            look_at = slot.idle_since + self.idle;
            if look_at <= Instant::now() {
                slots.remove(&key);
                (self.released)(&key);
                return;
            }
        }
    }
}

impl<K: Key, V: Value> Deref for Lease<K, V> {
    type Target = V;

    fn deref(&self) -> &V {
        &self.value
    }
}

impl<K: Key, V: Value> Drop for Lease<K, V> {
    fn drop(&mut self) {
        self.cache.give_back(&self.key);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    fn counting() -> (Arc<Cache<u8, u8>>, Arc<AtomicUsize>) {
        let released = Arc::new(AtomicUsize::new(0));
        let count = released.clone();
        let cache = Cache::new(Duration::from_millis(20), move |_| {
            count.fetch_add(1, Ordering::Relaxed);
        });
        (cache, released)
    }

    #[tokio::test]
    async fn an_entry_outlives_its_last_user_by_the_idle_time() {
        let (cache, released) = counting();
        drop(cache.lease(1, || 7));
        assert_eq!(cache.get(&1).as_deref(), Some(&7));
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert!(cache.get(&1).is_none());
        assert_eq!(released.load(Ordering::Relaxed), 1);
    }

    #[tokio::test]
    async fn of_a_full_cache_the_entry_that_is_idle_longest_goes_and_those_in_use_stay() {
        let (cache, released) = counting();
        let lease = |key| cache.lease_within(2, Duration::ZERO, key, || key);
        drop(lease(1));
        let held = lease(2);
        drop(lease(3));
        assert_eq!((cache.get(&1), cache.get(&3).as_deref()), (None, Some(&3)));
        let also_held = lease(4);
        assert_eq!((cache.get(&3), released.load(Ordering::Relaxed)), (None, 2));
        assert!(lease(5).is_none());
        assert_eq!(lease(2).as_deref(), Some(&2));
        drop((held, also_held));
    }

    #[tokio::test]
    async fn an_entry_of_a_full_cache_is_spared_for_a_while() {
        let (cache, _) = counting();
        drop(cache.lease_within(1, Duration::ZERO, 1, || 1));
        assert!(cache.lease_within(1, Duration::from_secs(60), 2, || 2).is_none());
        assert!(cache.lease_within(1, Duration::ZERO, 2, || 2).is_some());
    }

    #[tokio::test]
    async fn a_used_entry_stays_and_is_made_once() {
        let (cache, released) = counting();
        drop(cache.lease(1, || 7));
        let held = cache.lease(1, || unreachable!("the entry is still there"));
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert_eq!((*held, released.load(Ordering::Relaxed)), (7, 0));
    }
}
