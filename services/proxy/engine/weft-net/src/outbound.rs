//! Connections of the application: where each was going, what it speaks, and bytes that stay bytes (wire.md 2, 5.6).

use std::{net::SocketAddr, sync::Arc, time::Instant};

use tokio::{io::AsyncWriteExt, net::TcpStream};
use weft_core::{
    addr::canonical,
    balance::weighted,
    detect::Detected,
    endpoint::target_labels,
    failure::Failure,
    metrics::Labels,
    outbound::{ClientProtocol, Distribution, OpaqueOutcome, OpaqueRoute},
};
use weft_proto::engine::log::Level;

use crate::{
    accept::{Detection, detect_http},
    balancer::Balancer,
    conn::{Conn, Rewound, Transport, tune},
    endpoint::Endpoint,
    exchange::{ExchangeMetrics, splice_counted},
    outbound_http,
    proxy::Proxy,
    serve::HttpVersion,
    targets::{Routing, TargetLease},
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
    let target = proxy.targets.lease(dst);
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
        ClientProtocol::Tls(opaque) => {
            count("tls");
            return forward(&proxy, dst, &routing, opaque, conn).await;
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

/// None when the client left before it said anything.
async fn detect(proxy: &Proxy, routing: &Routing, conn: &mut Conn) -> Option<Detection> {
    let started = Instant::now();
    let detected = detect_http(conn, proxy.settings.outbound_detect_timeout).await;
    let label = detected.as_ref().map_or("error", |detection| detection.label());
    proxy.metrics.outbound_detect.record(label, started.elapsed(), &routing.parent);
    detected.ok()
}

async fn forward(proxy: &Arc<Proxy>, dst: SocketAddr, routing: &Routing, route: &OpaqueRoute, mut conn: Conn) {
    let mut labels = routing.parent.clone();
    if let Some(meta) = &route.meta {
        meta.route_labels(&mut labels);
    }
    labels.add("target_ip", &dst.ip().to_string());
    labels.add("target_port", &dst.port().to_string());
    proxy.metrics.outbound_route_open.series(&labels).incr();
    let error = match &route.outcome {
        OpaqueOutcome::Forbidden => "forbidden",
        OpaqueOutcome::Invalid(_) => "invalid_policy",
        OpaqueOutcome::Forward(distribution) => match choose(proxy, routing, distribution) {
            Err(_) => "invalid_backend",
            Ok(balancer) => match connect(proxy, &balancer).await {
                Ok((endpoint, mut server)) => {
                    let exchanges = ExchangeMetrics::new(&proxy.metrics, &endpoint.labels);
                    // How the connection ended is counted by its two sockets.
                    let _ = splice_counted(&mut conn, &mut server, &exchanges).await;
                    ""
                }
                Err(failure) => {
                    count_error(proxy, dst, failure.metric_label().unwrap_or("unexpected"));
                    let fields = [("dst", dst.to_string()), ("error", failure.to_string())];
                    proxy.events.log(Level::Warn, "outbound", "connection failed", &fields);
                    "unexpected"
                }
            },
        },
    };
    if !error.is_empty() {
        // Tells a waiting client at once instead of when the socket is dropped.
        let _ = conn.shutdown().await;
    }
    proxy.metrics.outbound_route_close.series(&labels.with("error", error)).incr();
}

/// Tries endpoints until one answers or none has for the failfast time.
async fn connect(proxy: &Proxy, balancer: &Arc<Balancer>) -> Result<(Arc<Endpoint>, Conn), Failure> {
    let deadline = Instant::now() + proxy.settings.outbound_failfast;
    loop {
        let endpoint = balancer.pick(deadline).await?;
        let pending = endpoint.begin();
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

pub fn endpoint_failed(proxy: &Proxy, balancer: &Balancer, endpoint: &crate::endpoint::Endpoint, failure: &Failure) {
    balancer.not_reached(endpoint);
    let fields = [("endpoint", endpoint.info.addr.to_string()), ("error", failure.to_string())];
    proxy.events.log(Level::Warn, "outbound", "endpoint cannot be reached", &fields);
}

/// A backend of a distribution: by order or by weight, among those that could take a request now.
pub fn choose(proxy: &Proxy, routing: &Routing, distribution: &Distribution) -> Result<Arc<Balancer>, Failure> {
    let unusable = || Failure::BackendUnusable("it did not resolve".to_owned());
    match distribution {
        Distribution::Empty => Err(Failure::BackendUnusable("the route has no backend".to_owned())),
        Distribution::First(backends) => {
            let mut shed = false;
            for backend in backends {
                match routing.balancer(*backend) {
                    Some(balancer) if balancer.is_available() => return Ok(balancer.clone()),
                    Some(_) => shed = true,
                    None => return Err(unusable()),
                }
            }
            Err(if shed { Failure::LoadShed } else { unusable() })
        }
        Distribution::Random(backends) => {
            // A backend that did not resolve keeps its share and fails it: traffic must not move silently.
            let weights = backends.iter().map(|(backend, weight)| {
                if routing.balancer(*backend).is_none_or(|balancer| balancer.is_available()) { *weight } else { 0 }
            });
            let drawn = weighted(weights, proxy.random()).ok_or(Failure::LoadShed)?;
            routing.balancer(backends[drawn].0).cloned().ok_or_else(unusable)
        }
    }
}
