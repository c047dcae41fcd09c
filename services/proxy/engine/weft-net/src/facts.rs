//! What was decided about a request or an opaque connection, and what came of it: facts at hand, shared rather than copied.
//! They become words, a `weft.decision.v1.Decision`, only where a record is kept.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant, SystemTime},
};

use weft_core::{
    addr::wire_socket,
    endpoint::OutboundTls,
    inbound::{InboundTls, NoTls, ServerPolicy},
    meta::Meta,
    outbound::{BackendIndex, HttpRule},
    route::RouteIndex,
};
use weft_proto::decision::{
    Decision, Try,
    decision::{Closer, Direction},
};

use crate::{
    admission::Permit,
    conn::Conn,
    endpoint::Endpoint,
    profiles::ProfileRoute,
    proxy::Proxy,
    record::{text_map, wire_duration},
    routing::Routing,
};

/// One client connection, and what all its requests have in common.
pub struct Connection {
    pub proxy: Arc<Proxy>,
    pub direction: Direction,
    pub client: SocketAddr,
    /// Where the client was going.
    pub target: SocketAddr,
    pub tls: InboundTls,
    /// What the client speaks, as records call it.
    protocol: &'static str,
    pub id: u32,
    detected_in: Option<Duration>,
    requests: AtomicU64,
}

impl Connection {
    pub fn inbound(
        proxy: &Arc<Proxy>,
        conn: &Conn,
        client: SocketAddr,
        target: SocketAddr,
        tls: InboundTls,
        protocol: &'static str,
    ) -> Arc<Self> {
        Self::new(proxy, conn, Direction::Inbound, client, target, tls, protocol)
    }

    pub fn outbound(proxy: &Arc<Proxy>, conn: &Conn, target: SocketAddr, protocol: &'static str) -> Arc<Self> {
        let client = conn.peer_addr().unwrap_or(target);
        let tls = InboundTls::NoTls { reason: NoTls::Loopback };
        Self::new(proxy, conn, Direction::Outbound, client, target, tls, protocol)
    }

    fn new(
        proxy: &Arc<Proxy>,
        conn: &Conn,
        direction: Direction,
        client: SocketAddr,
        target: SocketAddr,
        tls: InboundTls,
        protocol: &'static str,
    ) -> Arc<Self> {
        Arc::new(Self {
            id: proxy.recorder.next_connection(),
            proxy: proxy.clone(),
            direction,
            client,
            target,
            tls,
            protocol,
            detected_in: conn.detected_in(),
            requests: AtomicU64::new(0),
        })
    }
}

/// What inbound policy said.
pub enum Inbound {
    NotAsked,
    /// The route is there when one matched.
    Refused {
        policy: Arc<ServerPolicy>,
        route: Option<RouteIndex>,
    },
    Permitted(Arc<Permit>),
    /// A connection whose bytes nobody reads.
    Admitted {
        policy: Arc<ServerPolicy>,
        authz: Meta,
    },
}

/// What outbound policy said, also behind a gateway.
pub struct Routed {
    pub routing: Arc<Routing>,
    pub taken: Taken,
}

pub enum Taken {
    /// None matched, or none was asked for yet.
    None,
    /// `HttpRule::id`.
    Rule(usize),
    Opaque(Option<Meta>),
}

impl Routed {
    pub fn rule(&self) -> Option<&HttpRule> {
        let Taken::Rule(id) = self.taken else { return None };
        self.routing.policy.rules().into_iter().find(|rule| rule.id == id)
    }

    fn route(&self) -> Option<&Meta> {
        match &self.taken {
            Taken::None => None,
            Taken::Rule(_) => self.rule().map(|rule| &rule.route),
            Taken::Opaque(meta) => meta.as_ref(),
        }
    }
}

pub struct Facts {
    pub connection: Arc<Connection>,
    pub started: Instant,
    pub inbound: Inbound,
    pub routed: Option<Routed>,
    /// The route of the ServiceProfile of the name that an inbound request was for.
    pub profile: Option<Arc<ProfileRoute>>,
    pub number: u64,
    pub is_sample: bool,
    /// Nearly always one; a Vec would allocate for it.
    first_try: Option<TryFacts>,
    more_tries: Vec<TryFacts>,
}

struct TryFacts {
    backend: BackendIndex,
    endpoint: Arc<Endpoint>,
    chosen_after: Duration,
    why: &'static str,
    failure: Option<String>,
}

/// How it ended.
pub struct End {
    pub closer: Closer,
    pub reason: String,
    pub is_failure: bool,
}

