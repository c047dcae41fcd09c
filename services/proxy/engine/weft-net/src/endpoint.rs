//! One endpoint with its connections, its load, and whether it takes a request now: reachable, and not failing.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use http::{HeaderMap, header};
use parking_lot::Mutex;
use tokio::sync::Notify;
use weft_core::{
    backoff::Backoff,
    balance::{Load, PeakEwma, Penalty, Rng},
    breaker::{Accrual, Admission, Breaker, Class},
    endpoint::{EndpointInfo, OutboundTls, ProtocolHint},
    metrics::{HttpMetrics, Labels},
    transport_header::Session,
};

use crate::{
    client::{Client, ClientSettings},
    connect::{Connector, HeaderTarget},
    proxy::{Proxy, seed},
};

pub struct Endpoint {
    pub info: EndpointInfo,
    pub known_since: Instant,
    pub client: Client,
    pub http: Arc<HttpMetrics>,
    /// `direction`, `authority`, TARGET, TLS_OUT and DST.
    pub labels: Labels,
    load: Mutex<PeakEwma>,
    penalty: Option<Penalty>,
    pending: AtomicU32,
    reach: Mutex<Reach>,
    backoff: Backoff,
    /// None when the policy does not accrue failures.
    breaker: Option<Mutex<Breaker>>,
    /// Wakes those who wait for an endpoint.
    changed: Arc<Notify>,
}

/// What a balancer gives each of its endpoints.
#[derive(Clone)]
pub struct EndpointSettings {
    pub load: Load,
    pub accrual: Option<Accrual>,
    /// Told when the endpoint may take requests again.
    pub changed: Arc<Notify>,
}

#[derive(Default)]
struct Reach {
    failures: u32,
    retry_at: Option<Instant>,
}

/// One request counted into the endpoint's load until its latency is known.
pub struct Pending {
    endpoint: Arc<Endpoint>,
    started: Instant,
}

impl Endpoint {
    /// authority: the logical name that led here, for labels; empty for plain forwarding.
    pub fn new(proxy: &Proxy, info: EndpointInfo, authority: &str, own: EndpointSettings) -> Arc<Self> {
        let mut labels = Labels::default();
        labels.add("direction", "outbound");
        let mut transport = labels.clone().with("peer", "dst");
        if !authority.is_empty() {
            labels.add("authority", authority);
            transport.add("authority", authority);
        }
        info.labels(&mut labels);
        info.labels(&mut transport);
        let tls = match &info.tls {
            OutboundTls::Mesh(id) => Some(id.clone()),
            OutboundTls::Loopback | OutboundTls::NotProvided => None,
        };
        let settings = &proxy.settings;
        let connector = Connector {
            addr: info.connect_addr(),
            tls,
            header: header_target(&info),
            timeout: settings.outbound_connect_timeout,
            keepalive: settings.outbound_connect_keepalive,
            metrics: Some(proxy.metrics.transport_to_zone(&transport, info.zone_locality())),
            identity: proxy.identity.clone(),
        };
        let client = ClientSettings {
            stream_window: settings.http2_initial_stream_window,
            connection_window: settings.http2_initial_connection_window,
            pool_idle: settings.http1_pool_idle,
            max_idle: settings.max_idle_conns_per_endpoint,
            max_header_bytes: settings.max_header_bytes,
            http2: info.http2,
        };
        let now = Instant::now();
        Arc::new(Self {
            known_since: now,
            client: Client::new(connector, client),
            http: proxy.metrics.http.metrics(labels.clone()),
            labels,
            load: Mutex::new(PeakEwma::new(own.load.default_rtt, own.load.decay, now)),
            penalty: own.load.penalty,
            pending: AtomicU32::new(0),
            reach: Mutex::default(),
            backoff: settings.outbound_connect_backoff,
            breaker: own.accrual.map(|accrual| Mutex::new(Breaker::new(accrual, now))),
            changed: own.changed,
            info,
        })
    }

    pub fn load(&self, now: Instant) -> f64 {
        self.load.lock().load(self.pending.load(Relaxed), now)
    }

    pub fn begin(self: &Arc<Self>) -> Pending {
        self.pending.fetch_add(1, Relaxed);
        Pending { endpoint: self.clone(), started: Instant::now() }
    }

