//! Requests of the application: find the rule, filter, send as it says, and count what came of it (wire.md 2.7, 5.7).

use std::{net::SocketAddr, sync::Arc};

use http::{HeaderValue, Response, Version};
use tokio::sync::Notify;
use weft_core::{
    balance::Rng,
    failure::Failure,
    headers::{self, DST_CANONICAL, REQUIRE_ID},
    orig_proto::{has_proper_target, settle_host},
    outbound::{ClientProtocol, HttpRoutes, HttpRule, Limits, Plan, RuleKind},
    route::{RequestView, without_port},
};

use crate::{
    attempt::Tries,
    body::Body,
    conn::Conn,
    facts::Connection,
    proxy::Proxy,
    record::Record,
    respond::{AnswerTo, Ended},
    retry,
    routing::{Counts, Routing},
    serve::{Answer, BoxRequest, Handler, HttpVersion, ServeSettings},
    targets::TargetLease,
    upgrade,
};

pub async fn serve(proxy: Arc<Proxy>, dst: SocketAddr, target: TargetLease, conn: Conn, version: HttpVersion) {
    let connection = Connection::outbound(&proxy, &conn, dst, version.label());
    let destination = Destination { target, host: dst.to_string() };
    let handler = Arc::new(Application { connection, onward: OutboundHttp::new(proxy.clone()), destination });
    serve_application(&proxy, conn, version, handler.clone(), &handler.onward).await;
}

/// onward: where the handler's requests go on, which may end the connection.
pub async fn serve_application<H: Handler>(
    proxy: &Proxy,
    conn: Conn,
    version: HttpVersion,
    handler: Arc<H>,
    onward: &OutboundHttp,
) {
    let settings = ServeSettings {
        http2: &proxy.settings.outbound_server_http2,
        max_header_bytes: proxy.settings.max_header_bytes,
        head_timeout: proxy.settings.outbound_detect_timeout,
    };
    // The client's own connection errors are its own: the socket counts them.
    let _ = crate::serve::serve(conn, version, handler, settings, &proxy.drain, &onward.close).await;
}

/// One connection of the application.
struct Application {
    connection: Arc<Connection>,
    onward: OutboundHttp,
    destination: Destination,
}

/// Where requests go.
pub struct Destination {
    pub target: TargetLease,
    /// What a request is for that names no host.
    pub host: String,
}

/// The rule that takes a request.
struct Matched<'a> {
    rule: &'a HttpRule,
    /// Length of the path prefix that matched, if that is how it matched.
    prefix: Option<usize>,
    counts: Counts,
}

/// How the requests of one connection go on.
pub struct OutboundHttp {
    proxy: Arc<Proxy>,
    /// Ends the connection once what is in flight is answered.
    close: Notify,
}

impl Handler for Application {
    fn handle(self: Arc<Self>, mut request: BoxRequest) -> Answer {
        Box::pin(async move {
            let mut record = Record::begin(&self.connection, &mut request);
            let answer_to = AnswerTo::new(&request, self.connection.proxy.settings.informational_headers);
            let result = self.onward.respond(&self.destination, request, &mut record).await;
            record.concludes(result, |failure| self.onward.failed(failure, &answer_to))
        })
    }
}

impl OutboundHttp {
    pub fn new(proxy: Arc<Proxy>) -> Self {
        Self { proxy, close: Notify::new() }
    }

    /// Counts a failure and answers the application with it.
    pub fn failed(&self, failure: &Failure, answer_to: &AnswerTo) -> Response<Body> {
        self.proxy.metrics.outbound_failure(failure);
        if failure.is_fatal() {
            self.close.notify_one();
        }
        answer_to.answer(failure)
    }

    /// record: of the request, wherever it came in; what is decided and tried here is noted there.
    pub async fn respond(
        &self,
        destination: &Destination,
        mut request: BoxRequest,
        record: &mut Record,
    ) -> Result<Response<Body>, Ended> {
        let _admitted = self.proxy.outbound_requests.admit()?;
        let routing = destination.target.discovered().await;
        record.routed(&routing);
        if let Some(reason) = &routing.refusal {
            return Err(Failure::BackendUnusable(reason.clone()).into());
        }
        if !has_proper_target(&request) {
            return Err(Failure::InvalidRequest("the request's target has the wrong form").into());
        }
        settle_host(&mut request).ok_or(Failure::InvalidRequest("a request has one host"))?;
        let started = record.started();
        let view = RequestView::new(&request);
        let routes = routes(routing.protocol(), request.version())?;
        let (rule, prefix) = routes.find(&view).ok_or(Failure::NoRoute)?;
        let labelled = self.proxy.settings.outbound_metrics_hostname_labels.then(|| without_port(view.host));
        record.takes(rule.id);
        let counts = routing.counts(rule, labelled);
        let watch = counts.clone().started(started);
        let matched = Matched { rule, prefix, counts };
        match self.carry(destination, &routing, &matched, request, record).await {
            Ok(mut response) => {
                response.body_mut().watch_route(watch);
                Ok(response)
            }
            Err(ended) => {
                watch.failed(&ended);
                Err(ended)
            }
        }
    }

    async fn carry(
        &self,
        destination: &Destination,
        routing: &Routing,
        matched: &Matched<'_>,
        mut request: BoxRequest,
        record: &mut Record,
    ) -> Result<Response<Body>, Ended> {
        let Matched { rule, prefix, counts } = matched;
        let switch = upgrade::asked(&mut request);
        if switch.is_none() {
            headers::strip_hop_by_hop(request.headers_mut());
        }
        let required_id = request.headers_mut().remove(REQUIRE_ID);
        let mut plan = Plan::new(rule.retry.as_ref(), rule.timeouts);
        if rule.allow_l5d_headers {
            plan = plan.overridden(request.headers_mut());
        }
        if !rule.filters.is_empty() {
            rule.filters.request(&mut request, *prefix, &mut Rng(self.proxy.random()))?;
        }
        let mut tries = Tries {
            proxy: &self.proxy,
            host: &destination.host,
            routing,
            rule,
            counts,
            record,
            prefix: *prefix,
            required_id,
            method: request.method().clone(),
            version: request.version(),
            switch,
            close: &self.close,
        };
        let mut response = match (&rule.kind, counts) {
            (RuleKind::Profile(profile), Counts::Profile(series)) => {
                if let Ok(dst) = HeaderValue::from_str(&profile.dst) {
                    request.headers_mut().insert(DST_CANONICAL, dst);
                }
                Box::pin(retry::by_profile(&mut tries, request, profile, series)).await?
            }
            _ if plan.is_plain() => tries.attempt(request, Limits::default(), true).await?,
            _ => Box::pin(retry::send(&mut tries, request, plan)).await?,
        };
        rule.filters.response(response.headers_mut());
        Ok(response)
    }
}

fn routes(protocol: &ClientProtocol, version: Version) -> Result<&HttpRoutes, Failure> {
    match protocol {
        ClientProtocol::Detect { http1, http2, .. } => Ok(if version == Version::HTTP_2 { http2 } else { http1 }),
        ClientProtocol::Http1(routes) | ClientProtocol::Http2(routes) | ClientProtocol::Grpc(routes) => Ok(routes),
        ClientProtocol::Invalid(reason) => Err(Failure::InvalidPolicy(reason.clone())),
        // The policy changed under a running connection, whose next one is treated as it says now; or an ingress, which
        // looks at requests before it knows the policy, was asked for HTTP with what takes none.
        ClientProtocol::Opaque(_) | ClientProtocol::Tls(_) => {
            Err(Failure::InvalidPolicy("the target does not speak HTTP".to_owned()))
        }
    }
}
