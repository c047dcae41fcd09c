//! One endpoint with its connections, its load and whether it can be reached now.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use weft_core::{
    balance::{PeakEwma, Rng},
    endpoint::{EndpointInfo, OutboundTls, ProtocolHint},
    metrics::{HttpMetrics, Labels},
    settings::BackoffSettings,
    transport_header::Session,
};

use crate::{
    client::{Client, ClientSettings},
    connect::{Connector, HeaderTarget},
    proxy::Proxy,
};

pub struct Endpoint {
    pub info: EndpointInfo,
    pub client: Client,
    pub http: Arc<HttpMetrics>,
    /// `direction`, `authority`, TARGET, TLS_OUT and DST.
    pub labels: Labels,
    load: Mutex<PeakEwma>,
    pending: AtomicU32,
    reach: Mutex<Reach>,
    backoff: BackoffSettings,
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
    pub fn new(
        proxy: &Proxy,
        info: EndpointInfo,
        authority: &str,
        default_rtt: Duration,
        decay: Duration,
    ) -> Arc<Self> {
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
            metrics: Some(proxy.metrics.transport(&transport)),
            identity: proxy.identity.clone(),
        };
        let client = ClientSettings {
            stream_window: settings.http2_initial_stream_window,
            connection_window: settings.http2_initial_connection_window,
            pool_idle: settings.http1_pool_idle,
            max_idle: settings.max_idle_conns_per_endpoint,
            max_header_bytes: settings.max_header_bytes,
        };
        Arc::new(Self {
            client: Client::new(connector, client),
            http: proxy.metrics.http.metrics(labels.clone()),
            labels,
            load: Mutex::new(PeakEwma::new(default_rtt, decay, Instant::now())),
            pending: AtomicU32::new(0),
            reach: Mutex::default(),
            backoff: settings.outbound_connect_backoff,
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

    /// None: ready. Some: when it may be tried again.
    pub fn retry_at(&self, now: Instant) -> Option<Instant> {
        self.reach.lock().retry_at.filter(|at| *at > now)
    }

    pub fn connected(&self) {
        let mut reach = self.reach.lock();
        if reach.failures > 0 {
            *reach = Reach::default();
        }
    }

    /// Out of rotation for a growing, jittered while. Several callers that waited for one attempt count once.
    pub fn unreachable(&self, rng: &mut Rng) {
        let now = Instant::now();
        let mut reach = self.reach.lock();
        if reach.retry_at.is_some_and(|at| at > now) {
            return;
        }
        let base = self.backoff.min.saturating_mul(1 << reach.failures.min(16)).min(self.backoff.max);
        let jitter = base.mul_f64(self.backoff.jitter_ratio * (rng.next_u64() >> 11) as f64 / (1u64 << 53) as f64);
        reach.failures = reach.failures.saturating_add(1);
        reach.retry_at = Some(now + (base + jitter).min(self.backoff.max));
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
}

impl Drop for Pending {
    fn drop(&mut self) {
        self.endpoint.pending.fetch_sub(1, Relaxed);
    }
}
