//! Requests of the application: route, balance, carry, and shape what comes back (wire.md 2.7, 5.4, 5.5, 5.7).

use std::{net::SocketAddr, sync::Arc, time::Instant};

use http::{HeaderMap, HeaderValue, Method, Request, Response, Version, header};
use hyper::body::Incoming;
use tokio::sync::Notify;
use weft_core::{
    endpoint::{OutboundTls, ProtocolHint},
    failure::Failure,
    headers::{self, PROXY_CONNECTION, PROXY_ERROR, REQUIRE_ID},
    orig_proto::{self, OrigProto, host_of},
    outbound::{ClientProtocol, HttpFilter, HttpRoutes},
    route::RequestView,
    transport_header::Session,
};

use crate::{
    balancer::Balancer,
    body::{Body, ResponseWatch},
    client::{Reusable, SendFailure},
    conn::Conn,
    endpoint::{Endpoint, Pending},
    outbound::{choose, endpoint_failed},
    proxy::Proxy,
    respond::{AnswerTo, Ended},
    serve::{Answer, BoxError, Handler, HttpVersion, ServeSettings},
    targets::{Routing, TargetLease},
    upgrade,
};

/// Sends of one request over connections that turn out to be gone before anything was written.
const MAX_UNSENT: usize = 5;

pub async fn serve(proxy: Arc<Proxy>, dst: SocketAddr, target: TargetLease, conn: Conn, version: HttpVersion) {
    let handler = Arc::new(OutboundHttp { proxy: proxy.clone(), dst, target, close: Notify::new() });
    let settings = ServeSettings {
        http2: &proxy.settings.outbound_server_http2,
        max_header_bytes: proxy.settings.max_header_bytes,
    };
    // The client's own connection errors are its own: the socket counts them.
    let _ = crate::serve::serve(conn, version, handler.clone(), settings, &proxy.drain, &handler.close).await;
}

/// One connection of the application.
struct OutboundHttp {
    proxy: Arc<Proxy>,
    dst: SocketAddr,
    target: TargetLease,
    /// Ends the connection once what is in flight is answered.
    close: Notify,
}

impl Handler for OutboundHttp {
    fn handle(self: Arc<Self>, request: Request<Incoming>) -> Answer {
        Box::pin(async move {
            let answer_to = AnswerTo {
                version: request.version(),
                is_grpc: headers::is_grpc(request.headers()),
                informational: self.proxy.settings.informational_headers,
            };
            match self.respond(request).await {
                Ok(response) => Ok(response),
                Err(Ended::Reset(error)) => Err(BoxError::from(error)),
                Err(Ended::Failed(failure)) => {
                    self.proxy.metrics.outbound_failure(&failure);
                    if failure.is_fatal() {
                        self.close.notify_one();
                    }
                    Ok(answer_to.answer(&failure))
                }
            }
        })
    }
}

impl OutboundHttp {
    async fn respond(&self, mut request: Request<Incoming>) -> Result<Response<Body>, Ended> {
        let _admitted = self.proxy.admit()?;
        let routing = self.target.discovered().await;
        if let Some(reason) = &routing.refusal {
            return Err(Failure::BackendUnusable(reason.clone()).into());
        }
        if request.method() == Method::CONNECT && request.uri().authority().is_none() {
            return Err(Failure::InvalidRequest("CONNECT needs an authority").into());
        }
        let balancer = self.route(&routing, &request)?;
        let switch = upgrade::asked(&mut request);
        if switch.is_none() {
            headers::strip_hop_by_hop(request.headers_mut());
        }
        request.headers_mut().remove(REQUIRE_ID);
        let method = request.method().clone();
        let version = request.version();
        let mut exchange = self.send(&balancer, request.map(Body::incoming), switch.is_some()).await?;
        let meshed = matches!(exchange.endpoint.info.tls, OutboundTls::Mesh(_));
        let response = &mut exchange.response;
        let upstream_closes = meshed && is_close(response.headers());
        if meshed {
            response.headers_mut().remove(PROXY_ERROR);
            response.headers_mut().remove(PROXY_CONNECTION);
        }
        // An HTTP/1 message that came as HTTP/2 is one again; anything else keeps the version of the request.
        let carried = OrigProto::take(response.headers_mut()).map(|orig| orig.version);
        *response.version_mut() = carried.unwrap_or(version);
        let switched = switch.is_some_and(|switch| switch.answer(&method, response, &self.proxy.drain));
        if switched {
            exchange.reusable = None;
        } else {
            headers::strip_hop_by_hop(response.headers_mut());
            if upstream_closes && balancer.only_endpoint().is_some() {
                self.close.notify_one();
                if version == Version::HTTP_11 {
                    response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
                }
            }
        }
        Ok(exchange.finish(version))
    }

