//! What is known of the addresses of one control-plane service and of the tunnels to them, told as a balancer's families
//! tell it (observability.md 1.9): what waits is a tunnel, and the gate is shut while no address could be reached.

use std::{collections::BTreeSet, net::SocketAddr};

use parking_lot::Mutex;

use crate::balancer_metrics::{BalancerMetrics, Change, Queued};

pub struct ControlBalancer {
    metrics: BalancerMetrics,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    known: BTreeSet<SocketAddr>,
    /// One entry for each tunnel.
    connected: Vec<SocketAddr>,
    is_shut: bool,
}

impl State {
    fn tell(&self, metrics: &BalancerMetrics) {
        let connected: BTreeSet<_> = self.connected.iter().copied().collect();
        metrics.endpoints(connected.len(), self.known.union(&connected).count());
    }
}

impl ControlBalancer {
    pub fn new(metrics: BalancerMetrics) -> Self {
        Self { metrics, state: Mutex::default() }
    }

    /// A tunnel is asked for.
    pub fn waits(&self) -> Queued<'_> {
        self.metrics.queued()
    }

    /// A lookup, whose addresses take the place of those before.
    pub fn resolved(&self, addrs: &[SocketAddr]) {
        let mut state = self.state.lock();
        state.known = addrs.iter().copied().collect();
        state.tell(&self.metrics);
        self.metrics.updated(Change { replaces: true, added: 0, removed: 0 });
    }

    /// A tunnel, for as long as what is returned lives.
    pub fn connected(&self, addr: SocketAddr) -> Connected<'_> {
        let mut state = self.state.lock();
        state.connected.push(addr);
        state.tell(&self.metrics);
        if std::mem::take(&mut state.is_shut) {
            self.metrics.gate(true);
        }
        Connected { balancer: self, addr }
    }

    /// No address answered, or none was found.
    pub fn unreachable(&self) {
        let mut state = self.state.lock();
        if !std::mem::replace(&mut state.is_shut, true) {
            self.metrics.gate(false);
        }
    }
}

pub struct Connected<'a> {
    balancer: &'a ControlBalancer,
    addr: SocketAddr,
}

impl Drop for Connected<'_> {
    fn drop(&mut self) {
        let mut state = self.balancer.state.lock();
        if let Some(at) = state.connected.iter().position(|addr| *addr == self.addr) {
            state.connected.swap_remove(at);
        }
        state.tell(&self.balancer.metrics);
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use weft_core::settings::ControlService;

    use super::*;
    use crate::metrics::Metrics;

    #[test]
    fn a_control_plane_that_comes_and_goes_shows_in_its_families() {
        let metrics = Metrics::new();
        let service =
            ControlService { name: "policy".into(), host: "linkerd-policy".into(), port: 8090, server_name: None };
        let balancer = ControlBalancer::new(metrics.control_balancer(&service, Duration::from_secs(5)));
        let shows = |line: &str| {
            let text = metrics.registry.expose(Instant::now(), Duration::from_secs(60));
            assert!(text.lines().any(|shown| shown == format!("control_policy_balancer_{line}")), "{line} in {text}");
        };
        let [one, two] = ["10.0.0.1:8090", "10.0.0.2:8090"].map(|addr| addr.parse().unwrap());
        let waiting = balancer.waits();
        shows(r#"queue_length{addr="linkerd-policy:8090"} 1"#);
        balancer.resolved(&[one, two]);
        shows(r#"p2c_endpoints{addr="linkerd-policy:8090"} 2"#);
        shows(r#"endpoints{endpoint_state="pending",addr="linkerd-policy:8090"} 2"#);
        balancer.unreachable();
        balancer.unreachable();
        shows(r#"queue_gate_shut_total{addr="linkerd-policy:8090"} 1"#);
        waiting.passed();
        let tunnels = [balancer.connected(one), balancer.connected(one)];
        shows(r#"queue_length{addr="linkerd-policy:8090"} 0"#);
        shows(r#"queue_gate_open_total{addr="linkerd-policy:8090"} 2"#);
        shows(r#"queue_gate_shut_time_seconds{addr="linkerd-policy:8090"} 0"#);
        shows(r#"endpoints{endpoint_state="ready",addr="linkerd-policy:8090"} 1"#);
        balancer.resolved(&[two]);
        shows(r#"p2c_endpoints{addr="linkerd-policy:8090"} 2"#);
        drop(tunnels);
        shows(r#"endpoints{endpoint_state="ready",addr="linkerd-policy:8090"} 0"#);
        shows(r#"p2c_endpoints{addr="linkerd-policy:8090"} 1"#);
        shows(r#"p2c_updates_total{op="Reset",addr="linkerd-policy:8090"} 2"#);
        shows(r#"queue_gate_timeout_seconds{addr="linkerd-policy:8090"} 5"#);
    }
}
