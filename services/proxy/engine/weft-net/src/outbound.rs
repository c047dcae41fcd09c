//! Connections of the application: where each was going, what it speaks, and bytes that stay bytes (wire.md 2, 5.6).

use std::{net::SocketAddr, sync::Arc, time::Instant};

use tokio::{io::AsyncWriteExt, net::TcpStream};
use weft_core::{
    addr::canonical,
    detect::Detected,
    endpoint::target_labels,
    failure::Failure,
    metrics::Labels,
    outbound::{ClientProtocol, OpaqueFilter, OpaqueRoute},
};
use weft_proto::engine::log::Level;

use crate::{
    accept::{Detection, detect_http, server_name},
    balancer::{Balancer, Picked},
    conn::{Conn, Rewound, Transport, tune},
    endpoint::Endpoint,
    exchange::{ExchangeMetrics, splice_counted},
    outbound_http,
    proxy::Proxy,
    routing::Routing,
    serve::HttpVersion,
    targets::{TargetKey, TargetLease},
};

pub async fn connection(proxy: Arc<Proxy>, stream: TcpStream) {
    tune(&stream, None, None);
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
    let target = proxy.targets.lease(TargetKey::OriginalDst(dst));
    let routing = tokio::select! {
        routing = target.discovered() => routing,
        () = proxy.drain.begun() => return,
    };
    let mut conn = Conn::new(Transport::Plain(Rewound { seen: Default::default(), io: stream }));
    let mut labels = Labels::default().with("direction", "outbound").with("peer", "src");
    target_labels(dst, &mut labels);
    conn.measure(proxy.metrics.transport(&labels.with("tls", "no_identity").with("no_tls_reason", "loopback")));
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

fn count_error(proxy: &Proxy, dst: SocketAddr, error: &str) {
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
            match detect(&proxy, &routing, &mut conn).await {
                Some(Detection::Is(Detected::Http1)) => HttpVersion::One,
                Some(Detection::Is(Detected::Http2)) => HttpVersion::Two,
                Some(Detection::Is(Detected::NotHttp) | Detection::TimedOut) => {
                    return forward(&proxy, dst, &routing, opaque, conn).await;
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
            return forward(&proxy, dst, &routing, opaque, conn).await;
        }
        ClientProtocol::Tls(routes) => {
            count("tls");
            let sni = server_name(&mut conn, proxy.settings.outbound_detect_timeout).await;
            let Ok(sni) = sni.map(Option::unwrap_or_default) else { return };
            return match routes.find(&sni) {
                Some(route) => forward_tls(&proxy, dst, &routing, route, &sni, conn).await,
                None => count_error(&proxy, dst, "unexpected"),
            };
        }
        // An HTTP client deserves an answer, so look whether it is one.
        ClientProtocol::Invalid(_) => match detect(&proxy, &routing, &mut conn).await {
            Some(Detection::Is(Detected::Http1)) => HttpVersion::One,
            Some(Detection::Is(Detected::Http2)) => HttpVersion::Two,
            _ => return count_error(&proxy, dst, "unexpected"),
        },
    };
    outbound_http::serve(proxy, dst, target, conn, version).await;
}

/// Bytes that came through a gateway. False when the target takes none.
pub async fn forward_opaque(proxy: &Arc<Proxy>, dst: SocketAddr, routing: &Routing, conn: Conn) -> bool {
    let (ClientProtocol::Detect { opaque, .. } | ClientProtocol::Opaque(opaque)) = routing.protocol() else {
        return false;
    };
    forward(proxy, dst, routing, opaque, conn).await;
    true
}

/// None when the client left before it said anything.
async fn detect(proxy: &Proxy, routing: &Routing, conn: &mut Conn) -> Option<Detection> {
    let started = Instant::now();
    let detected = detect_http(conn, proxy.settings.outbound_detect_timeout).await;
    let label = detected.as_ref().map_or("error", |detection| detection.label());
    proxy.metrics.outbound_detect.record(label, started.elapsed(), &routing.parent);
    detected.ok()
}

async fn forward(proxy: &Arc<Proxy>, dst: SocketAddr, routing: &Routing, route: &OpaqueRoute, conn: Conn) {
    let mut labels = route_labels(routing, route);
    labels.add("target_ip", &dst.ip().to_string());
    labels.add("target_port", &dst.port().to_string());
    proxy.metrics.outbound_route_open.series(&labels).incr();
    let error = carry(proxy, dst, routing, route, conn).await;
    proxy.metrics.outbound_route_close.series(&labels.with("error", error)).incr();
}

async fn forward_tls(
    proxy: &Arc<Proxy>,
    dst: SocketAddr,
    routing: &Routing,
    route: &OpaqueRoute,
    sni: &str,
    conn: Conn,
) {
    let mut labels = route_labels(routing, route);
    labels.add("hostname", if proxy.settings.outbound_metrics_hostname_labels { sni } else { "" });
    proxy.metrics.outbound_tls_open.series(&labels).incr();
    let error = carry(proxy, dst, routing, route, conn).await;
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
    routing: &Routing,
    route: &OpaqueRoute,
    mut conn: Conn,
) -> &'static str {
    let refused = |filter: &OpaqueFilter| match filter {
        OpaqueFilter::Forbidden => "forbidden",
        OpaqueFilter::Invalid(_) => "invalid_policy",
    };
    let chosen = route.backends.choose(|backend| routing.is_available(proxy, backend), || proxy.random());
    let filter = route.refusal.as_ref().or(chosen.ok().and_then(|chosen| chosen.filters.as_ref()));
    let balancer = chosen.ok().and_then(|chosen| routing.balancer(proxy, chosen.backend));
    let error = match (filter, balancer) {
        (Some(filter), _) => refused(filter),
        (None, None) => "invalid_backend",
        (None, Some(balancer)) => match connect(proxy, balancer).await {
            Ok((endpoint, mut server)) => {
                let exchanges = ExchangeMetrics::new(&proxy.metrics, &endpoint.labels);
                // How the connection ended is counted by its two sockets.
                let _ = splice_counted(&mut conn, &mut server, &exchanges).await;
                return "";
            }
            Err(failure) => {
                count_error(proxy, dst, failure.metric_label().unwrap_or("unexpected"));
                let fields = [("dst", dst.to_string()), ("error", failure.to_string())];
                proxy.events.log(Level::Warn, "outbound", "connection failed", &fields);
                "unexpected"
            }
        },
    };
    // Tells a waiting client at once instead of when the socket is dropped.
    let _ = conn.shutdown().await;
    error
}

/// Tries endpoints until one answers or none has for the failfast time.
async fn connect(proxy: &Proxy, balancer: &Arc<Balancer>) -> Result<(Arc<Endpoint>, Conn), Failure> {
    loop {
        let Picked { endpoint, pending, .. } = balancer.pick(proxy.settings.outbound_failfast).await?;
        match endpoint.client.connector().connect(None).await {
            Ok(conn) => {
                pending.sample();
                balancer.reached(&endpoint);
                return Ok((endpoint, conn));
            }
            Err(failure) => endpoint_failed(proxy, balancer, &endpoint, &failure),
        }
    }
}

pub fn endpoint_failed(proxy: &Proxy, balancer: &Balancer, endpoint: &Endpoint, failure: &Failure) {
    balancer.not_reached(endpoint);
    let fields = [("endpoint", endpoint.info.addr.to_string()), ("error", failure.to_string())];
    proxy.events.log(Level::Warn, "outbound", "endpoint cannot be reached", &fields);
}
