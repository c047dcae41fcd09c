//! A set of endpoints that discovery keeps current, and the choice among them (wire.md 7.1, 7.2).

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use tokio::sync::Notify;
use weft_core::{
    balance::{Rng, two_of},
    endpoint::{EndpointInfo, EndpointSet},
    failure::Failure,
};
use weft_proto::engine::{DiscoverEndpoints, ReleaseEndpoints, SetEndpoints, event::Kind};

use crate::{
    endpoint::Endpoint,
    proxy::{Proxy, seed},
};

/// Of a single endpoint's estimate, which chooses nothing.
const DECAY: Duration = Duration::from_secs(10);

pub struct Balancer {
    /// Discovery path; empty for one fixed endpoint.
    path: String,
    default_rtt: Duration,
    decay: Duration,
    endpoints: ArcSwap<Vec<Arc<Endpoint>>>,
    set: Mutex<EndpointSet>,
    rng: Mutex<Rng>,
    changed: Notify,
    failing: AtomicBool,
    refusal: Mutex<Option<String>>,
    waiting: AtomicUsize,
    proxy: Weak<Proxy>,
}

/// Balancers by discovery path. Shared by every target that leads to the same path.
#[derive(Default)]
pub struct Balancers {
    by_path: Mutex<HashMap<String, Weak<Balancer>>>,
}

impl Balancers {
    pub fn get(&self, proxy: &Arc<Proxy>, path: &str, default_rtt: Duration, decay: Duration) -> Arc<Balancer> {
        let mut by_path = self.by_path.lock();
        if let Some(known) = by_path.get(path).and_then(Weak::upgrade) {
            return known;
        }
        let balancer = Arc::new(Balancer::new(proxy, path, default_rtt, decay));
        by_path.insert(path.to_owned(), Arc::downgrade(&balancer));
        proxy.events.push(Kind::DiscoverEndpoints(DiscoverEndpoints { path: path.to_owned() }));
        balancer
    }

    pub fn set_endpoints(&self, update: &SetEndpoints) {
        let balancer = self.by_path.lock().get(&update.path).and_then(Weak::upgrade);
        // Already released: the answer crossed our release on the way.
        if let Some(balancer) = balancer {
            balancer.update(update);
        }
    }
}

impl Balancer {
    fn new(proxy: &Arc<Proxy>, path: &str, default_rtt: Duration, decay: Duration) -> Self {
        Self {
            path: path.to_owned(),
            default_rtt,
            decay,
            endpoints: ArcSwap::default(),
            set: Mutex::default(),
            rng: Mutex::new(Rng(seed())),
            changed: Notify::new(),
            failing: AtomicBool::new(false),
            refusal: Mutex::default(),
            waiting: AtomicUsize::new(0),
            proxy: Arc::downgrade(proxy),
        }
    }

    /// Always the one endpoint, with the same waiting and failing fast while it cannot be reached.
    pub fn forward(proxy: &Arc<Proxy>, info: EndpointInfo) -> Arc<Self> {
        let balancer = Self::new(proxy, "", Duration::ZERO, DECAY);
        balancer.endpoints.store(Arc::new(vec![Endpoint::new(proxy, info, "", Duration::ZERO, DECAY)]));
        Arc::new(balancer)
    }

    /// The endpoint of a `forward`; None for a discovered set, whatever its size.
    pub fn only_endpoint(&self) -> Option<EndpointInfo> {
        if self.path.is_empty() { self.endpoints.load().first().map(|endpoint| endpoint.info.clone()) } else { None }
    }

