//! A target's policy with what belongs to it on this side: the balancers of its backends, the series of its rules.

use std::{
    cell::Cell,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::{Arc, OnceLock},
    time::Instant,
};

use parking_lot::Mutex;
use weft_core::{
    budget::{Budget, BudgetSettings},
    logical_name::LogicalName,
    metrics::{BackendSeries, Counter, HttpMetrics, Labels, Outcome, RouteFamilies, RouteOutcome, RouteSeries},
    outbound::{
        BackendIndex, BackendKind, Carries, ClientPolicy, ClientProtocol, Distribution, HttpRule, NoBackend,
        RouteBackend, RuleKind,
    },
    profile::ProfileRule,
};
use weft_proto::engine::SetOutboundTarget;

use crate::{balancer::Balancer, discovery::Subject, profiles::ProfileRoute, proxy::Proxy, respond::Ended};

/// Names of hosts that one rule remembers for its `hostname` label; others share the series without a name.
const MAX_HOSTS: usize = 64;
const UNKNOWN_NAME: &str = "the control plane does not know the name";

pub struct Routing {
    pub policy: ClientPolicy,
    /// In the order of `policy.backends`, each made when first asked for.
    backends: Vec<OnceLock<Option<Arc<Balancer>>>>,
    /// By `HttpRule::id`.
    rules: Vec<RuleState>,
    /// PARENT labels.
    pub parent: Labels,
    /// Discovery refused the target for good.
    pub refusal: Option<String>,
    /// Of a ServiceProfile; outlives changes of the policy.
    budget: Option<Arc<(BudgetSettings, Mutex<Budget>)>>,
}

enum RuleState {
    Policy(PolicySeries),
    Profile(Arc<ProfileSeries>),
}

struct PolicySeries {
    families: Arc<RouteFamilies>,
    /// PARENT and ROUTE.
    labels: Labels,
    /// Without a host's name.
    nameless: Arc<RouteSeries>,
    named: Mutex<Vec<(String, Arc<RouteSeries>)>>,
    backends: Vec<(BackendIndex, Arc<BackendSeries>)>,
}

pub struct ProfileSeries {
    pub route: ProfileRoute,
    pub actual: Arc<HttpMetrics>,
    pub retryable: Arc<Counter>,
    pub no_budget: Arc<Counter>,
}

/// What counts one rule's requests, as their clients see them.
#[derive(Clone)]
pub enum Counts {
    Policy(Arc<RouteSeries>),
    Profile(Arc<ProfileSeries>),
}

/// One request's place in its rule's counts.
pub struct RouteWatch {
    counts: Counts,
    started: Instant,
}

