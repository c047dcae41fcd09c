//! The engine as Python sees it: settings once, then commands down and events up. Owns the runtime.

use std::{
    io,
    net::SocketAddr,
    os::fd::RawFd,
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use prost::Message;
use weft_core::settings::Settings;
use weft_proto::{
    decision::ListDecisions,
    engine::{Command, Drain, Drained, Listening, Settings as WireSettings, command::Kind, event, log::Level},
};

use crate::{
    admin, control, identity, inbound, listen,
    orig_dst::{OriginalDst, SoOriginalDst},
    outbound, process,
    proxy::Proxy,
    running::Running,
    tap,
};

pub struct Engine {
    proxy: Arc<Proxy>,
    running: Mutex<Option<Running>>,
}

#[derive(Debug)]
pub enum CommandError {
    /// What the command says cannot be used.
    Invalid(String),
    Io(io::Error),
}

impl From<String> for CommandError {
    fn from(reason: String) -> Self {
        Self::Invalid(reason)
    }
}

impl From<io::Error> for CommandError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl Engine {
    /// settings: a `weft.engine.v1.Settings`. Errors name the field at fault.
    pub fn new(settings: &[u8]) -> Result<Self, String> {
        Self::with_original_dst(settings, Box::new(SoOriginalDst))
    }

    fn with_original_dst(settings: &[u8], original_dst: Box<dyn OriginalDst>) -> Result<Self, String> {
        let settings = WireSettings::decode(settings).map_err(|e| format!("settings: {e}"))?;
        let proxy = Proxy::new(Settings::from_wire(&settings)?, original_dst)?;
        Ok(Self { proxy, running: Mutex::new(None) })
    }

    /// Opens the control tunnels and the admin port. Data listeners wait for an identity.
    pub fn start(&self) -> io::Result<()> {
        let running = Running::start(self.proxy.settings.worker_threads)?;
        {
            let runtime = running.handle();
            let _entered = runtime.enter();
            for (index, service) in self.proxy.settings.control_services.iter().enumerate() {
                let listener = control::bind(service)?;
                let proxy = self.proxy.clone();
                runtime.spawn(async move {
                    if let Err(error) = control::run(proxy.clone(), index, listener).await {
                        let fields = [("error", error.to_string())];
                        proxy.events.log(Level::Error, "control", "control tunnel closed for good", &fields);
                    }
                });
            }
            let listener = listen::bind(self.proxy.settings.admin_listen, self.proxy.settings.inbound_listen_backlog)?;
            runtime.spawn(listen::accept_always(self.proxy.clone(), listener, admin::connection));
            if let Some(addr) = self.proxy.settings.tap_listen {
                let listener = listen::bind(addr, self.proxy.settings.inbound_listen_backlog)?;
                runtime.spawn(listen::accept_always(self.proxy.clone(), listener, tap::connection));
            }
        }
        *self.running.lock() = Some(running);
        Ok(())
    }

    pub fn event_fd(&self) -> RawFd {
        self.proxy.events.fd()
    }

    /// Every waiting event, as `weft.engine.v1.Event` messages.
    pub fn drain_events(&self) -> Vec<Vec<u8>> {
        self.proxy.events.drain().iter().map(Message::encode_to_vec).collect()
    }

    /// command: a `weft.engine.v1.Command`.
    pub fn apply(&self, command: &[u8]) -> Result<(), CommandError> {
        let command = Command::decode(command).map_err(|e| format!("command: {e}"))?;
        let running = self.running.lock();
        let running = running.as_ref().ok_or_else(|| "the engine is not running".to_owned())?;
        // Balancers and leases that go away here schedule work.
        let _entered = running.handle().enter();
        let proxy = &self.proxy;
        match command.kind.ok_or_else(|| "command: empty".to_owned())? {
            Kind::SetIdentity(identity) => proxy.identity.set_identity(&identity)?,
            Kind::SetTrustAnchors(anchors) => proxy.identity.set_trust_anchors(&anchors.pem)?,
            Kind::OpenDataListeners(_) => self.open_data_listeners()?,
            Kind::SetInboundPort(update) => proxy.ports.set(&update)?,
            Kind::SetOutboundTarget(answer) => proxy.targets.set(proxy, &answer)?,
            Kind::SetProfile(answer) => proxy.profiles.set(&proxy.metrics, &answer),
            Kind::SetEndpoints(update) => proxy.balancers.set_endpoints(proxy, &update),
            Kind::AdminResponse(response) => proxy.admin.answer(response),
            Kind::Drain(drain) => self.drain(&drain),
        }
        Ok(())
    }

    /// asked: a `weft.decision.v1.ListDecisions`; answers a `DecisionList`.
    pub fn decisions(&self, asked: &[u8]) -> Result<Vec<u8>, CommandError> {
        let asked = ListDecisions::decode(asked).map_err(|e| format!("decisions: {e}"))?;
        Ok(self.proxy.recorder.list(&asked).encode_to_vec())
    }

    /// Prometheus text, without the final `# EOF`.
    pub fn metrics(&self) -> String {
        let settings = &self.proxy.settings;
        let mut text = self.proxy.metrics.registry.expose(Instant::now(), settings.metrics_retain_idle);
        let dropped = self.proxy.events.dropped() as f64;
        process::family(
            &mut text,
            "weft_events_dropped_total",
            "counter",
            "Log records, access lines and spans lost to a full queue.",
            "",
            dropped,
        );
        let tls = identity::tls_labels();
        process::family(&mut text, "rustls_info", "gauge", "What TLS offers here.", tls.as_str(), 1.0);
        text.push_str(&process::expose(&settings.build_info));
        text
    }

    /// Closes everything at once. Safe to repeat.
    pub fn stop(&self) {
        if let Some(running) = self.running.lock().take() {
            running.stop();
        }
    }

    fn open_data_listeners(&self) -> io::Result<()> {
        let settings = &self.proxy.settings;
        let inbound = listen::bind(settings.inbound_listen, settings.inbound_listen_backlog)?;
        let mut outbound = Vec::new();
        for addr in &settings.outbound_listen {
            match listen::bind(*addr, settings.outbound_listen_backlog) {
                Ok(listener) => outbound.push(listener),
                // Hosts without IPv6 have no ::1; the application then cannot use it either.
                Err(error) if is_missing_family(*addr, &error) => {}
                Err(error) => return Err(error),
            }
        }
        if outbound.is_empty() {
            return Err(io::Error::other("no outbound listener could be opened"));
        }
        tokio::spawn(listen::accept(self.proxy.clone(), inbound, inbound::connection));
        for listener in outbound {
            tokio::spawn(listen::accept(self.proxy.clone(), listener, outbound::connection));
        }
        self.proxy.events.push(event::Kind::Listening(Listening {}));
        Ok(())
    }

    fn drain(&self, drain: &Drain) {
        let grace = Duration::from_millis(u64::from(drain.grace_ms));
        let proxy = self.proxy.clone();
        proxy.drain.begin();
        tokio::spawn(async move {
            let _ = tokio::time::timeout(grace, proxy.drain.finished()).await;
            proxy.events.push(event::Kind::Drained(Drained { cut: proxy.drain.open() }));
        });
    }
}

fn is_missing_family(addr: SocketAddr, error: &io::Error) -> bool {
    addr.is_ipv6() && error.kind() == io::ErrorKind::AddrNotAvailable
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.stop();
    }
}
