//! Connections of the application: where each was going, what it speaks, and bytes that stay bytes (wire.md 2, 5.6).

use std::{net::SocketAddr, sync::Arc, time::Instant};

use tokio::{io::AsyncWriteExt, net::TcpStream};
use weft_core::{
    addr::canonical,
    detect::Detected,
    endpoint::target_labels,
    failure::Failure,
    metrics::Labels,
    outbound::{BackendIndex, ClientProtocol, NoBackend, OpaqueFilter, OpaqueRoute},
};
use weft_proto::engine::log::Level;

use crate::{
    accept::{Detection, detect_http, server_name},
    balancer::{Balancer, Picked},
    conn::{Conn, Rewound, Transport, tune},
    connection_record::ConnectionRecord,
    endpoint::Endpoint,
    exchange::{ExchangeMetrics, splice_counted},
    ingress, outbound_http,
    proxy::Proxy,
    routing::Routing,
    serve::HttpVersion,
    targets::{TargetKey, TargetLease},
};

/// Why a record says that another endpoint was tried.
pub const UNREACHED: &str = "the endpoint before could not be reached";

pub async fn connection(proxy: Arc<Proxy>, stream: TcpStream) {
    let keepalive = proxy.settings.outbound_accept_keepalive;
    tune(&stream, keepalive.keepalive, keepalive.user_timeout);
    let dst = match proxy.original_dst.lookup(&stream) {
        Ok(dst) => canonical(dst),
        Err(error) => {
            return proxy.events.log(
                Level::Debug,
                "outbound",
                "connection without an original destination",
                &[("error", error.to_string())],
            );
        }
    };
    if let Err(why) = refused(&proxy, dst) {
        count_error(&proxy, dst, "unexpected");
        let fields = [("dst", dst.to_string())];
        return proxy.events.log(Level::Warn, "outbound", why, &fields);
    }
    let mut conn = Conn::new(Transport::Plain(Rewound { seen: Default::default(), io: stream }));
    let mut labels = Labels::default().with("direction", "outbound").with("peer", "src");
    target_labels(dst, &mut labels);
    conn.measure(proxy.metrics.transport(&labels.with("tls", "no_identity").with("no_tls_reason", "loopback")));
    if proxy.settings.ingress_mode {
        return ingress::connection(proxy, dst, conn).await;
    }
    let target = proxy.targets.lease(TargetKey::OriginalDst(dst));
    let routing = tokio::select! {
        routing = target.discovered() => routing,
        () = proxy.drain.begun() => return,
    };
    dispatch(proxy, dst, target, routing, conn).await;
}

/// Targets that would lead back to the proxy or past the redirect.
fn refused(proxy: &Proxy, dst: SocketAddr) -> Result<(), &'static str> {
    if dst.ip().is_loopback() {
        return Err("refused a loopback target");
    }
    let is_own_listener = proxy.settings.outbound_listen.iter().any(|listen| listen.port() == dst.port())
        && proxy.settings.inbound_ips.contains(&dst.ip());
    if is_own_listener { Err("refused a connection to our own listener") } else { Ok(()) }
}

pub fn count_error(proxy: &Proxy, dst: SocketAddr, error: &str) {
    let mut labels = Labels::default();
    target_labels(dst, &mut labels);
    proxy.metrics.outbound_tcp_errors.series(&labels.with("error", error)).incr();
}

