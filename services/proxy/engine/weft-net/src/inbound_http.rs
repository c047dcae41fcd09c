//! Requests for the application: authorize, say who the client is, undo what its proxy did, pass on (wire.md 3, 5.4).

use std::{sync::Arc, time::Instant};

use http::{HeaderValue, Method, Request, Response, Version};
use hyper::body::Incoming;
use parking_lot::Mutex;
use tokio::sync::Notify;
use weft_core::{
    failure::Failure,
    headers::{self, CLIENT_ID},
    inbound::ServerPolicy,
    meta::Meta,
    metrics::{Counter, HttpMetrics, Labels},
    orig_proto::{self, OrigProto, host_of},
    route::{RequestView, RouteIndex},
};

use crate::{
    body::Body,
    client::{Client, Reusable, SendFailure},
    conn::Conn,
    inbound::{Arrival, log_denial},
    proxy::Proxy,
    respond::{AnswerTo, Ended},
    serve::{Answer, BoxError, Handler, HttpVersion, ServeSettings},
    upgrade,
    watch::ResponseWatch,
};

/// Sends of one request over connections that turn out to be gone before anything was written.
const MAX_UNSENT: usize = 5;
/// Combinations of route and authorization whose series one connection remembers.
const MAX_REMEMBERED: usize = 64;

pub async fn serve(proxy: Arc<Proxy>, arrival: Arrival, conn: Conn, version: HttpVersion) {
    let client_id = arrival.tls.client_id().and_then(|id| HeaderValue::from_str(id).ok());
    let application = arrival.port.client(&proxy, arrival.target);
    let handler = Arc::new(InboundHttp {
        proxy: proxy.clone(),
        arrival,
        client_id,
        application,
        permits: Mutex::default(),
        close: Notify::new(),
    });
    let settings = ServeSettings {
        http2: &proxy.settings.inbound_server_http2,
        max_header_bytes: proxy.settings.max_header_bytes,
    };
    // The client's own connection errors are its own: the socket counts them.
    let _ = crate::serve::serve(conn, version, handler.clone(), settings, &proxy.drain, &handler.close).await;
}

/// One connection of a client.
struct InboundHttp {
    proxy: Arc<Proxy>,
    arrival: Arrival,
    client_id: Option<HeaderValue>,
    application: Arc<Client>,
    permits: Mutex<Vec<Permit>>,
    /// Ends the connection once what is in flight is answered.
    close: Notify,
}

/// Series of the requests that one authorization admitted to one route.
#[derive(Clone)]
struct Permit {
    policy: Arc<ServerPolicy>,
    route: Option<RouteIndex>,
    authz: Meta,
    authority: String,
    http: Arc<HttpMetrics>,
    allow: Arc<Counter>,
    unmeshed: Option<Arc<Counter>>,
}

impl Handler for InboundHttp {
    fn handle(self: Arc<Self>, request: Request<Incoming>) -> Answer {
        Box::pin(async move {
            let answer_to = AnswerTo {
                version: request.version(),
                is_grpc: headers::is_grpc(request.headers()),
                // Strangers learn nothing of the mesh.
                informational: self.client_id.is_some(),
            };
            match self.respond(request).await {
                Ok(response) => Ok(response),
                Err(Ended::Reset(error)) => Err(BoxError::from(error)),
                Err(Ended::Failed(failure)) => {
                    let labels = self.arrival.authz_labels(&self.arrival.port.policy(), |_| {});
                    self.proxy.metrics.inbound_failure(&failure, &labels);
                    if failure.is_fatal() {
                        self.close.notify_one();
                    }
                    Ok(answer_to.answer(&failure))
                }
            }
        })
    }
}

impl InboundHttp {
    async fn respond(&self, mut request: Request<Incoming>) -> Result<Response<Body>, Ended> {
        let _admitted = self.proxy.admit()?;
        let carried_version = request.version();
        // Routes and authorizations see the request as its client made it.
        let orig = if carried_version == Version::HTTP_2 { orig_proto::downgrade(&mut request) } else { None };
        if request.method() == Method::CONNECT && request.uri().authority().is_none() {
            return Err(Failure::InvalidRequest("CONNECT needs an authority").into());
        }
        let http = self.authorize(&request)?;
        let switch = if orig.is_none() { upgrade::asked(&mut request) } else { None };
        if switch.is_none() {
            headers::strip_hop_by_hop(request.headers_mut());
        }
        request.headers_mut().remove(CLIENT_ID);
        if let Some(id) = &self.client_id {
            request.headers_mut().insert(CLIENT_ID, id.clone());
        }
        let method = request.method().clone();
        let started = Instant::now();
        let mut request = request.map(Body::incoming);
        request.body_mut().count_request(&http);
        let (mut response, mut reusable) = match self.send(request).await {
            Ok(answered) => answered,
            Err(ended) => {
                http.failed(ended.status(), started.elapsed());
                return Err(ended);
            }
        };
        if switch.is_some_and(|switch| switch.answer(&method, &mut response, &self.proxy.drain)) {
            reusable = None;
        } else {
            headers::strip_hop_by_hop(response.headers_mut());
        }
        if orig.is_some() {
            OrigProto { version: response.version(), absolute_form: false }.mark(response.headers_mut());
        }
        *response.version_mut() = carried_version;
        let mut watch = ResponseWatch::new(http, started, response.status().as_u16(), response.headers());
        watch.reusable = reusable;
        watch.fails_with_trailers = carried_version == Version::HTTP_2;
        Ok(response.map(|incoming| {
            let mut body = Body::incoming(incoming);
            body.watch_response(watch);
            body
        }))
    }

