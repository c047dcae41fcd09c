//! Outbound targets by original destination: each is discovered once for all connections to it (wire.md 2.1, 2.2).

use std::{net::SocketAddr, sync::Arc, time::Duration};

use arc_swap::ArcSwapOption;
use tokio::sync::Notify;
use weft_core::addr;
use weft_proto::engine::{DiscoverTarget, ReleaseTarget, SetOutboundTarget, event::Kind};

use crate::{
    cache::{Cache, Lease},
    events::EventQueue,
    proxy::Proxy,
    routing::Routing,
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
