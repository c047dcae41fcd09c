//! Outbound targets by original destination: each is discovered once for all connections to it (wire.md 2.1, 2.2).

use std::{net::SocketAddr, sync::Arc, time::Duration};

use arc_swap::ArcSwapOption;
use tokio::sync::Notify;
use weft_core::{
    addr,
    metrics::Labels,
    outbound::{BackendKind, ClientPolicy, ClientProtocol},
};
use weft_proto::engine::{DiscoverTarget, ReleaseTarget, SetOutboundTarget, event::Kind};

use crate::{
    balancer::Balancer,
    cache::{Cache, Lease},
    events::EventQueue,
    proxy::Proxy,
};

pub struct Targets {
    cache: Arc<Cache<SocketAddr, Target>>,
    events: Arc<EventQueue>,
}

pub type TargetLease = Lease<SocketAddr, Target>;

#[derive(Default)]
pub struct Target {
    current: ArcSwapOption<Routing>,
    answered: Notify,
}

/// A target's policy with the balancers its backends stand for.
pub struct Routing {
    pub policy: ClientPolicy,
    /// In the order of `policy.backends`; None where a backend did not resolve.
    backends: Vec<Option<Arc<Balancer>>>,
    /// PARENT labels.
    pub parent: Labels,
    /// Discovery refused the target for good.
    pub refusal: Option<String>,
}

impl Targets {
    pub fn new(idle: Duration, events: Arc<EventQueue>) -> Self {
        let told = events.clone();
        let cache = Cache::new(idle, move |dst: &SocketAddr| {
            let original_dst = Some(addr::wire_socket(*dst));
            told.push(Kind::ReleaseTarget(ReleaseTarget { original_dst }));
        });
        Self { cache, events }
    }

    pub fn lease(&self, dst: SocketAddr) -> TargetLease {
        self.cache.lease(dst, || {
            let original_dst = Some(addr::wire_socket(dst));
            self.events.push(Kind::DiscoverTarget(DiscoverTarget { original_dst }));
            Target::default()
        })
    }

    /// Errors when the message names no address.
    pub fn set(&self, proxy: &Arc<Proxy>, answer: &SetOutboundTarget) -> Result<(), String> {
        let dst = addr::socket_from(answer.original_dst.as_ref()).ok_or("set_outbound_target: no original_dst")?;
        // Already released: the answer crossed our release on the way.
        let Some(target) = self.cache.get(&dst) else {
            return Ok(());
        };
        let before = target.current.load();
        let routing = Routing::new(proxy, dst, answer, before.as_deref());
        target.current.store(Some(Arc::new(routing)));
        target.answered.notify_waiters();
        Ok(())
    }
}

impl Target {
    pub fn current(&self) -> Option<Arc<Routing>> {
        self.current.load_full()
    }

    /// Waits as long as discovery takes.
    pub async fn discovered(&self) -> Arc<Routing> {
        if let Some(routing) = self.current() {
            return routing;
        }
        loop {
            let answered = self.answered.notified();
            tokio::pin!(answered);
            answered.as_mut().enable();
            if let Some(routing) = self.current() {
                return routing;
            }
            answered.await;
        }
    }
}

impl Routing {
    fn new(proxy: &Arc<Proxy>, dst: SocketAddr, answer: &SetOutboundTarget, before: Option<&Self>) -> Self {
        let refusal = Some(answer.refusal.clone()).filter(|reason| !reason.is_empty());
        let policy = match &refusal {
            Some(reason) => ClientPolicy::invalid(reason),
            None => {
                let local = &proxy.settings.inbound_ips;
                ClientPolicy::compile(dst, answer.policy.as_ref(), answer.profile.as_ref(), local)
            }
        };
        let backends = policy.backends.iter().map(|backend| match &backend.kind {
            BackendKind::Forward(info) => {
                let known = before.and_then(|before| {
                    before
                        .backends
                        .iter()
                        .flatten()
                        .find(|balancer| balancer.only_endpoint().as_ref() == Some(info))
                        .cloned()
                });
                Some(known.unwrap_or_else(|| Balancer::forward(proxy, info.clone())))
            }
            BackendKind::Balancer { path, default_rtt, decay } => {
                Some(proxy.balancers.get(proxy, path, *default_rtt, *decay))
            }
            BackendKind::Unusable => None,
        });
        let backends = backends.collect();
        let mut parent = Labels::default();
        policy.parent.full_labels("parent", &mut parent);
        Self { backends, parent, policy, refusal }
    }

    pub fn balancer(&self, backend: usize) -> Option<&Arc<Balancer>> {
        self.backends[backend].as_ref()
    }

    pub fn protocol(&self) -> &ClientProtocol {
        &self.policy.protocol
    }
}
