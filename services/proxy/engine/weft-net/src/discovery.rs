//! Endpoints by discovery path: each path is followed once, for every balancer that leads to it.

use std::{
    collections::HashMap,
    sync::{Arc, Weak},
};

use parking_lot::Mutex;
use weft_core::{
    endpoint::EndpointSet,
    meta::Meta,
    outbound::{Balancing, Carries},
};
use weft_proto::engine::{DiscoverEndpoints, ReleaseEndpoints, SetEndpoints, event::Kind};

use crate::{balancer::Balancer, events::EventQueue, proxy::Proxy};

/// What makes two balancers the same one.
#[derive(Clone, PartialEq)]
pub struct Subject {
    pub balancing: Balancing,
    pub carries: Carries,
    pub parent: Meta,
    pub backend: Meta,
}

pub struct Balancers {
    by_path: Mutex<HashMap<String, Resolution>>,
    events: Arc<EventQueue>,
}

#[derive(Default)]
struct Resolution {
    set: EndpointSet,
    refusal: Option<String>,
    is_known: bool,
    balancers: Vec<(Subject, Weak<Balancer>)>,
}

impl Balancers {
    pub fn new(events: Arc<EventQueue>) -> Self {
        Self { by_path: Mutex::default(), events }
    }

    pub fn get(&self, proxy: &Arc<Proxy>, subject: &Subject) -> Arc<Balancer> {
        let path = &subject.balancing.path;
        let mut by_path = self.by_path.lock();
        if !by_path.contains_key(path) {
            self.events.push(Kind::DiscoverEndpoints(DiscoverEndpoints { path: path.clone() }));
        }
        let resolution = by_path.entry(path.clone()).or_default();
        let known = resolution.balancers.iter().filter(|(known, _)| known == subject);
        if let Some(known) = known.filter_map(|(_, balancer)| balancer.upgrade()).next() {
            return known;
        }
        let balancer = Arc::new(Balancer::discovered(proxy, subject.clone()));
        if resolution.is_known {
            balancer.update(proxy, &resolution.set, resolution.refusal.as_deref(), true);
        }
        resolution.balancers.push((subject.clone(), Arc::downgrade(&balancer)));
        balancer
    }

    pub fn set_endpoints(&self, proxy: &Proxy, update: &SetEndpoints) {
        // Dropped after the lock: the last use of a balancer releases its path.
        let mut told = Vec::new();
        let mut by_path = self.by_path.lock();
        // Already released: the answer crossed our release on the way.
        let Some(resolution) = by_path.get_mut(&update.path) else {
            return;
        };
        resolution.is_known = true;
        resolution.refusal = Some(update.refusal.clone()).filter(|reason| !reason.is_empty());
        if let Some(message) = &update.update {
            resolution.set.apply(message, update.first_of_stream, &proxy.settings.inbound_ips);
        }
        for balancer in resolution.balancers.iter().filter_map(|(_, balancer)| balancer.upgrade()) {
            balancer.update(proxy, &resolution.set, resolution.refusal.as_deref(), update.first_of_stream);
            told.push(balancer);
        }
        drop(by_path);
    }

    /// A balancer of this path is gone.
    pub fn released(&self, path: &str) {
        let mut by_path = self.by_path.lock();
        let Some(resolution) = by_path.get_mut(path) else {
            return;
        };
        resolution.balancers.retain(|(_, balancer)| balancer.strong_count() > 0);
        // A successor may have taken the path already; then discovery goes on for it.
        if resolution.balancers.is_empty() {
            by_path.remove(path);
            self.events.push(Kind::ReleaseEndpoints(ReleaseEndpoints { path: path.to_owned() }));
        }
    }
}
