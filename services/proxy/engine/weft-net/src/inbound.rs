//! Connections from clients: who they are, which port they want, what they speak, and bytes that stay bytes
//! (wire.md 3.6, 5.1, 5.2).

use std::{
    io,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::{net::TcpStream, sync::watch};
use weft_core::{
    addr::canonical,
    detect::Detected,
    endpoint::target_labels,
    inbound::{InboundTls, NoTls, Protocol, ServerPolicy},
    metrics::{Counter, Labels},
    transport_header::{Session, TransportHeader},
};
use weft_proto::engine::log::Level;

use crate::{
    accept::{Accepted, Detection, detect_http, mesh_tls, transport_header},
    conn::{Conn, Rewound, Transport, tune},
    connection_record::ConnectionRecord,
    exchange::{ExchangeMetrics, splice_counted},
    gateway::{self, Gateway},
    inbound_http::{self, Onward},
    ports::{PortLease, connector},
    proxy::Proxy,
    serve::HttpVersion,
};

/// What is known of a connection once its client is.
pub struct Arrival {
    pub client: SocketAddr,
    /// The application.
    pub target: SocketAddr,
    pub tls: InboundTls,
    pub port: PortLease,
}

impl Arrival {
    /// TARGET, TLS_IN and SRV.
    pub fn transport_labels(&self, policy: &ServerPolicy) -> Labels {
        let mut labels = Labels::default();
        target_labels(self.target, &mut labels);
        self.tls.labels(&mut labels);
        policy.labels(self.target.port(), &mut labels);
        labels
    }

    /// TARGET and SRV.
    pub fn server_labels(&self, policy: &ServerPolicy) -> Labels {
        let mut labels = Labels::default();
        target_labels(self.target, &mut labels);
        policy.labels(self.target.port(), &mut labels);
        labels
    }

    /// TARGET, SRV, the extra ones and TLS_IN: the order of the authorization families.
    pub fn authz_labels(&self, policy: &ServerPolicy, extra: impl FnOnce(&mut Labels)) -> Labels {
        let mut labels = self.server_labels(policy);
        extra(&mut labels);
        self.tls.labels(&mut labels);
        labels
    }
}

impl Arrival {
    /// Counts a client that has no proxy; None for one that has, or is this pod itself.
    pub fn unmeshed(&self, proxy: &Proxy, extra: impl FnOnce(&mut Labels)) -> Option<Arc<Counter>> {
        let InboundTls::NoTls { reason: NoTls::FromRemote | NoTls::PortSkipped } = self.tls else { return None };
        let mut labels = Labels::default().with("direction", "inbound");
        labels.add("client_ip", &self.client.ip().to_string());
        target_labels(self.target, &mut labels);
        self.tls.labels(&mut labels);
        extra(&mut labels);
        Some(proxy.metrics.unmeshed.series(&labels))
    }
}

pub async fn connection(proxy: Arc<Proxy>, stream: TcpStream) {
    let keepalive = proxy.settings.inbound_accept_keepalive;
    tune(&stream, keepalive.keepalive, keepalive.user_timeout);
    let dst = proxy.original_dst.lookup(&stream).map(canonical);
    let (Ok(dst), Ok(client)) = (dst, stream.peer_addr().map(canonical)) else {
        return proxy.events.log(Level::Debug, "inbound", "connection without an original destination", &[]);
    };
    let ips = &proxy.settings.inbound_ips;
    if !ips.is_empty() && !ips.contains(&dst.ip()) {
        let fields = [("client", client.to_string()), ("dst", dst.to_string())];
        return proxy.events.log(Level::Warn, "inbound", "refused a connection that is not for this workload", &fields);
    }
    let served = if dst.port() == proxy.settings.inbound_listen.port() {
        direct(&proxy, stream, client, dst).await
    } else {
        intercepted(&proxy, stream, client, dst).await
    };
    if let Err(error) = served {
        count_error(&proxy, dst, label_of(&error));
        let fields = [("client", client.to_string()), ("dst", dst.to_string()), ("error", error.to_string())];
        proxy.events.log(Level::Debug, "inbound", "connection failed", &fields);
    }
}

fn label_of(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::TimedOut => "tls detection timeout",
        io::ErrorKind::InvalidData | io::ErrorKind::PermissionDenied => "unexpected",
        _ => "i/o",
    }
}

fn count_error(proxy: &Proxy, target: SocketAddr, error: &str) {
    let mut labels = Labels::default().with("error", error);
    target_labels(target, &mut labels);
    proxy.metrics.inbound_tcp_errors.series(&labels).incr();
}