impl Routing {
    /// dst: None for a target by name, which leads nowhere unless the control plane knows it. Of its `name:port` routes
    /// and profiles need the port.
    pub fn new(proxy: &Arc<Proxy>, dst: Option<SocketAddr>, answer: &SetOutboundTarget, before: Option<&Self>) -> Self {
        let is_unknown = answer.policy.is_none() && answer.profile.as_ref().is_none_or(|p| p.endpoint.is_none());
        let refusal = match dst {
            None if is_unknown && answer.refusal.is_empty() => Some(UNKNOWN_NAME.to_owned()),
            _ => Some(answer.refusal.clone()).filter(|reason| !reason.is_empty()),
        };
        let policy = match &refusal {
            Some(reason) => ClientPolicy::invalid(reason),
            None => {
                let local = &proxy.settings.inbound_ips;
                let port = || LogicalName::parse(&answer.authority).map_or(0, |name| name.port);
                let dst = dst.unwrap_or_else(|| SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), port()));
                ClientPolicy::compile(dst, answer.policy.as_ref(), answer.profile.as_ref(), local)
            }
        };
        let mut parent = Labels::default();
        policy.parent.full_labels("parent", &mut parent);
        let rules = policy.rules().into_iter().map(|rule| RuleState::new(proxy, &policy, &parent, rule)).collect();
        let budget = policy.rules().iter().find_map(|rule| match &rule.kind {
            RuleKind::Profile(profile) => profile.budget,
            RuleKind::Http | RuleKind::Grpc => None,
        });
        let kept = before.and_then(|before| before.budget.clone()).filter(|kept| Some(kept.0) == budget);
        let fresh = || budget.map(|settings| Arc::new((settings, Mutex::new(Budget::new(settings, Instant::now())))));
        let routing = Self {
            backends: policy.backends.iter().map(|_| OnceLock::new()).collect(),
            rules,
            parent,
            refusal,
            budget: kept.or_else(fresh),
            policy,
        };
        routing.begin(proxy, before);
        routing
    }

    /// Starts what will most likely be needed, and takes over connections to fixed endpoints that are still wanted.
    fn begin(&self, proxy: &Arc<Proxy>, before: Option<&Self>) {
        let is_opaque = matches!(self.protocol(), ClientProtocol::Opaque(_));
        for (index, backend) in self.policy.backends.iter().enumerate() {
            let known = before.into_iter().flat_map(|before| before.backends.iter().zip(&before.policy.backends));
            let same = known.filter(|(_, old)| *old == backend && matches!(old.kind, BackendKind::Forward(_)));
            if let Some(balancer) = same.filter_map(|(balancer, _)| balancer.get()).next() {
                let _ = self.backends[index].set(balancer.clone());
            } else if backend.carries == Carries::Http || is_opaque {
                self.balancer(proxy, index);
            }
        }
    }

    /// None where a backend did not resolve.
    pub fn balancer(&self, proxy: &Arc<Proxy>, index: BackendIndex) -> Option<&Arc<Balancer>> {
        let made = self.backends[index].get_or_init(|| {
            let backend = &self.policy.backends[index];
            match &backend.kind {
                BackendKind::Forward(info) => Some(Balancer::forward(proxy, info.clone())),
                BackendKind::Balancer(balancing) => {
                    let subject = Subject {
                        balancing: balancing.clone(),
                        carries: backend.carries,
                        parent: self.policy.parent.clone(),
                        backend: backend.meta.clone(),
                    };
                    Some(proxy.balancers.get(proxy, &subject))
                }
                BackendKind::Unusable => None,
            }
        });
        made.as_ref()
    }

    /// The backend that takes what comes now. A backend whose endpoints could not be reached is passed over, and tried
    /// meanwhile; when all are like that, what comes is the try.
    pub fn choose<'a, F>(
        &self,
        proxy: &Arc<Proxy>,
        backends: &'a Distribution<F>,
    ) -> Result<&'a RouteBackend<F>, NoBackend> {
        let is_passed_over = Cell::new(false);
        let is_available = |backend| {
            let is_available = self.is_available(proxy, backend);
            is_passed_over.set(is_passed_over.get() || !is_available);
            is_available
        };
        let chosen = backends.choose(is_available, || proxy.random());
        match chosen {
            Ok(_) if is_passed_over.get() => {
                let all = backends.backends().filter_map(|one| self.balancer(proxy, one.backend));
                all.for_each(Balancer::try_again);
                chosen
            }
            Err(NoBackend::AllShut) => {
                let may_be_tried =
                    |backend| self.balancer(proxy, backend).is_none_or(|balancer| balancer.may_be_tried());
                backends.choose(may_be_tried, || proxy.random())
            }
            chosen => chosen,
        }
    }

    /// A backend that did not resolve is available: it fails what it is given.
    pub fn is_available(&self, proxy: &Arc<Proxy>, index: BackendIndex) -> bool {
        self.balancer(proxy, index).is_none_or(|balancer| balancer.is_available())
    }

    pub fn protocol(&self) -> &ClientProtocol {
        &self.policy.protocol
    }

    pub fn budget(&self) -> Option<&Mutex<Budget>> {
        self.budget.as_ref().map(|budget| &budget.1)
    }

    /// host: a name to label with; ignored when it is an address.
    pub fn counts(&self, rule: &HttpRule, host: Option<&str>) -> Counts {
        match &self.rules[rule.id] {
            RuleState::Policy(series) => Counts::Policy(series.named(host)),
            RuleState::Profile(series) => Counts::Profile(series.clone()),
        }
    }

    /// None on rules of a ServiceProfile.
    pub fn backend_series(&self, rule: &HttpRule, backend: BackendIndex) -> Option<&Arc<BackendSeries>> {
        match &self.rules[rule.id] {
            RuleState::Policy(series) => series.backends.iter().find(|(b, _)| *b == backend).map(|(_, series)| series),
            RuleState::Profile(_) => None,
        }
    }
}

