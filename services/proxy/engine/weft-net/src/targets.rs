//! Outbound targets, by original destination or by name: each is discovered once for all connections to it (wire.md 2.1, 2.2).

use std::{net::SocketAddr, sync::Arc, time::Duration};

use weft_core::addr;
use weft_proto::engine::{DiscoverTarget, ReleaseTarget, SetOutboundTarget, event::Kind};
use weft_proto::linkerd::net::TcpAddress;

use crate::{
    cache::{Cache, Lease},
    events::EventQueue,
    lookup::Lookup,
    proxy::Proxy,
    routing::Routing,
};

pub struct Targets {
    cache: Arc<Cache<TargetKey, Target>>,
    events: Arc<EventQueue>,
}

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum TargetKey {
    OriginalDst(SocketAddr),
    /// `name:port`.
    Name(Arc<str>),
}

pub type Target = Lookup<Routing>;
pub type TargetLease = Lease<TargetKey, Target>;

impl TargetKey {
    pub fn named(name: &str, port: u16) -> Self {
        Self::Name(format!("{name}:{port}").into())
    }

    /// original_dst and authority of the messages about a target.
    fn to_wire(&self) -> (Option<TcpAddress>, String) {
        match self {
            Self::OriginalDst(dst) => (Some(addr::wire_socket(*dst)), String::new()),
            Self::Name(name) => (None, name.to_string()),
        }
    }
}

impl Targets {
    pub fn new(idle: Duration, events: Arc<EventQueue>) -> Self {
        let told = events.clone();
        let cache = Cache::new(idle, move |key: &TargetKey| {
            let (original_dst, authority) = key.to_wire();
            told.push(Kind::ReleaseTarget(ReleaseTarget { original_dst, authority }));
        });
        Self { cache, events }
    }

    pub fn lease(&self, key: TargetKey) -> TargetLease {
        self.cache.lease(key.clone(), || {
            let (original_dst, authority) = key.to_wire();
            self.events.push(Kind::DiscoverTarget(DiscoverTarget { original_dst, authority }));
            Target::default()
        })
    }

    /// Errors when the message names no target.
    pub fn set(&self, proxy: &Arc<Proxy>, answer: &SetOutboundTarget) -> Result<(), String> {
        let dst = addr::socket_from(answer.original_dst.as_ref());
        let key = match dst {
            Some(dst) => TargetKey::OriginalDst(dst),
            None if !answer.authority.is_empty() => TargetKey::Name(answer.authority.as_str().into()),
            None => return Err("set_outbound_target: neither original_dst nor authority".to_owned()),
        };
        // Already released: the answer crossed our release on the way.
        let Some(target) = self.cache.get(&key) else {
            return Ok(());
        };
        let before = target.current();
        target.answer(Routing::new(proxy, dst, answer, before.as_deref()));
        Ok(())
    }
}