/// A connection to the application's own port, which the kernel redirected to us.
async fn intercepted(proxy: &Arc<Proxy>, stream: TcpStream, client: SocketAddr, target: SocketAddr) -> io::Result<()> {
    let port = proxy.ports.lease(&proxy.settings, target.port());
    let policy = port.policy();
    let (conn, tls) = if policy.protocol == Protocol::Opaque {
        let conn = Conn::new(Transport::Plain(Rewound { seen: Default::default(), io: stream }));
        (conn, InboundTls::NoTls { reason: no_tls(client, NoTls::PortSkipped) })
    } else {
        let config = proxy.identity.current().server.clone();
        let limit = proxy.settings.inbound_detect_timeout;
        match mesh_tls(stream, &proxy.settings.local_identity, config.as_ref(), limit).await? {
            Accepted::Mesh { conn, client_id, .. } => (conn, InboundTls::Mesh { client_id }),
            Accepted::PassedThrough { conn, sni } => (conn, InboundTls::PassedThrough { sni }),
            Accepted::Plain { conn } => (conn, InboundTls::NoTls { reason: no_tls(client, NoTls::FromRemote) }),
        }
    };
    let arrival = Arrival { client, target, tls, port };
    let (conn, session) = speak(proxy, &arrival, &policy, conn).await?;
    serve(proxy, arrival, conn, session).await
}

fn no_tls(client: SocketAddr, remote: NoTls) -> NoTls {
    if client.ip().is_loopback() { NoTls::Loopback } else { remote }
}

/// What the client speaks, by policy or by looking. None: bytes.
async fn speak(
    proxy: &Proxy,
    arrival: &Arrival,
    policy: &ServerPolicy,
    mut conn: Conn,
) -> io::Result<(Conn, Option<HttpVersion>)> {
    let is_meshed = matches!(arrival.tls, InboundTls::Mesh { .. });
    let session = match policy.protocol {
        Protocol::Detect { timeout } => match detect(proxy, arrival, policy, &mut conn, timeout).await? {
            Detection::Is(Detected::Http1) => Some(HttpVersion::One),
            Detection::Is(Detected::Http2) => Some(HttpVersion::Two),
            Detection::Is(Detected::NotHttp) | Detection::TimedOut => None,
        },
        // A peer may have upgraded its requests.
        Protocol::Http1 if is_meshed => {
            let timeout = proxy.settings.inbound_detect_timeout;
            match detect(proxy, arrival, policy, &mut conn, timeout).await? {
                Detection::Is(Detected::Http1) | Detection::TimedOut => Some(HttpVersion::One),
                Detection::Is(Detected::Http2) => Some(HttpVersion::Two),
                Detection::Is(Detected::NotHttp) => None,
            }
        }
        Protocol::Http1 => Some(HttpVersion::One),
        Protocol::Http2 | Protocol::Grpc => Some(HttpVersion::Two),
        Protocol::Opaque | Protocol::Tls => None,
    };
    Ok((conn, session))
}

async fn detect(
    proxy: &Proxy,
    arrival: &Arrival,
    policy: &ServerPolicy,
    conn: &mut Conn,
    timeout: Duration,
) -> io::Result<Detection> {
    let started = Instant::now();
    let detected = detect_http(conn, timeout).await;
    let mut labels = Labels::default();
    policy.labels(arrival.target.port(), &mut labels);
    let label = detected.as_ref().map_or("error", |detection| detection.label());
    proxy.metrics.inbound_detect.record(label, started.elapsed(), &labels);
    detected
}

/// A connection that another proxy made to our own port: it must say in a transport header what it is for.
async fn direct(proxy: &Arc<Proxy>, stream: TcpStream, client: SocketAddr, dst: SocketAddr) -> io::Result<()> {
    let refuse = |why: &str| io::Error::new(io::ErrorKind::PermissionDenied, why.to_owned());
    let config = proxy.identity.current().direct_server.clone();
    let limit = proxy.settings.inbound_detect_timeout;
    let accepted = mesh_tls(stream, &proxy.settings.local_identity, config.as_ref(), limit).await?;
    let Accepted::Mesh { mut conn, client_id: Some(client_id), has_alpn: true } = accepted else {
        return Err(refuse("a direct connection needs mesh TLS, a client identity and a transport header"));
    };
    let header = transport_header(&mut conn, limit).await?;
    count_header(proxy, &header, &client_id);
    let session = header.session.map(|session| match session {
        Session::Http1 => HttpVersion::One,
        Session::Http2 => HttpVersion::Two,
    });
    let tls = InboundTls::Mesh { client_id: Some(client_id) };
    if let Some(name) = &header.name {
        let port = proxy.ports.lease(&proxy.settings, dst.port());
        let arrival = Arrival { client, target: dst, tls, port };
        measure(proxy, &arrival, &mut conn);
        let Some(version) = session else {
            return Box::pin(gateway::forward(proxy, &arrival, name, header.port, conn)).await;
        };
        let onward = Onward::Gateway(Gateway::new(proxy, name, header.port));
        inbound_http::serve(proxy.clone(), arrival, onward, conn, version).await;
        return Ok(());
    }
    if header.port == proxy.settings.inbound_listen.port() {
        return Err(refuse("the transport header leads back to the proxy"));
    }
    let target = SocketAddr::new(dst.ip(), header.port);
    let port = proxy.ports.lease(&proxy.settings, header.port);
    let arrival = Arrival { client, target, tls, port };
    serve(proxy, arrival, conn, session).await
}

