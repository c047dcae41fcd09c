//! What every part of one proxy shares.

use std::{
    hash::{BuildHasher, Hasher, RandomState},
    io,
    sync::{Arc, OnceLock},
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use weft_core::{balance::Rng, settings::Settings};

use crate::{
    admin::AdminRequests, discovery::Balancers, dns::Dns, drain::Drain, events::EventQueue, identity::IdentityStore,
    in_flight::InFlight, metrics::Metrics, orig_dst::OriginalDst, ports::Ports, profiles::Profiles, recorder::Recorder,
    targets::Targets,
};

pub struct Proxy {
    pub settings: Settings,
    pub identity: Arc<IdentityStore>,
    pub metrics: Metrics,
    pub events: Arc<EventQueue>,
    pub balancers: Balancers,
    pub targets: Targets,
    pub ports: Ports,
    pub profiles: Profiles,
    pub admin: AdminRequests,
    pub drain: Arc<Drain>,
    pub recorder: Recorder,
    pub original_dst: Box<dyn OriginalDst>,
    dns: OnceLock<Dns>,
    pub inbound_requests: InFlight,
    pub outbound_requests: InFlight,
    rng: Mutex<Rng>,
    started: Instant,
}

impl Proxy {
    pub fn new(settings: Settings, original_dst: Box<dyn OriginalDst>) -> Result<Arc<Self>, String> {
        let events = EventQueue::new().map_err(|e| format!("event queue: {e}"))?;
        let events = Arc::new(events);
        let identity = IdentityStore::new(&settings.local_identity, &settings.trust_anchors_pem)?;
        let metrics = Metrics::new();
        Ok(Arc::new(Self {
            identity: Arc::new(identity),
            balancers: Balancers::new(events.clone()),
            targets: Targets::new(settings.outbound_discovery_idle, events.clone()),
            ports: Ports::new(&settings, events.clone()),
            profiles: Profiles::new(&settings, events.clone()),
            admin: AdminRequests::default(),
            drain: Drain::new(),
            recorder: Recorder::new(&metrics, settings.access_log.is_some() || settings.trace),
            original_dst,
            dns: OnceLock::new(),
            inbound_requests: InFlight::new(settings.inbound_max_in_flight),
            outbound_requests: InFlight::new(settings.outbound_max_in_flight),
            rng: Mutex::new(Rng(seed())),
            started: Instant::now(),
            events,
            metrics,
            settings,
        }))
    }

    /// Read when first needed: a proxy whose control plane is on this host never does.
    pub fn dns(&self) -> io::Result<&Dns> {
        if let Some(dns) = self.dns.get() {
            return Ok(dns);
        }
        let dns = Dns::new()?;
        Ok(self.dns.get_or_init(|| dns))
    }

    /// For draws by weight and ratio.
    pub fn random(&self) -> u64 {
        self.rng.lock().next_u64()
    }

    /// A clock for decisions that count time from any fixed moment.
    pub fn since_start(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.started)
    }
}

/// Not secret, and different at every call.
pub fn seed() -> u64 {
    RandomState::new().build_hasher().finish()
}
