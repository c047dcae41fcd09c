//! ServiceProfiles of the names by which clients ask for this workload: looked up once for all their connections, to label
//! what is counted (wire.md 2.1, 2.2). No request fails for want of one.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::{Duration, Instant},
};

use http::Request;
use parking_lot::Mutex;
use tokio::time::timeout_at;
use weft_core::{
    addr::covers,
    headers::DST_CANONICAL,
    logical_name::LogicalName,
    metrics::HttpMetrics,
    orig_proto::host_of,
    profile::{ProfileRoutes, ProfileRule, dst_of},
    settings::Settings,
};
use weft_proto::{
    engine::{DiscoverProfile, ReleaseProfile, SetProfile, event::Kind},
    linkerd::destination::DestinationProfile,
};

use crate::{
    cache::{Cache, Lease},
    events::EventQueue,
    lookup::Lookup,
    metrics::Metrics,
};

/// Clients choose the names, and each costs a stream to the control plane. A workload has a few.
const MAX_NAMES: usize = 64;
/// Idle for so long, a name gives way to another: one made up at each request would else open a stream at each request.
const SPARE: Duration = Duration::from_secs(10);
/// Names that one connection remembers.
const MAX_REMEMBERED: usize = 8;
/// Ports of one name that are counted: clients choose these too, and each has series for every route.
const MAX_PORTS: usize = 32;
/// Of a DNS name with a port; nothing longer is one.
const MAX_LENGTH: usize = 253 + ".:65535".len();

pub struct Profiles {
    cache: Arc<Cache<Arc<str>, Profile>>,
    events: Arc<EventQueue>,
    /// By name of a profile with routes, so as many as there are.
    ports: Mutex<HashMap<String, HashSet<u16>>>,
    suffixes: Vec<String>,
    wait: Duration,
}

pub type ProfileLease = Lease<Arc<str>, Profile>;
type Routes = ProfileRoutes<Arc<ProfileRoute>>;

pub struct Profile {
    routes: Lookup<Routes>,
    /// Who asks later does not wait for the first answer.
    waited_for_until: Instant,
}

/// A route of a profile, and the series of its requests as their clients see them.
pub struct ProfileRoute {
    pub rule: Arc<ProfileRule>,
    pub series: Arc<HttpMetrics>,
}

impl ProfileRoute {
    /// direction: `inbound` or `outbound`.
    pub fn new(metrics: &Metrics, direction: &str, rule: Arc<ProfileRule>) -> Self {
        let series = metrics.profile_routes.metrics(rule.series_labels(direction));
        Self { rule, series }
    }
}

impl Profiles {
    pub fn new(settings: &Settings, events: Arc<EventQueue>) -> Self {
        let told = events.clone();
        let cache = Cache::new(settings.inbound_discovery_idle, move |name: &Arc<str>| {
            told.push(Kind::ReleaseProfile(ReleaseProfile { authority: name.to_string() }));
        });
        Self {
            cache,
            events,
            ports: Mutex::default(),
            suffixes: settings.inbound_profile_suffixes.clone(),
            wait: settings.inbound_profile_wait,
        }
    }

    /// None for a name that has no profiles, whoever asks.
    fn key(&self, text: &str) -> Option<Arc<str>> {
        let name = LogicalName::parse(text).filter(|name| covers(&self.suffixes, &name.name))?;
        Some(name.to_string().into())
    }

    /// None while too many names are, or were just, in use.
    fn lease(&self, key: Arc<str>) -> Option<ProfileLease> {
        self.cache.lease_within(MAX_NAMES, SPARE, key.clone(), || {
            self.events.push(Kind::DiscoverProfile(DiscoverProfile { authority: key.to_string() }));
            Profile { routes: Lookup::default(), waited_for_until: Instant::now() + self.wait }
        })
    }

    pub fn set(&self, metrics: &Metrics, answer: &SetProfile) {
        // Already released: the answer crossed our release on the way.
        let Some(profile) = self.cache.get(&answer.authority.as_str().into()) else {
            return;
        };
        let named = LogicalName::parse(&answer.authority);
        let known = answer.profile.as_ref().zip(named).filter(|(wire, named)| self.counts(wire, named.port));
        profile.routes.answer(known.map_or_else(Routes::default, |(wire, named)| routes(metrics, wire, named.port)));
    }

    /// Whether the profile's routes get series under this port.
    fn counts(&self, profile: &DestinationProfile, port: u16) -> bool {
        if profile.routes.is_empty() {
            return true;
        }
        let mut ports = self.ports.lock();
        let ports = ports.entry(profile.fully_qualified_name.clone()).or_default();
        ports.contains(&port) || (ports.len() < MAX_PORTS && ports.insert(port))
    }
}

fn routes(metrics: &Metrics, profile: &DestinationProfile, port: u16) -> Routes {
    // Retries are the outbound side's.
    let Some(dst) = dst_of(profile, port) else { return Routes::default() };
    Routes::compile(profile, |route| {
        Arc::new(ProfileRoute::new(metrics, "inbound", Arc::new(ProfileRule::new(&dst, route, None))))
    })
}

impl Profile {
    /// None while there is no answer and the time to wait for one is over.
    pub async fn routes(&self) -> Option<Arc<Routes>> {
        if let Some(routes) = self.routes.current() {
            return Some(routes);
        }
        if Instant::now() >= self.waited_for_until {
            return None;
        }
        // Boxed, so that the many requests that do not wait keep no room for it.
        Box::pin(timeout_at(self.waited_for_until.into(), self.routes.discovered())).await.ok()
    }
}

/// The names that the requests of one connection gave, so that each is read only once. Held by none between requests.
#[derive(Default)]
pub struct Names(Mutex<Vec<Named>>);

struct Named {
    /// As the request spelt it.
    text: Box<str>,
    /// None for a name that has no profiles.
    key: Option<Arc<str>>,
}

impl Names {
    /// What is to be known of the name that the request is for. None when there is nothing.
    pub fn profile<B>(&self, profiles: &Profiles, request: &Request<B>) -> Option<ProfileLease> {
        if profiles.suffixes.is_empty() {
            return None;
        }
        let text = name_of(request);
        profiles.lease(self.key(profiles, text)?)
    }

    fn key(&self, profiles: &Profiles, text: &str) -> Option<Arc<str>> {
        let mut known = self.0.lock();
        if let Some(named) = known.iter().find(|named| *named.text == *text) {
            return named.key.clone();
        }
        if text.len() > MAX_LENGTH {
            return None;
        }
        let key = profiles.key(text);
        if known.len() >= MAX_REMEMBERED {
            known.remove(0);
        }
        known.push(Named { text: text.into(), key: key.clone() });
        key
    }
}

/// As the client's proxy says, else as the client does.
fn name_of<B>(request: &Request<B>) -> &str {
    let canonical = request.headers().get(DST_CANONICAL).and_then(|name| name.to_str().ok());
    canonical.unwrap_or_else(|| host_of(request))
}