impl Facts {
    pub fn begin(connection: &Arc<Connection>) -> Self {
        Self {
            started: Instant::now(),
            inbound: Inbound::NotAsked,
            routed: None,
            profile: None,
            number: connection.requests.fetch_add(1, Relaxed),
            is_sample: connection.proxy.recorder.samples(),
            first_try: None,
            more_tries: Vec::new(),
            connection: connection.clone(),
        }
    }

    /// An endpoint was chosen. why: empty for the first choice.
    pub fn tries(&mut self, backend: BackendIndex, endpoint: &Arc<Endpoint>, why: &'static str) {
        let chosen_after = self.started.elapsed();
        let facts = TryFacts { backend, endpoint: endpoint.clone(), chosen_after, why, failure: None };
        if self.first_try.is_none() {
            self.first_try = Some(facts);
        } else {
            self.more_tries.push(facts);
        }
    }

    /// The endpoint that was tried last was of no use.
    pub fn try_failed(&mut self, why: &dyn std::fmt::Display) {
        if let Some(last) = self.more_tries.last_mut().or(self.first_try.as_mut()) {
            last.failure = Some(why.to_string());
        }
    }

    pub fn endpoint(&self) -> Option<&Arc<Endpoint>> {
        self.more_tries.last().or(self.first_try.as_ref()).map(|last| &last.endpoint)
    }

    /// When it began, by the wall clock.
    pub fn arrived_at(&self) -> SystemTime {
        SystemTime::now() - self.started.elapsed()
    }

    /// The route that inbound policy found, or outbound policy where that was asked.
    pub fn route(&self) -> Option<&Meta> {
        match (&self.routed, &self.inbound) {
            (Some(routed), _) => routed.route(),
            (None, Inbound::Permitted(permit)) => permit.route.and_then(|route| permit.policy.route_meta(route)),
            (None, Inbound::Refused { policy, route }) => route.and_then(|route| policy.route_meta(route)),
            (None, Inbound::NotAsked | Inbound::Admitted { .. }) => None,
        }
    }

    fn parent(&self) -> Option<&Meta> {
        match (&self.routed, &self.inbound) {
            (Some(routed), _) => Some(&routed.routing.policy.parent),
            (None, Inbound::Permitted(permit)) => Some(&permit.policy.meta),
            (None, Inbound::Refused { policy, .. } | Inbound::Admitted { policy, .. }) => Some(&policy.meta),
            (None, Inbound::NotAsked) => None,
        }
    }

    fn authorization(&self) -> Option<&Meta> {
        match &self.inbound {
            Inbound::Permitted(permit) => Some(&permit.authz),
            Inbound::Admitted { authz, .. } => Some(authz),
            Inbound::NotAsked | Inbound::Refused { .. } => None,
        }
    }

    /// The record, without what only a request or only a connection has.
    pub fn decision(&self, end: End) -> Decision {
        let connection = &self.connection;
        Decision {
            id: format!("{}:{}", connection.id, self.number),
            direction: connection.direction.into(),
            started_at: Some(self.arrived_at().into()),
            is_sample: self.is_sample,
            is_failure: end.is_failure,
            client: Some(wire_socket(connection.client)),
            target: Some(wire_socket(connection.target)),
            client_tls: text_map(connection.tls.facts()),
            protocol: connection.protocol.to_owned(),
            detected_in: connection.detected_in.map(wire_duration),
            parent: self.parent().map(Meta::to_wire),
            route: self.route().map(Meta::to_wire),
            authorization: self.authorization().map(Meta::to_wire),
            tries: self.first_try.iter().chain(&self.more_tries).map(|facts| self.wire_try(facts)).collect(),
            total: Some(wire_duration(self.started.elapsed())),
            closed_by: end.closer.into(),
            reason: end.reason,
            ..Decision::default()
        }
    }

    pub fn keep(&self, decision: Decision) {
        self.connection.proxy.recorder.keep(decision);
    }

    fn wire_try(&self, facts: &TryFacts) -> Try {
        let backend = self.routed.as_ref().and_then(|routed| routed.routing.policy.backends.get(facts.backend));
        let endpoint = &facts.endpoint;
        Try {
            backend: backend.map(|backend| backend.meta.to_wire()),
            endpoint: Some(wire_socket(endpoint.info.addr)),
            endpoint_age: Some(wire_duration(endpoint.known_since.elapsed())),
            labels: endpoint.info.labels.clone().into_iter().collect(),
            server_id: match &endpoint.info.tls {
                OutboundTls::Mesh(id) => id.san.to_string(),
                OutboundTls::Loopback | OutboundTls::NotProvided => String::new(),
            },
            chosen_after: Some(wire_duration(facts.chosen_after)),
            why: facts.why.to_owned(),
            failure: facts.failure.clone().unwrap_or_default(),
        }
    }
}