async fn dispatch(proxy: Arc<Proxy>, dst: SocketAddr, target: TargetLease, routing: Arc<Routing>, mut conn: Conn) {
    let count = |protocol| {
        let labels = Labels::default().with("protocol", protocol).and(&routing.parent);
        proxy.metrics.outbound_protocol.series(&labels).incr();
    };
    let version = match routing.protocol() {
        ClientProtocol::Detect { opaque, .. } => {
            count("detect");
            match detect(&proxy, &routing.parent, &mut conn).await {
                Some(Detection::Is(Detected::Http1)) => HttpVersion::One,
                Some(Detection::Is(Detected::Http2)) => HttpVersion::Two,
                Some(Detection::Is(Detected::NotHttp) | Detection::TimedOut) => {
                    let mut record = ConnectionRecord::outbound(&proxy, &conn, dst);
                    return forward(&proxy, dst, &routing, opaque, conn, &mut record).await;
                }
                None => return,
            }
        }
        ClientProtocol::Http1(_) => {
            count("http/1");
            HttpVersion::One
        }
        ClientProtocol::Http2(_) | ClientProtocol::Grpc(_) => {
            count("http/2");
            HttpVersion::Two
        }
        ClientProtocol::Opaque(opaque) => {
            count("opaq");
            let mut record = ConnectionRecord::outbound(&proxy, &conn, dst);
            return forward(&proxy, dst, &routing, opaque, conn, &mut record).await;
        }
        ClientProtocol::Tls(routes) => {
            count("tls");
            let sni = server_name(&mut conn, proxy.settings.outbound_detect_timeout).await;
            let Ok(sni) = sni.map(Option::unwrap_or_default) else { return };
            let mut record = ConnectionRecord::outbound_tls(&proxy, &conn, dst);
            record.routed(&routing, None);
            return match routes.find(&sni) {
                Some(route) => forward_tls(&proxy, dst, &routing, route, &sni, conn, &mut record).await,
                None => {
                    record.failed(format!("no route for the server name {sni:?}"));
                    count_error(&proxy, dst, "unexpected");
                }
            };
        }
        // An HTTP client deserves an answer, so look whether it is one.
        ClientProtocol::Invalid(reason) => match detect(&proxy, &routing.parent, &mut conn).await {
            Some(Detection::Is(Detected::Http1)) => HttpVersion::One,
            Some(Detection::Is(Detected::Http2)) => HttpVersion::Two,
            _ => {
                let mut record = ConnectionRecord::outbound(&proxy, &conn, dst);
                record.routed(&routing, None);
                record.failed(format!("invalid policy: {reason}"));
                return count_error(&proxy, dst, "unexpected");
            }
        },
    };
    outbound_http::serve(proxy, dst, target, conn, version).await;
}

/// Bytes that came through a gateway or from an ingress. False when the target takes none.
pub async fn forward_opaque(
    proxy: &Arc<Proxy>,
    dst: SocketAddr,
    routing: &Arc<Routing>,
    conn: Conn,
    record: &mut ConnectionRecord,
) -> bool {
    let (ClientProtocol::Detect { opaque, .. } | ClientProtocol::Opaque(opaque)) = routing.protocol() else {
        return false;
    };
    forward(proxy, dst, routing, opaque, conn, record).await;
    true
}

/// None when the client left before it said anything. parent: PARENT labels.
pub async fn detect(proxy: &Proxy, parent: &Labels, conn: &mut Conn) -> Option<Detection> {
    let started = Instant::now();
    let detected = detect_http(conn, proxy.settings.outbound_detect_timeout).await;
    let label = detected.as_ref().map_or("error", |detection| detection.label());
    proxy.metrics.outbound_detect.record(label, started.elapsed(), parent);
    detected.ok()
}

async fn forward(
    proxy: &Arc<Proxy>,
    dst: SocketAddr,
    routing: &Arc<Routing>,
    route: &OpaqueRoute,
    conn: Conn,
    record: &mut ConnectionRecord,
) {
    let mut labels = route_labels(routing, route);
    labels.add("target_ip", &dst.ip().to_string());
    labels.add("target_port", &dst.port().to_string());
    proxy.metrics.outbound_route_open.series(&labels).incr();
    let error = carry(proxy, dst, routing, route, conn, record).await;
    proxy.metrics.outbound_route_close.series(&labels.with("error", error)).incr();
}

async fn forward_tls(
    proxy: &Arc<Proxy>,
    dst: SocketAddr,
    routing: &Arc<Routing>,
    route: &OpaqueRoute,
    sni: &str,
    conn: Conn,
    record: &mut ConnectionRecord,
) {
    let mut labels = route_labels(routing, route);
    labels.add("hostname", if proxy.settings.outbound_metrics_hostname_labels { sni } else { "" });
    proxy.metrics.outbound_tls_open.series(&labels).incr();
    let error = carry(proxy, dst, routing, route, conn, record).await;
    proxy.metrics.outbound_tls_close.series(&labels.with("error", error)).incr();
}