    pub fn availability(&self, now: Instant) -> Availability {
        if let Some(at) = self.reach.lock().retry_at.filter(|at| *at > now) {
            return Availability::NotBefore(Some(at));
        }
        match self.breaker.as_ref().map(|breaker| breaker.lock().admission(now)) {
            None | Some(Admission::Open | Admission::Probe) => Availability::Ready,
            Some(Admission::Shut(until)) => Availability::NotBefore(until),
        }
    }

    /// Reached when last tried, or not tried yet.
    pub fn is_reached(&self) -> bool {
        self.reach.lock().failures == 0
    }

    /// Reached when last tried, and not shut for its failures.
    pub fn is_proven(&self) -> bool {
        self.is_reached() && self.breaker.as_ref().is_none_or(|breaker| breaker.lock().is_open())
    }

    /// What will hear how a request that is sent now turns out. None when another took the one place of a probe.
    pub fn enter(self: &Arc<Self>, now: Instant) -> Option<Verdict> {
        let Some(breaker) = &self.breaker else {
            return Some(Verdict { endpoint: None, is_probe: false });
        };
        let mut breaker = breaker.lock();
        let is_probe = !breaker.is_open();
        if is_probe && !breaker.begin_probe(now) {
            return None;
        }
        Some(Verdict { endpoint: Some(self.clone()), is_probe })
    }

    /// True when it had failed before.
    pub fn connected(&self) -> bool {
        let mut reach = self.reach.lock();
        let failed = reach.failures > 0;
        if failed {
            *reach = Reach::default();
        }
        failed
    }

    /// Out of rotation for a growing, jittered while. Several callers that waited for one attempt count once.
    pub fn unreachable(&self, rng: &mut Rng) {
        let now = Instant::now();
        let mut reach = self.reach.lock();
        if reach.retry_at.is_some_and(|at| at > now) {
            return;
        }
        reach.retry_at = Some(now + self.backoff.delay(reach.failures, rng.next_u64()));
        reach.failures = reach.failures.saturating_add(1);
    }

    /// What a transport header says about HTTP to this endpoint.
    pub fn session(&self, session: Session) -> Option<Session> {
        (self.info.hint != ProtocolHint::Opaque).then_some(session)
    }
}

fn header_target(info: &EndpointInfo) -> Option<HeaderTarget> {
    if !info.wants_transport_header() {
        return None;
    }
    match &info.authority_override {
        Some(authority) => {
            let (name, port) = authority.rsplit_once(':')?;
            Some(HeaderTarget { port: port.parse().ok()?, name: Some(name.to_owned()) })
        }
        None => Some(HeaderTarget { port: info.addr.port(), name: None }),
    }
}

impl Pending {
    /// Records the latency up to now.
    pub fn sample(self) {
        let now = Instant::now();
        self.endpoint.load.lock().record(now.duration_since(self.started), now);
    }

    /// What a failing answer weighs instead of its latency; None when it is to be measured.
    pub fn penalty(&self, status: u16, grpc_status: Option<u8>, headers: &HeaderMap) -> Option<Duration> {
        let penalty = self.endpoint.penalty.as_ref()?;
        let hint = headers.get(header::RETRY_AFTER).and_then(|value| value.to_str().ok()?.trim().parse().ok());
        penalty.of(status, grpc_status, hint.map(Duration::from_secs))
    }

    pub fn penalise(self, weight: Duration) {
        self.endpoint.load.lock().record(weight, Instant::now());
    }
}

/// Whether an endpoint takes a request now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Availability {
    Ready,
    /// None while its probe is under way.
    NotBefore(Option<Instant>),
}

/// One request's place with its endpoint's breaker.
pub struct Verdict {
    /// None once recorded, or when the endpoint has no breaker.
    endpoint: Option<Arc<Endpoint>>,
    is_probe: bool,
}

impl Verdict {
    /// Only the first record of a request counts.
    pub fn record(&mut self, class: Class) {
        let Some(endpoint) = self.endpoint.take() else { return };
        let Some(breaker) = &endpoint.breaker else { return };
        breaker.lock().record(class, self.is_probe, Instant::now(), seed());
        if self.is_probe {
            endpoint.changed.notify_waiters();
        }
    }
}

impl Drop for Verdict {
    fn drop(&mut self) {
        if let Some(endpoint) = self.endpoint.take().filter(|_| self.is_probe)
            && let Some(breaker) = &endpoint.breaker
        {
            breaker.lock().abandon_probe(Instant::now());
            endpoint.changed.notify_waiters();
        }
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        self.endpoint.pending.fetch_sub(1, Relaxed);
    }
}