    fn update(self: &Arc<Self>, update: &SetEndpoints) {
        let Some(proxy) = self.proxy.upgrade() else {
            return;
        };
        *self.refusal.lock() = Some(update.refusal.clone()).filter(|reason| !reason.is_empty());
        let mut set = self.set.lock();
        let changed = update
            .update
            .as_ref()
            .is_some_and(|message| set.apply(message, update.first_of_stream, &proxy.settings.inbound_ips));
        if changed {
            let before = self.endpoints.load();
            let known: HashMap<SocketAddr, &Arc<Endpoint>> = before.iter().map(|e| (e.info.addr, e)).collect();
            let now = set.by_addr.values().map(|info| match known.get(&info.addr) {
                Some(endpoint) if endpoint.info == *info => (*endpoint).clone(),
                _ => Endpoint::new(&proxy, info.clone(), &self.path, self.default_rtt, self.decay),
            });
            self.endpoints.store(Arc::new(now.collect()));
        }
        drop(set);
        self.changed.notify_waiters();
    }

    /// Some endpoint could take a request now.
    pub fn is_available(&self) -> bool {
        !self.failing.load(Relaxed) || self.ready(Instant::now()).is_some()
    }

    fn ready(&self, now: Instant) -> Option<Arc<Endpoint>> {
        let all = self.endpoints.load();
        let random = self.rng.lock().next_u64();
        let (a, b) = two_of(all.len(), random)?;
        let (a, b) = (&all[a], &all[b]);
        match (a.retry_at(now).is_none(), b.retry_at(now).is_none()) {
            (true, true) => Some(if b.load(now) < a.load(now) { b.clone() } else { a.clone() }),
            (true, false) => Some(a.clone()),
            (false, true) => Some(b.clone()),
            // Both draws are out; with a few endpoints down, look at the rest before giving up.
            (false, false) => all.iter().find(|e| e.retry_at(now).is_none()).cloned(),
        }
    }

    fn earliest_retry(&self, now: Instant) -> Option<Instant> {
        self.endpoints.load().iter().filter_map(|e| e.retry_at(now)).min()
    }

    /// A ready endpoint, waiting until `deadline` for one. Once a wait has failed, later ones fail at once.
    pub async fn pick(&self, deadline: Instant) -> Result<Arc<Endpoint>, Failure> {
        if let Some(endpoint) = self.ready(Instant::now()) {
            return Ok(endpoint);
        }
        if let Some(reason) = self.refusal.lock().clone() {
            return Err(Failure::BackendUnusable(reason));
        }
        if self.failing.load(Relaxed) {
            return Err(Failure::LoadShed);
        }
        let _place = self.queue()?;
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            let now = Instant::now();
            if let Some(endpoint) = self.ready(now) {
                return Ok(endpoint);
            }
            if now >= deadline {
                self.failing.store(true, Relaxed);
                return Err(Failure::FailFast);
            }
            let until = self.earliest_retry(now).map_or(deadline, |at| at.min(deadline));
            tokio::select! {
                () = changed => {}
                () = tokio::time::sleep_until(until.into()) => {}
            }
        }
    }

    pub fn reached(&self, endpoint: &Endpoint) {
        endpoint.connected();
        self.failing.store(false, Relaxed);
    }

    pub fn not_reached(&self, endpoint: &Endpoint) {
        endpoint.unreachable(&mut self.rng.lock());
    }

    fn queue(&self) -> Result<Place<'_>, Failure> {
        let capacity = self.proxy.upgrade().map_or(0, |proxy| proxy.settings.outbound_queue_capacity);
        let place = Place(&self.waiting);
        if self.waiting.fetch_add(1, Relaxed) >= capacity { Err(Failure::LoadShed) } else { Ok(place) }
    }
}

struct Place<'a>(&'a AtomicUsize);

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

impl Drop for Balancer {
    fn drop(&mut self) {
        if self.path.is_empty() {
            return;
        }
        let Some(proxy) = self.proxy.upgrade() else {
            return;
        };
        let mut by_path = proxy.balancers.by_path.lock();
        // A successor may have taken the path already; then discovery goes on for it.
        if by_path.get(&self.path).is_some_and(|known| known.strong_count() == 0) {
            by_path.remove(&self.path);
            proxy.events.push(Kind::ReleaseEndpoints(ReleaseEndpoints { path: self.path.clone() }));
        }
    }
}
