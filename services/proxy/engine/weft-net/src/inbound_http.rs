//! Requests for the application: admit, say who the client is, undo what its proxy did, pass on (wire.md 3, 5.4).

use std::{sync::Arc, time::Instant};

use http::{HeaderValue, Request, Response, Version};
use http_body::Body as _;
use tokio::sync::Notify;
use weft_core::{
    balance::Rng,
    failure::Failure,
    headers::{self, CLIENT_ID, REMOTE_IP},
    metrics::{HttpMetrics, InboundRouteSeries, RouteOutcome},
    orig_proto::{self, OrigProto, has_proper_target, settle_host},
    route::RequestView,
};

use crate::{
    admission::{Admission, Permitted},
    body::Body,
    client::{Client, MAX_UNSENT, Reusable, SendFailure, never_sent},
    conn::Conn,
    deadlines::Watched,
    facts::Connection,
    gateway::Gateway,
    inbound::Arrival,
    profiles::{Names, ProfileRoute},
    proxy::Proxy,
    record::Record,
    respond::{AnswerTo, Ended},
    serve::{Answer, BoxRequest, Handler, HttpVersion, ServeSettings},
    timed::Timed,
    upgrade,
    watch::{InboundWatch, RequestWatch, ResponseWatch, Sent},
};

/// Where admitted requests go.
pub enum Onward {
    Application(Arc<Client>),
    Gateway(Gateway),
}

pub async fn serve(proxy: Arc<Proxy>, arrival: Arrival, onward: Onward, conn: Conn, version: HttpVersion) {
    let client_id = arrival.tls.client_id().and_then(|id| HeaderValue::from_str(id).ok());
    let connection =
        Connection::inbound(&proxy, &conn, arrival.client, arrival.target, arrival.tls.clone(), version.label());
    // An address is a valid header value.
    let remote_ip = proxy.settings.inbound_remote_ip_header.then(|| arrival.client.ip().to_string());
    let remote_ip = remote_ip.and_then(|ip| HeaderValue::try_from(ip).ok());
    let handler = Arc::new(InboundHttp {
        proxy: proxy.clone(),
        connection,
        arrival,
        client_id,
        remote_ip,
        onward,
        admission: Admission::default(),
        names: Names::default(),
        close: Notify::new(),
    });
    let settings = ServeSettings {
        http2: &proxy.settings.inbound_server_http2,
        max_header_bytes: proxy.settings.max_header_bytes,
        head_timeout: proxy.settings.inbound_detect_timeout,
    };
    // The client's own connection errors are its own: the socket counts them.
    let _ = crate::serve::serve(conn, version, handler.clone(), settings, &proxy.drain, &handler.close).await;
}

/// One connection of a client.
struct InboundHttp {
    proxy: Arc<Proxy>,
    connection: Arc<Connection>,
    arrival: Arrival,
    client_id: Option<HeaderValue>,
    /// Only where the application wants to know it.
    remote_ip: Option<HeaderValue>,
    onward: Onward,
    admission: Admission,
    names: Names,
    /// Ends the connection once what is in flight is answered.
    close: Notify,
}

impl Handler for InboundHttp {
    fn handle(self: Arc<Self>, mut request: BoxRequest) -> Answer {
        Box::pin(async move {
            let mut record = Record::begin(&self.connection, &mut request);
            // Strangers learn nothing of the mesh.
            let answer_to = AnswerTo::new(&request, self.client_id.is_some());
            let result = if record.is_timed() {
                let (result, busy) = Timed::new(Box::pin(self.respond(request, &mut record))).await;
                record.worked(busy);
                result
            } else {
                self.respond(request, &mut record).await
            };
            record.concludes(result, |failure| {
                let labels = self.arrival.server_labels(&self.arrival.port.policy());
                self.proxy.metrics.inbound_failure(failure, &labels);
                if failure.is_fatal() {
                    self.close.notify_one();
                }
                answer_to.answer(failure)
            })
        })
    }
}

