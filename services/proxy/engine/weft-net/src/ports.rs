//! Inbound ports: the policy of each, kept current while connections use it, and the connections to the application.

use std::{collections::HashMap, net::SocketAddr, sync::Arc};

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use tokio::sync::watch;
use weft_core::{http2_params::Http2Params, inbound::ServerPolicy, metrics::Labels, settings::Settings};
use weft_proto::engine::{ReleasePort, SetInboundPort, WatchPort, event::Kind, log::Level};

use crate::{
    cache::{Cache, Lease},
    client::{Client, ClientSettings},
    connect::Connector,
    events::EventQueue,
    proxy::Proxy,
};

pub struct Ports {
    cache: Arc<Cache<u16, Port>>,
    events: Arc<EventQueue>,
    /// Watched from the start and for good.
    _pinned: Vec<PortLease>,
}

pub type PortLease = Lease<u16, Port>;

pub struct Port {
    policy: ArcSwap<ServerPolicy>,
    changed: watch::Sender<()>,
    /// By the application's address, which has as many values as this host has addresses.
    clients: Mutex<HashMap<SocketAddr, Arc<Client>>>,
}

impl Ports {
    pub fn new(settings: &Settings, events: Arc<EventQueue>) -> Self {
        let told = events.clone();
        let cache = Cache::new(settings.inbound_discovery_idle, move |port: &u16| {
            told.push(Kind::ReleasePort(ReleasePort { port: u32::from(*port) }));
        });
        // Python watches these without being asked, once it has an identity to ask with.
        let gateway = (!settings.inbound_gateway_suffixes.is_empty()).then(|| settings.inbound_listen.port());
        let pinned = settings.inbound_ports.iter().copied().chain([settings.admin_listen.port()]).chain(gateway);
        let pinned = pinned.map(|port| cache.lease(port, || Port::new(settings, port))).collect();
        Self { cache, events, _pinned: pinned }
    }

    pub fn lease(&self, settings: &Settings, port: u16) -> PortLease {
        self.cache.lease(port, || {
            self.events.push(Kind::WatchPort(WatchPort { port: u32::from(port) }));
            Port::new(settings, port)
        })
    }

    /// Errors when the number is no port. A policy that cannot be understood admits nobody.
    pub fn set(&self, update: &SetInboundPort) -> Result<(), String> {
        let number =
            u16::try_from(update.port).map_err(|_| format!("set_inbound_port: {} is not a port", update.port))?;
        // Already released: the answer crossed our release on the way.
        let Some(port) = self.cache.get(&number) else {
            return Ok(());
        };
        let server = update.policy.as_ref().ok_or_else(|| "server policy is missing".to_owned());
        let mut policy = server.and_then(ServerPolicy::from_wire).unwrap_or_else(|reason| {
            let fields = [("port", number.to_string()), ("reason", reason)];
            self.events.log(Level::Error, "inbound", "invalid policy: nobody but loopback is admitted", &fields);
            ServerPolicy::invalid()
        });
        policy.succeed(&port.policy());
        port.policy.store(Arc::new(policy));
        port.changed.send_replace(());
        Ok(())
    }
}

impl Port {
    fn new(settings: &Settings, port: u16) -> Self {
        let default =
            if settings.is_opaque_port(port) { &settings.inbound_default_opaque } else { &settings.inbound_default };
        Self { policy: ArcSwap::new(default.clone()), changed: watch::Sender::new(()), clients: Mutex::default() }
    }

    pub fn policy(&self) -> Arc<ServerPolicy> {
        self.policy.load_full()
    }

    /// Told at every change of the policy from now on.
    pub fn changes(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    /// Connections to the application at `addr`, shared by all clients.
    pub fn client(&self, proxy: &Proxy, addr: SocketAddr) -> Arc<Client> {
        let mut clients = self.clients.lock();
        clients.entry(addr).or_insert_with(|| Arc::new(application(proxy, addr))).clone()
    }
}

fn application(proxy: &Proxy, addr: SocketAddr) -> Client {
    let settings = &proxy.settings;
    let client = ClientSettings {
        stream_window: settings.http2_initial_stream_window,
        connection_window: settings.http2_initial_connection_window,
        pool_idle: settings.inbound_http1_pool_idle,
        max_idle: settings.inbound_max_idle_conns,
        max_header_bytes: settings.max_header_bytes,
        // No pings: servers count them, and gRPC's hang up on a client that pings an idle connection.
        http2: Http2Params::default(),
    };
    Client::new(connector(proxy, addr), client)
}

/// To the application itself: plaintext, on this host.
pub fn connector(proxy: &Proxy, addr: SocketAddr) -> Connector {
    let labels = Labels::default()
        .with("direction", "inbound")
        .with("peer", "dst")
        .with("tls", "no_identity")
        .with("no_tls_reason", "loopback");
    Connector {
        addr,
        tls: None,
        header: None,
        timeout: proxy.settings.inbound_connect_timeout,
        keepalive: proxy.settings.inbound_connect_keepalive,
        metrics: Some(proxy.metrics.transport(&labels)),
        identity: proxy.identity.clone(),
    }
}