    fn authorize(&self, request: &Request<Incoming>) -> Result<Arc<HttpMetrics>, Failure> {
        let arrival = &self.arrival;
        let policy = arrival.port.policy();
        let view = RequestView {
            method: request.method(),
            host: host_of(request),
            path: request.uri().path(),
            query: request.uri().query().unwrap_or_default(),
            headers: request.headers(),
        };
        let metrics = &self.proxy.metrics;
        let Some(route) = policy.find_route(&view) else {
            metrics.inbound_route_not_found.series(&arrival.authz_labels(&policy, |_| {})).incr();
            return Err(Failure::NoRoute);
        };
        let Some(authz) = policy.authorize(route, arrival.client.ip(), &arrival.tls) else {
            let labels = arrival.authz_labels(&policy, |labels| route_labels(&policy, route, labels));
            metrics.inbound_http_deny.series(&labels).incr();
            log_denial(&self.proxy, arrival, "request denied");
            return Err(Failure::Unauthorized);
        };
        let authority =
            if self.proxy.settings.inbound_metrics_authority_labels { host_of(request) } else { Default::default() };
        let mut permits = self.permits.lock();
        let known = permits.iter().find(|permit| {
            Arc::ptr_eq(&permit.policy, &policy)
                && permit.route == route
                && permit.authz == *authz
                && permit.authority == authority
        });
        let permit = match known {
            Some(permit) => permit,
            None => {
                // Those of an older policy are not asked for again.
                permits.retain(|permit| Arc::ptr_eq(&permit.policy, &policy));
                if permits.len() >= MAX_REMEMBERED {
                    permits.remove(0);
                }
                permits.push(self.permit(&policy, route, authz, authority));
                &permits[permits.len() - 1]
            }
        };
        permit.allow.incr();
        if let Some(unmeshed) = &permit.unmeshed {
            unmeshed.incr();
        }
        Ok(permit.http.clone())
    }

    fn permit(&self, policy: &Arc<ServerPolicy>, route: Option<RouteIndex>, authz: &Meta, authority: &str) -> Permit {
        let mut labels = Labels::default().with("direction", "inbound");
        if !authority.is_empty() {
            labels.add("authority", authority);
        }
        labels.extend(&self.arrival.transport_labels(policy));
        route_labels(policy, route, &mut labels);
        authz.short_labels("authz", &mut labels);
        let allow = self.arrival.authz_labels(policy, |labels| {
            route_labels(policy, route, labels);
            authz.short_labels("authz", labels);
        });
        Permit {
            policy: policy.clone(),
            route,
            authz: authz.clone(),
            authority: authority.to_owned(),
            http: self.proxy.metrics.http.metrics(labels),
            allow: self.proxy.metrics.inbound_http_allow.series(&allow),
            unmeshed: self.arrival.unmeshed(&self.proxy, |labels| {
                route_labels(policy, route, labels);
                authz.short_labels("authz", labels);
            }),
        }
    }

    async fn send(&self, mut request: Request<Body>) -> Result<(Response<Incoming>, Option<Reusable>), Ended> {
        let is_http2 = request.version() == Version::HTTP_2;
        for _ in 0..=MAX_UNSENT {
            let lease =
                if is_http2 { self.application.http2(None).await? } else { self.application.http1(None).await? };
            match lease.send(request).await {
                Ok(answered) => return Ok(answered),
                Err(SendFailure::Unsent(back)) => request = *back,
                Err(SendFailure::Failed(error)) => return Err(Ended::broken(error, is_http2)),
            }
        }
        Err(Failure::Io("connections close before they are used".to_owned()).into())
    }
}

fn route_labels(policy: &ServerPolicy, route: Option<RouteIndex>, labels: &mut Labels) {
    let default = Meta::built_in("default");
    let meta = route.and_then(|route| policy.route_meta(route)).unwrap_or(&default);
    meta.short_labels("route", labels);
}
