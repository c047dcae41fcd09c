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
    balance::{Load, Rng, two_of},
    endpoint::{EndpointInfo, EndpointSet},
    failure::Failure,
    outbound::{Balancing, Carries},
    settings::QueueSettings,
};

use crate::{
    balancer_metrics::{BalancerMetrics, Change},
    discovery::Subject,
    endpoint::{Availability, Endpoint, EndpointSettings, Pending, Verdict},
    proxy::{Proxy, seed},
};

/// Of a single endpoint's estimate, which chooses nothing.
const FIXED: Load = Load { default_rtt: Duration::ZERO, decay: Duration::from_secs(10), penalty: None };

pub struct Balancer {
    /// None for one fixed endpoint.
    subject: Option<Subject>,
    settings: EndpointSettings,
    endpoints: ArcSwap<Vec<Arc<Endpoint>>>,
    rng: Mutex<Rng>,
    changed: Arc<Notify>,
    gate: Gate,
    refusal: Mutex<Option<String>>,
    waiting: AtomicUsize,
    metrics: Option<BalancerMetrics>,
    proxy: Weak<Proxy>,
}

/// Open while some endpoint takes requests, or could soon. Shut: everything fails at once.
struct Gate {
    is_shut: AtomicBool,
    is_stalled: AtomicBool,
    /// One that could not be reached is tried again, beside the requests.
    is_tried: AtomicBool,
    /// Since when nothing could be sent.
    stalled_since: Mutex<Option<Instant>>,
}

/// An endpoint with one request's place at it.
pub struct Picked {
    pub endpoint: Arc<Endpoint>,
    pub pending: Pending,
    pub verdict: Verdict,
}

impl Balancer {
    fn new(proxy: &Arc<Proxy>, subject: Option<Subject>, load: Load) -> Self {
        let changed = Arc::new(Notify::new());
        let accrual = subject.as_ref().and_then(|subject| subject.balancing.accrual);
        Self {
            settings: EndpointSettings { load, accrual, changed: changed.clone() },
            metrics: subject.as_ref().map(|subject| proxy.metrics.balancer(subject, queue_of(proxy, subject).failfast)),
            subject,
            endpoints: ArcSwap::default(),
            rng: Mutex::new(Rng(seed())),
            changed,
            gate: Gate {
                is_shut: AtomicBool::new(false),
                is_stalled: AtomicBool::new(false),
                is_tried: AtomicBool::new(false),
                stalled_since: Mutex::default(),
            },
            refusal: Mutex::default(),
            waiting: AtomicUsize::new(0),
            proxy: Arc::downgrade(proxy),
        }
    }

    /// Among the endpoints that discovery names.
    pub fn discovered(proxy: &Arc<Proxy>, subject: Subject) -> Self {
        let load = subject.balancing.load;
        Self::new(proxy, Some(subject), load)
    }

    /// Always the one endpoint, with the same waiting and failing fast while it cannot be reached.
    pub fn forward(proxy: &Arc<Proxy>, info: EndpointInfo) -> Arc<Self> {
        let balancer = Self::new(proxy, None, FIXED);
        balancer.endpoints.store(Arc::new(vec![Endpoint::new(proxy, info, "", balancer.settings.clone())]));
        Arc::new(balancer)
    }

    /// The endpoint of a `forward`; None for a discovered set, whatever its size.
    pub fn only_endpoint(&self) -> Option<EndpointInfo> {
        if self.subject.is_some() {
            return None;
        }
        self.endpoints.load().first().map(|endpoint| endpoint.info.clone())
    }

    /// The logical name that connections report and TLS routes are labelled with; empty for a fixed endpoint.
    pub fn path(&self) -> &str {
        self.subject.as_ref().map_or("", |Subject { balancing: Balancing { path, .. }, .. }| path)
    }

    /// Takes over what discovery knows. replaces: it started over.
    pub fn update(&self, proxy: &Proxy, set: &EndpointSet, refusal: Option<&str>, replaces: bool) {
        *self.refusal.lock() = refusal.map(str::to_owned);
        let before = self.endpoints.load_full();
        let known: HashMap<SocketAddr, &Arc<Endpoint>> = before.iter().map(|e| (e.info.addr, e)).collect();
        let mut kept = 0;
        let now = set.by_addr.values().map(|info| match known.get(&info.addr) {
            Some(endpoint) if endpoint.info == *info => {
                kept += 1;
                (*endpoint).clone()
            }
            _ => Endpoint::new(proxy, info.clone(), self.path(), self.settings.clone()),
        });
        let now: Vec<_> = now.collect();
        if let Some(metrics) = &self.metrics {
            metrics.updated(Change { replaces, added: now.len() - kept, removed: before.len() - kept });
        }
        self.endpoints.store(Arc::new(now));
        self.count_endpoints();
        self.changed.notify_waiters();
    }

    fn count_endpoints(&self) {
        if let Some(metrics) = &self.metrics {
            let all = self.endpoints.load();
            metrics.endpoints(all.iter().filter(|endpoint| endpoint.is_proven()).count(), all.len());
        }
    }

    /// Some endpoint could take a request now. Behind a shut gate one that could not be reached does not count.
    pub fn is_available(&self) -> bool {
        let is_ready = |endpoint: &Arc<Endpoint>, now| endpoint.availability(now) == Availability::Ready;
        !self.gate.is_shut.load(Relaxed) || {
            let now = Instant::now();
            self.endpoints.load().iter().any(|endpoint| endpoint.is_reached() && is_ready(endpoint, now))
        }
    }