impl InboundHttp {
    async fn respond(&self, mut request: BoxRequest, record: &mut Record) -> Result<Response<Body>, Ended> {
        let _admitted = self.proxy.inbound_requests.admit()?;
        let carried_version = request.version();
        // Routes and authorizations see the request as its client made it.
        let orig = if carried_version == Version::HTTP_2 { orig_proto::downgrade(&mut request) } else { None };
        if orig.is_some() {
            record.carried(&request);
        }
        if !has_proper_target(&request) {
            return Err(Failure::InvalidRequest("the request's target has the wrong form").into());
        }
        settle_host(&mut request).ok_or(Failure::InvalidRequest("a request has one host"))?;
        let Permitted { permit, prefix } = self.admission.admit(&self.proxy, &self.arrival, &request, record)?;
        if let Some(filters) = permit.policy.filters(permit.route) {
            filters.request(&mut request, prefix, &mut Rng(self.proxy.random()))?;
        }
        request.headers_mut().remove(CLIENT_ID);
        if let Some(id) = &self.client_id {
            request.headers_mut().insert(CLIENT_ID, id.clone());
        }
        if let Some(ip) = &self.remote_ip {
            request.headers_mut().insert(REMOTE_IP, ip.clone());
        }
        let (http, route) = (permit.http.clone(), permit.series.clone());
        let started = record.started();
        let profile = match &self.onward {
            Onward::Application(_) => self.profile_route(&request, record).await,
            // Its requests are for names elsewhere, whose profiles outbound routing knows.
            Onward::Gateway(_) => None,
        };
        let (sent, answered) = match &self.onward {
            Onward::Application(application) => {
                let may_switch = orig.is_none();
                record.dispatched();
                self.to_application(application, request, may_switch, started, &http, &route).await
            }
            Onward::Gateway(gateway) => {
                http.requests.incr();
                route.requests.incr();
                let client_id = self.arrival.tls.client_id().map(|id| &**id).unwrap_or_default();
                // Boxed: it is many times the size of what the application's requests need.
                let passed = Box::pin(gateway.pass(&self.proxy, client_id, request, record)).await;
                (Sent::At(started), passed.map(|response| (response.map(Body::nested), None)))
            }
        };
        let rule = profile.as_ref().map(|profile| profile.rule.clone());
        let inbound = InboundWatch { series: route, sent, profile };
        let (mut response, reusable) = match answered {
            Ok(answered) => answered,
            Err(ended) => {
                http.failed(ended.status(), started.elapsed());
                let outcome = RouteOutcome { http_status: Some(ended.status()), ..ended.route_outcome() };
                inbound.ended(outcome, started);
                if let Some(profile) = &inbound.profile {
                    profile.series.failed(ended.status(), started.elapsed());
                }
                return Err(ended);
            }
        };
        if orig.is_some() {
            OrigProto { version: response.version(), absolute_form: false }.mark(response.headers_mut());
        }
        *response.version_mut() = carried_version;
        let mut watch = ResponseWatch::new(http, started, response.status().as_u16(), response.headers());
        watch.reusable = reusable;
        watch.fails_with_trailers = carried_version == Version::HTTP_2;
        watch.rule = rule;
        watch.inbound = Some(inbound);
        response.body_mut().watch_response(watch);
        Ok(response)
    }

    /// The route of a ServiceProfile that takes the request, which is counted there.
    async fn profile_route(&self, request: &Request<Body>, record: &mut Record) -> Option<Arc<ProfileRoute>> {
        let profile = self.names.profile(&self.proxy.profiles, request)?;
        let route = profile.routes().await?.find(&RequestView::new(request))?.clone();
        route.series.requests.incr();
        record.profiled(route.clone());
        Some(route)
    }

    async fn to_application(
        &self,
        application: &Client,
        mut request: BoxRequest,
        may_switch: bool,
        started: Instant,
        http: &Arc<HttpMetrics>,
        route: &Arc<InboundRouteSeries>,
    ) -> (Sent, Result<(Response<Body>, Option<Reusable>), Ended>) {
        let switch = if may_switch { upgrade::asked(&mut request) } else { None };
        if switch.is_none() {
            headers::strip_hop_by_hop(request.headers_mut());
        }
        let method = request.method().clone();
        let sent = watch_request(&mut request, started, http, route);
        let answered = send(application, request).await.map(|(mut response, reusable)| {
            if switch.is_some_and(|switch| switch.answer(&method, &mut response, &self.proxy.drain)) {
                return (response, None);
            }
            headers::strip_hop_by_hop(response.headers_mut());
            (response, reusable)
        });
        (sent, answered)
    }
}

async fn send(application: &Client, mut request: BoxRequest) -> Result<(Response<Body>, Option<Reusable>), Ended> {
    let is_http2 = request.version() == Version::HTTP_2;
    for _ in 0..=MAX_UNSENT {
        let lease = if is_http2 { application.http2(None).await? } else { application.http1(None).await? };
        match lease.send(request).await {
            Ok(answered) => return Ok(answered),
            Err(SendFailure::Unsent(back)) => request = back,
            Err(SendFailure::Failed(error)) => return Err(Ended::broken(error, is_http2)),
        }
    }
    Err(never_sent().into())
}

/// When the request is sent whole: now if it has no body, else when its body has ended.
fn watch_request(
    request: &mut Request<Body>,
    started: Instant,
    http: &Arc<HttpMetrics>,
    route: &Arc<InboundRouteSeries>,
) -> Sent {
    route.requests.incr();
    if request.body().is_end_stream() {
        http.requests.incr();
        return Sent::At(started);
    }
    let watched = Watched::new(started);
    request.body_mut().watch_request(RequestWatch {
        count: Some(http.clone()),
        frames: Some(route.request_frames.clone()),
        watched: Some(watched.clone()),
    });
    Sent::When(watched)
}
