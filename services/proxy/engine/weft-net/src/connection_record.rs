//! The decision record of one connection whose bytes nobody reads. It ends when it is dropped, with what the tally saw
//! unless something else was said before.

use std::{
    net::SocketAddr,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use weft_core::{
    inbound::{InboundTls, ServerPolicy},
    meta::Meta,
    outbound::BackendIndex,
};
use weft_proto::decision::decision::Closer;

use crate::{
    conn::Conn,
    endpoint::Endpoint,
    facts::{Connection, End, Facts, Inbound, Routed, Taken},
    inbound::Arrival,
    proxy::Proxy,
    routing::Routing,
};

/// What the client speaks, when it is not HTTP.
const BYTES: &str = "tcp";
const TLS: &str = "tls";

pub struct ConnectionRecord {
    facts: Facts,
    tally: Tally,
    end: Option<End>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    Client,
    Server,
}

/// What passed so far, and who ended it. Atomic only because tasks move between threads.
#[derive(Default)]
pub struct Tally {
    to_server: AtomicU64,
    to_client: AtomicU64,
    first_done: OnceLock<Side>,
    broken: OnceLock<(Side, String)>,
}

impl Tally {
    pub fn passed(&self, from: Side, bytes: usize) {
        let count = match from {
            Side::Client => &self.to_server,
            Side::Server => &self.to_client,
        };
        count.fetch_add(bytes as u64, Relaxed);
    }

    /// A side has no more to send.
    pub fn done(&self, side: Side) {
        let _ = self.first_done.set(side);
    }

    pub fn broke(&self, side: Side, error: &std::io::Error) {
        let _ = self.broken.set((side, error.to_string()));
    }

    fn end(&self) -> End {
        match (self.broken.get(), self.first_done.get()) {
            (Some((Side::Server, why)), _) => {
                End { closer: Closer::Server, reason: format!("the server's side broke: {why}"), is_failure: true }
            }
            // Clients may leave as they like.
            (Some((Side::Client, why)), _) => {
                End { closer: Closer::Client, reason: format!("the client's side broke: {why}"), is_failure: false }
            }
            (None, Some(Side::Server)) => End { closer: Closer::Server, reason: String::new(), is_failure: false },
            (None, Some(Side::Client)) => End { closer: Closer::Client, reason: String::new(), is_failure: false },
            (None, None) => End { closer: Closer::Proxy, reason: "the proxy stopped".to_owned(), is_failure: true },
        }
    }
}

impl ConnectionRecord {
    pub fn inbound(proxy: &Arc<Proxy>, conn: &Conn, arrival: &Arrival) -> Self {
        let protocol = match arrival.tls {
            InboundTls::PassedThrough { .. } => TLS,
            InboundTls::Mesh { .. } | InboundTls::NoTls { .. } => BYTES,
        };
        let tls = arrival.tls.clone();
        Self::begin(&Connection::inbound(proxy, conn, arrival.client, arrival.target, tls, protocol))
    }

    pub fn outbound(proxy: &Arc<Proxy>, conn: &Conn, target: SocketAddr) -> Self {
        Self::begin(&Connection::outbound(proxy, conn, target, BYTES))
    }

    pub fn outbound_tls(proxy: &Arc<Proxy>, conn: &Conn, target: SocketAddr) -> Self {
        Self::begin(&Connection::outbound(proxy, conn, target, TLS))
    }

    fn begin(connection: &Arc<Connection>) -> Self {
        Self { facts: Facts::begin(connection), tally: Tally::default(), end: None }
    }

    pub fn admitted(&mut self, policy: Arc<ServerPolicy>, authz: Meta) {
        self.facts.inbound = Inbound::Admitted { policy, authz };
    }

    pub fn denied(&mut self, policy: Arc<ServerPolicy>) {
        self.facts.inbound = Inbound::Refused { policy, route: None };
        self.failed("client not authorized");
    }

    pub fn routed(&mut self, routing: &Arc<Routing>, route: Option<Meta>) {
        self.facts.routed = Some(Routed { routing: routing.clone(), taken: Taken::Opaque(route) });
    }

    pub fn tries(&mut self, backend: BackendIndex, endpoint: &Arc<Endpoint>, why: &'static str) {
        self.facts.tries(backend, endpoint, why);
    }

    pub fn try_failed(&mut self, why: &dyn std::fmt::Display) {
        self.facts.try_failed(why);
    }

    /// The proxy ended it.
    pub fn failed(&mut self, why: impl Into<String>) {
        self.end = Some(End { closer: Closer::Proxy, reason: why.into(), is_failure: true });
    }

    pub fn tally(&self) -> &Tally {
        &self.tally
    }
}

impl Drop for ConnectionRecord {
    fn drop(&mut self) {
        let end = self.end.take().unwrap_or_else(|| self.tally.end());
        if !end.is_failure && !self.facts.is_sample {
            return;
        }
        let mut decision = self.facts.decision(end);
        decision.request_bytes = self.tally.to_server.load(Relaxed);
        decision.response_bytes = self.tally.to_client.load(Relaxed);
        self.facts.keep(decision);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error() -> std::io::Error {
        std::io::Error::other("gone")
    }

    #[test]
    fn who_is_done_first_closes() {
        let tally = Tally::default();
        tally.done(Side::Client);
        tally.done(Side::Server);
        let end = tally.end();
        assert_eq!((end.closer, end.is_failure), (Closer::Client, false));
    }

    #[test]
    fn only_a_broken_server_is_a_failure() {
        for (side, is_failure) in [(Side::Server, true), (Side::Client, false)] {
            let tally = Tally::default();
            tally.done(Side::Client);
            tally.broke(side, &error());
            let end = tally.end();
            assert_eq!(end.is_failure, is_failure);
            assert!(end.reason.ends_with("side broke: gone"), "{}", end.reason);
        }
    }
}