fn route_labels(routing: &Routing, route: &OpaqueRoute) -> Labels {
    let mut labels = routing.parent.clone();
    if let Some(meta) = &route.meta {
        meta.route_labels(&mut labels);
    }
    labels
}

/// The `error` label of how it ended; empty when the bytes flowed.
async fn carry(
    proxy: &Arc<Proxy>,
    dst: SocketAddr,
    routing: &Arc<Routing>,
    route: &OpaqueRoute,
    mut conn: Conn,
    record: &mut ConnectionRecord,
) -> &'static str {
    record.routed(routing, route.meta.clone());
    let chosen = routing.choose(proxy, &route.backends);
    let filter = route.refusal.as_ref().or(chosen.ok().and_then(|chosen| chosen.filters.as_ref()));
    let backend = chosen.ok().map(|chosen| chosen.backend);
    let balancer = backend.and_then(|backend| Some((backend, routing.balancer(proxy, backend)?)));
    let error = match (filter, balancer) {
        (Some(OpaqueFilter::Forbidden), _) => {
            record.failed("the route forbids it");
            "forbidden"
        }
        (Some(OpaqueFilter::Invalid(reason)), _) => {
            record.failed(format!("invalid policy: {reason}"));
            "invalid_policy"
        }
        (None, None) if chosen.is_err_and(|why| why == NoBackend::AllShut) => {
            not_connected(proxy, dst, record, &Failure::LoadShed)
        }
        (None, None) => {
            record.failed("the backend did not resolve");
            "invalid_backend"
        }
        (None, Some((backend, balancer))) => match connect(proxy, backend, balancer, record).await {
            Ok((endpoint, mut server)) => {
                let exchanges = ExchangeMetrics::new(&proxy.metrics, &endpoint.labels);
                splice_counted(&mut conn, &mut server, &exchanges, record.tally()).await;
                return "";
            }
            Err(failure) => not_connected(proxy, dst, record, &failure),
        },
    };
    // Tells a waiting client at once instead of when the socket is dropped.
    let _ = conn.shutdown().await;
    error
}

fn not_connected(proxy: &Proxy, dst: SocketAddr, record: &mut ConnectionRecord, failure: &Failure) -> &'static str {
    record.failed(failure.to_string());
    count_error(proxy, dst, failure.metric_label().unwrap_or("unexpected"));
    let fields = [("dst", dst.to_string()), ("error", failure.to_string())];
    proxy.events.log(Level::Warn, "outbound", "connection failed", &fields);
    "unexpected"
}

/// Tries endpoints until one answers or none has for the failfast time.
async fn connect(
    proxy: &Proxy,
    backend: BackendIndex,
    balancer: &Arc<Balancer>,
    record: &mut ConnectionRecord,
) -> Result<(Arc<Endpoint>, Conn), Failure> {
    let mut why = "";
    loop {
        let Picked { endpoint, pending, .. } = balancer.pick(proxy.settings.outbound_tcp_queue).await?;
        record.tries(backend, &endpoint, why);
        match endpoint.client.connector().connect(None).await {
            Ok(conn) => {
                pending.sample();
                balancer.reached(&endpoint);
                return Ok((endpoint, conn));
            }
            Err(failure) => {
                endpoint_failed(proxy, balancer, &endpoint, &failure);
                record.try_failed(&failure);
                why = UNREACHED;
            }
        }
    }
}

pub fn endpoint_failed(proxy: &Proxy, balancer: &Balancer, endpoint: &Endpoint, failure: &Failure) {
    balancer.not_reached(endpoint);
    let fields = [("endpoint", endpoint.info.addr.to_string()), ("error", failure.to_string())];
    proxy.events.log(Level::Warn, "outbound", "endpoint cannot be reached", &fields);
}