fn count_header(proxy: &Proxy, header: &TransportHeader, client_id: &str) {
    let session = match header.session {
        None => "",
        Some(Session::Http1) => "http/1",
        Some(Session::Http2) => "http/2",
    };
    let labels = Labels::default()
        .with("session_protocol", session)
        .with("target_port", &header.port.to_string())
        .with("target_name", header.name.as_deref().unwrap_or_default())
        .with("client_id", client_id);
    proxy.metrics.transport_header.series(&labels).incr();
}

fn measure(proxy: &Proxy, arrival: &Arrival, conn: &mut Conn) {
    let labels = Labels::default().with("direction", "inbound").with("peer", "src");
    conn.measure(proxy.metrics.transport(&labels.and(&arrival.transport_labels(&arrival.port.policy()))));
}

async fn serve(proxy: &Arc<Proxy>, arrival: Arrival, mut conn: Conn, session: Option<HttpVersion>) -> io::Result<()> {
    measure(proxy, &arrival, &mut conn);
    match session {
        Some(version) => {
            let onward = Onward::Application(arrival.port.client(proxy, arrival.target));
            inbound_http::serve(proxy.clone(), arrival, onward, conn, version).await;
            Ok(())
        }
        None => {
            let mut record = ConnectionRecord::inbound(proxy, &conn, &arrival);
            let Some(admitted) = admit(proxy, &arrival, &mut record) else { return Ok(()) };
            let forwarded =
                while_admitted(proxy, &arrival, admitted, forward(proxy, &arrival, conn, &mut record)).await;
            forwarded.unwrap_or_else(|Revoked| {
                record.failed(REVOKED);
                Ok(())
            })
        }
    }
}

/// Bytes to the application. How the connection ends is counted by its two sockets.
async fn forward(
    proxy: &Arc<Proxy>,
    arrival: &Arrival,
    mut conn: Conn,
    record: &mut ConnectionRecord,
) -> io::Result<()> {
    let mut server = connector(proxy, arrival.target).connect(None).await.map_err(|failure| {
        record.failed(failure.to_string());
        io::Error::new(io::ErrorKind::ConnectionRefused, failure.to_string())
    })?;
    let labels = Labels::default().with("direction", "inbound");
    let labels = labels.and(&arrival.transport_labels(&arrival.port.policy()));
    let exchanges = ExchangeMetrics::new(&proxy.metrics, &labels);
    splice_counted(&mut conn, &mut server, &exchanges, record.tally()).await;
    Ok(())
}

/// Policy admits the client, and tells of its changes from then on.
pub struct Admitted(watch::Receiver<()>);

/// Policy admitted the client and does no longer.
pub struct Revoked;

pub const REVOKED: &str = "the policy no longer admits the client";

/// Asks policy about bytes. None when it refuses, which is counted and noted in the record.
pub fn admit(proxy: &Proxy, arrival: &Arrival, record: &mut ConnectionRecord) -> Option<Admitted> {
    // From before the first question, so that no change is missed.
    let changes = arrival.port.changes();
    let policy = arrival.port.policy();
    let Some(authz) = policy.authorize(None, arrival.client.ip(), &arrival.tls) else {
        proxy.metrics.inbound_tcp_deny.series(&arrival.authz_labels(&policy, |_| {})).incr();
        log_verdict(proxy, arrival, "connection denied");
        record.denied(policy);
        return None;
    };
    let labels = arrival.authz_labels(&policy, |labels| authz.short_labels("authz", labels));
    proxy.metrics.inbound_tcp_allow.series(&labels).incr();
    if authz.is_audit() {
        log_verdict(proxy, arrival, "connection allowed by the audit policy");
    }
    if let Some(unmeshed) = arrival.unmeshed(proxy, |_| {}) {
        unmeshed.incr();
    }
    let authz = authz.clone();
    record.admitted(policy, authz);
    Some(Admitted(changes))
}

/// Runs for as long as the policy admits the client, which is asked again at each of its changes.
pub async fn while_admitted<F: Future>(
    proxy: &Proxy,
    arrival: &Arrival,
    Admitted(mut changes): Admitted,
    carrying: F,
) -> Result<F::Output, Revoked> {
    tokio::pin!(carrying);
    loop {
        tokio::select! {
            done = &mut carrying => return Ok(done),
            changed = changes.changed() => {
                let policy = arrival.port.policy();
                if changed.is_ok() && policy.authorize(None, arrival.client.ip(), &arrival.tls).is_none() {
                    proxy.metrics.inbound_tcp_terminate.series(&arrival.authz_labels(&policy, |_| {})).incr();
                    log_verdict(proxy, arrival, "connection ended: the policy no longer admits the client");
                    return Err(Revoked);
                }
            }
        }
    }
}

/// What policy refused, or let in for the audit only.
pub fn log_verdict(proxy: &Proxy, arrival: &Arrival, what: &str) {
    proxy.events.log(Level::Info, "inbound", what, &facts(arrival));
}

fn facts(arrival: &Arrival) -> [(&'static str, String); 3] {
    let client_id = arrival.tls.client_id().map(|id| id.to_string()).unwrap_or_default();
    [("client", arrival.client.to_string()), ("client_id", client_id), ("target", arrival.target.to_string())]
}