impl RuleState {
    fn new(proxy: &Proxy, policy: &ClientPolicy, parent: &Labels, rule: &HttpRule) -> Self {
        let families = match &rule.kind {
            RuleKind::Http => &proxy.metrics.http_routes,
            RuleKind::Grpc => &proxy.metrics.grpc_routes,
            RuleKind::Profile(profile) => return Self::Profile(Arc::new(ProfileSeries::new(proxy, profile))),
        };
        let mut labels = parent.clone();
        rule.route.route_labels(&mut labels);
        let mut backends: Vec<(BackendIndex, Arc<BackendSeries>)> = Vec::new();
        for one in rule.backends.backends() {
            if backends.iter().all(|(known, _)| *known != one.backend) {
                let mut labels = labels.clone();
                policy.backends[one.backend].meta.full_labels("backend", &mut labels);
                backends.push((one.backend, families.backend(labels)));
            }
        }
        Self::Policy(PolicySeries {
            families: families.clone(),
            nameless: families.route(labels.clone().with("hostname", "")),
            labels,
            named: Mutex::default(),
            backends,
        })
    }
}

impl PolicySeries {
    fn named(&self, host: Option<&str>) -> Arc<RouteSeries> {
        let is_name = |host: &&str| !host.is_empty() && host.trim_matches(['[', ']']).parse::<IpAddr>().is_err();
        let Some(host) = host.filter(is_name) else {
            return self.nameless.clone();
        };
        let mut named = self.named.lock();
        if let Some((_, series)) = named.iter().find(|(known, _)| known.eq_ignore_ascii_case(host)) {
            return series.clone();
        }
        if named.len() >= MAX_HOSTS {
            return self.nameless.clone();
        }
        let host = host.to_ascii_lowercase();
        let series = self.families.route(self.labels.clone().with("hostname", &host));
        named.push((host, series.clone()));
        series
    }
}

impl ProfileSeries {
    fn new(proxy: &Proxy, rule: &Arc<ProfileRule>) -> Self {
        let metrics = &proxy.metrics;
        let labels = rule.series_labels("outbound");
        Self {
            route: ProfileRoute::new(metrics, "outbound", rule.clone()),
            actual: metrics.profile_tries.metrics(labels.clone()),
            retryable: metrics.profile_retryable.series(&labels),
            no_budget: metrics.profile_retryable.series(&labels.with("skipped", "no_budget")),
        }
    }
}

impl Counts {
    pub fn started(self, at: Instant) -> RouteWatch {
        if let Self::Profile(series) = &self {
            series.route.series.requests.incr();
        }
        RouteWatch { counts: self, started: at }
    }
}

impl RouteWatch {
    pub fn first_frame(&self, status: u16) {
        if let Counts::Profile(series) = &self.counts {
            series.route.series.latency(Some(status), self.started.elapsed());
        }
    }

    /// outcome, legacy: the same end, as the two generations of families count it.
    pub fn ended(self, outcome: RouteOutcome, legacy: Outcome) {
        match &self.counts {
            Counts::Policy(series) => series.ended(outcome, self.started.elapsed()),
            Counts::Profile(series) => series.route.series.response(legacy),
        }
    }

    /// The request got no answer from an endpoint.
    pub fn failed(self, ended: &Ended) {
        match &self.counts {
            Counts::Policy(series) => series.ended(ended.route_outcome(), self.started.elapsed()),
            Counts::Profile(series) => series.route.series.failed(ended.status(), self.started.elapsed()),
        }
    }
}