    fn route(&self, routing: &Routing, request: &Request<Incoming>) -> Result<Arc<Balancer>, Failure> {
        let view = RequestView {
            method: request.method(),
            host: host_of(request),
            path: request.uri().path(),
            query: request.uri().query().unwrap_or_default(),
            headers: request.headers(),
        };
        let routes = routes(routing.protocol(), request.version())?;
        let rule = routes.rule(routes.find(&view).ok_or(Failure::NoRoute)?);
        for filter in &rule.filters {
            self.apply(filter)?;
        }
        choose(&self.proxy, routing, &rule.backends)
    }

    fn apply(&self, filter: &HttpFilter) -> Result<(), Failure> {
        let strikes = |numerator: u32, denominator: u32| {
            denominator > 0 && self.proxy.random() % u64::from(denominator) < u64::from(numerator)
        };
        match filter {
            HttpFilter::Fail { status, message, numerator, denominator } if strikes(*numerator, *denominator) => {
                Err(Failure::Injected { status: *status, message: message.clone() })
            }
            HttpFilter::FailGrpc { code, message, numerator, denominator } if strikes(*numerator, *denominator) => {
                Err(Failure::InjectedGrpc { code: *code, message: message.clone() })
            }
            HttpFilter::Fail { .. } | HttpFilter::FailGrpc { .. } => Ok(()),
        }
    }

    /// Tries endpoints until one takes the request or none can be reached for the failfast time.
    async fn send(
        &self,
        balancer: &Arc<Balancer>,
        mut request: Request<Body>,
        switches: bool,
    ) -> Result<Exchange, Ended> {
        let deadline = Instant::now() + self.proxy.settings.outbound_failfast;
        let mut unsent = 0;
        loop {
            let endpoint = balancer.pick(deadline).await?;
            let pending = endpoint.begin();
            let is_http1 = request.version() != Version::HTTP_2;
            let may_upgrade = is_http1 && !switches && endpoint.info.hint == ProtocolHint::H2;
            let upgraded = may_upgrade && orig_proto::upgrade(&mut request, &self.dst.to_string()).is_some();
            let lease = if is_http1 && !upgraded {
                endpoint.client.http1(endpoint.session(Session::Http1)).await
            } else {
                endpoint.client.http2(endpoint.session(Session::Http2)).await
            };
            let lease = match lease {
                Ok(lease) => lease,
                Err(failure) => {
                    drop(pending);
                    orig_proto::downgrade(&mut request);
                    endpoint_failed(&self.proxy, balancer, &endpoint, &failure);
                    continue;
                }
            };
            balancer.reached(&endpoint);
            let started = Instant::now();
            if unsent == 0 {
                request.body_mut().count_request(&endpoint.http);
            }
            match lease.send(request).await {
                Ok((response, reusable)) => {
                    return Ok(Exchange { response, reusable, endpoint, pending, started });
                }
                Err(SendFailure::Unsent(back)) if unsent < MAX_UNSENT => {
                    request = *back;
                    orig_proto::downgrade(&mut request);
                    unsent += 1;
                }
                Err(SendFailure::Unsent(_)) => {
                    return Err(Failure::Io("connections close before they are used".to_owned()).into());
                }
                Err(SendFailure::Failed(error)) => {
                    drop(pending);
                    let ended = Ended::broken(error, !is_http1);
                    endpoint.http.failed(ended.status(), started.elapsed());
                    return Err(ended);
                }
            }
        }
    }
}

fn routes(protocol: &ClientProtocol, version: Version) -> Result<&HttpRoutes, Failure> {
    match protocol {
        ClientProtocol::Detect { http1, http2, .. } => Ok(if version == Version::HTTP_2 { http2 } else { http1 }),
        ClientProtocol::Http1(routes) | ClientProtocol::Http2(routes) | ClientProtocol::Grpc(routes) => Ok(routes),
        ClientProtocol::Invalid(reason) => Err(Failure::InvalidPolicy(reason.clone())),
        // The policy changed under a running connection; the client's next one is treated as it says now.
        ClientProtocol::Opaque(_) | ClientProtocol::Tls(_) => {
            Err(Failure::InvalidPolicy("the target no longer speaks HTTP".to_owned()))
        }
    }
}

fn is_close(headers: &HeaderMap) -> bool {
    headers.get(PROXY_CONNECTION).is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"close"))
}

/// A response with what its body still has to report to.
struct Exchange {
    response: Response<Incoming>,
    reusable: Option<Reusable>,
    endpoint: Arc<Endpoint>,
    pending: Pending,
    started: Instant,
}

impl Exchange {
    fn finish(self, client_version: Version) -> Response<Body> {
        let status = self.response.status().as_u16();
        let http = self.endpoint.http.clone();
        let mut watch = ResponseWatch::new(http, self.started, status, self.response.headers());
        watch.pending = Some(self.pending);
        watch.reusable = self.reusable;
        watch.fails_with_trailers = client_version == Version::HTTP_2;
        self.response.map(|incoming| {
            let mut body = Body::incoming(incoming);
            body.watch_response(watch);
            body
        })
    }
}