    /// Some endpoint could take a request now, or be tried with one.
    pub fn may_be_tried(&self) -> bool {
        !self.gate.is_shut.load(Relaxed) || self.ready(Instant::now()).is_some()
    }

    /// Looks whether an endpoint can be reached again, without a request: those go to another backend meanwhile.
    pub fn try_again(self: &Arc<Self>) {
        if self.is_available() {
            return;
        }
        let Some(endpoint) = self.ready(Instant::now()) else { return };
        if self.gate.is_tried.swap(true, Relaxed) {
            return;
        }
        let balancer = self.clone();
        tokio::spawn(async move {
            match endpoint.client.connector().open().await {
                Ok(_) => balancer.reached(&endpoint),
                Err(_) => balancer.not_reached(&endpoint),
            }
            balancer.gate.is_tried.store(false, Relaxed);
        });
    }

    fn ready(&self, now: Instant) -> Option<Arc<Endpoint>> {
        let all = self.endpoints.load();
        let random = self.rng.lock().next_u64();
        let (a, b) = two_of(all.len(), random)?;
        let (a, b) = (&all[a], &all[b]);
        let is_ready = |endpoint: &Endpoint| endpoint.availability(now) == Availability::Ready;
        match (is_ready(a), is_ready(b)) {
            (true, true) => Some(if b.load(now) < a.load(now) { b.clone() } else { a.clone() }),
            (true, false) => Some(a.clone()),
            (false, true) => Some(b.clone()),
            // Both draws are out; with a few endpoints down, look at the rest before giving up.
            (false, false) => all.iter().find(|endpoint| is_ready(endpoint)).cloned(),
        }
    }

    fn try_pick(&self, now: Instant) -> Option<Picked> {
        loop {
            let endpoint = self.ready(now)?;
            // Another request may have taken the probe in between; then look again.
            let Some(verdict) = endpoint.enter(now) else { continue };
            if self.gate.is_stalled.load(Relaxed) && endpoint.is_proven() {
                self.flows();
            }
            return Some(Picked { pending: endpoint.begin(), endpoint, verdict });
        }
    }

    fn earliest_retry(&self, now: Instant) -> Option<Instant> {
        let later = |endpoint: &Arc<Endpoint>| match endpoint.availability(now) {
            Availability::Ready => Some(now),
            Availability::NotBefore(at) => at,
        };
        self.endpoints.load().iter().filter_map(later).min()
    }

    /// A ready endpoint, waiting for one. When none was for the failfast time, all who wait fail, and later ones at once.
    pub async fn pick(&self, queue: QueueSettings) -> Result<Picked, Failure> {
        let metrics = self.metrics.as_ref();
        if let Some(picked) = self.try_pick(Instant::now()) {
            if let Some(metrics) = metrics {
                metrics.passed();
            }
            return Ok(picked);
        }
        if let Some(reason) = self.refusal.lock().clone() {
            return Err(Failure::BackendUnusable(reason));
        }
        if self.gate.is_shut.load(Relaxed) {
            return Err(Failure::LoadShed);
        }
        let _place = self.queue(queue.capacity)?;
        let queued = metrics.map(BalancerMetrics::queued);
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            let now = Instant::now();
            if let Some(picked) = self.try_pick(now) {
                if let Some(queued) = queued {
                    queued.passed();
                }
                return Ok(picked);
            }
            let deadline = self.stalls(now) + queue.failfast;
            if now >= deadline {
                self.shut();
            }
            if self.gate.is_shut.load(Relaxed) {
                return Err(Failure::FailFast);
            }
            let until = self.earliest_retry(now).map_or(deadline, |at| at.min(deadline));
            tokio::select! {
                () = changed => {}
                () = tokio::time::sleep_until(until.into()) => {}
            }
        }
    }

    /// Since when nothing could be sent, beginning now if it did not yet.
    fn stalls(&self, now: Instant) -> Instant {
        let since = *self.gate.stalled_since.lock().get_or_insert(now);
        self.gate.is_stalled.store(true, Relaxed);
        since
    }

    /// Something could be sent: the wait is over, and the gate opens.
    fn flows(&self) {
        self.gate.is_stalled.store(false, Relaxed);
        *self.gate.stalled_since.lock() = None;
        if self.gate.is_shut.swap(false, Relaxed)
            && let Some(metrics) = &self.metrics
        {
            metrics.gate(true);
        }
    }

    fn shut(&self) {
        if !self.gate.is_shut.swap(true, Relaxed) {
            if let Some(metrics) = &self.metrics {
                metrics.gate(false);
            }
            self.changed.notify_waiters();
        }
    }

    pub fn reached(&self, endpoint: &Endpoint) {
        if endpoint.connected() {
            self.count_endpoints();
        }
        if self.gate.is_stalled.load(Relaxed) {
            self.flows();
        }
    }

    pub fn not_reached(&self, endpoint: &Endpoint) {
        endpoint.unreachable(&mut self.rng.lock());
        self.count_endpoints();
    }

    fn queue(&self, capacity: usize) -> Result<Place<'_>, Failure> {
        let place = Place(&self.waiting);
        if self.waiting.fetch_add(1, Relaxed) >= capacity { Err(Failure::LoadShed) } else { Ok(place) }
    }
}

fn queue_of(proxy: &Proxy, subject: &Subject) -> QueueSettings {
    match subject.carries {
        Carries::Http => proxy.settings.outbound_queue,
        Carries::Tcp | Carries::Tls => proxy.settings.outbound_tcp_queue,
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
        if let (Some(subject), Some(proxy)) = (&self.subject, self.proxy.upgrade()) {
            proxy.balancers.released(&subject.balancing.path);
        }
    }
}
