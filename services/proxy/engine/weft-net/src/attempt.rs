//! One try of a request: choose a backend and an endpoint of it, send, and shape what comes back (wire.md 5.4, 5.5).

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Instant,
};

use http::{HeaderMap, HeaderValue, Method, Request, Response, Version, header};
use http_body::Body as _;
use pin_project_lite::pin_project;
use tokio::sync::Notify;
use weft_core::{
    balance::Rng,
    breaker::Class,
    endpoint::{OutboundTls, ProtocolHint},
    failure::Failure,
    headers::{self, DST_CANONICAL, PROXY_CONNECTION, PROXY_ERROR, grpc_status, is_grpc},
    metrics::BackendSeries,
    orig_proto::{self, OrigProto},
    outbound::{BackendIndex, HttpRule, Limits, NoBackend},
    transport_header::Session,
};

use crate::{
    balancer::{Balancer, Picked},
    body::Body,
    client::{MAX_UNSENT, Reusable, SendFailure, never_sent},
    deadlines::{Deadlines, Watched},
    outbound::{UNREACHED, endpoint_failed},
    proxy::Proxy,
    record::Record,
    respond::Ended,
    routing::{Counts, Routing},
    serve::BoxRequest,
    upgrade,
    watch::{OutboundWatch, RequestWatch, ResponseWatch, Sent, class_of},
};

/// A request that found its rule, with what each of its tries needs.
pub struct Tries<'a> {
    pub proxy: &'a Arc<Proxy>,
    /// What a request is for that names no host.
    pub host: &'a str,
    pub routing: &'a Routing,
    pub rule: &'a HttpRule,
    pub counts: &'a Counts,
    pub record: &'a mut Record,
    /// Length of the path prefix that the rule matched.
    pub prefix: Option<usize>,
    /// What `l5d-require-id` asks for.
    pub required_id: Option<HeaderValue>,
    pub method: Method,
    pub version: Version,
    /// The client's half of a protocol switch, until it is granted.
    pub switch: Option<upgrade::Asked>,
    /// Ends the client's connection after the answers in flight.
    pub close: &'a Notify,
}

/// A response with what its body still has to report to.
struct Exchange {
    response: Response<Body>,
    reusable: Option<Reusable>,
    picked: Picked,
    started: Instant,
}

impl Tries<'_> {
    /// is_first: the frames of later tries repeat those of the first, which alone are the client's.
    pub async fn attempt(
        &mut self,
        mut request: BoxRequest,
        limits: Limits,
        is_first: bool,
    ) -> Result<Response<Body>, Ended> {
        let why = if is_first { "" } else { "retry" };
        let (proxy, routing) = (self.proxy, self.routing);
        let chosen = routing.choose(proxy, &self.rule.backends).map_err(|why| match why {
            NoBackend::Empty => Failure::BackendUnusable("the route has no backend".to_owned()),
            NoBackend::AllShut => Failure::LoadShed,
        })?;
        let started = Instant::now();
        let series = routing.backend_series(self.rule, chosen.backend).cloned();
        if let Some(series) = &series {
            series.requests.incr();
        }
        let watched = self.watch_request(&mut request, &limits, started, is_first);
        let mut deadlines = match &watched {
            Some(watched) if !limits.is_unlimited() => Some(Deadlines::new(limits, watched.clone())),
            _ => None,
        };
        let exchanged = async {
            if !chosen.filters.is_empty() {
                chosen.filters.request(&mut request, self.prefix, &mut Rng(proxy.random()))?;
            }
            let unusable = || Failure::BackendUnusable("it did not resolve".to_owned());
            let balancer = routing.balancer(proxy, chosen.backend).ok_or_else(unusable)?;
            Ok((self.send(chosen.backend, balancer, request, &mut deadlines, why).await?, balancer))
        };
        let (exchange, balancer) = match exchanged.await {
            Ok(exchanged) => exchanged,
            Err(ended) => {
                let ended: Ended = ended;
                if let Some(series) = &series {
                    series.ended(ended.route_outcome(), started.elapsed());
                }
                if let Counts::Profile(profile) = self.counts {
                    profile.actual.failed(ended.status(), started.elapsed());
                }
                return Err(ended);
            }
        };
        if let Some(deadlines) = &mut deadlines {
            deadlines.headers_came();
        }
        let sent = watched.map_or(Sent::At(exchange.started), Sent::When);
        let mut response = self.finish(exchange, balancer, series, sent, deadlines);
        chosen.filters.response(response.headers_mut());
        Ok(response)
    }

    /// None when neither a limit nor a count needs to know how far the request's body has come.
    fn watch_request(
        &self,
        request: &mut Request<Body>,
        limits: &Limits,
        started: Instant,
        is_first: bool,
    ) -> Option<Arc<Watched>> {
        if let Counts::Profile(profile) = self.counts {
            profile.actual.requests.incr();
        }
        if request.body().is_end_stream() {
            let watched = (!limits.is_unlimited()).then(|| Watched::new(started))?;
            watched.sent();
            return Some(watched);
        }
        let watched = Watched::new(started);
        let frames = match self.counts {
            Counts::Policy(series) if is_first => Some(series.frames.clone()),
            _ => None,
        };
        request.body_mut().watch_request(RequestWatch { count: None, frames, watched: Some(watched.clone()) });
        Some(watched)
    }

    /// Tries endpoints until one takes the request or none can be reached for the failfast time.
    async fn send(
        &mut self,
        backend: BackendIndex,
        balancer: &Arc<Balancer>,
        mut request: BoxRequest,
        deadlines: &mut Option<Deadlines>,
        mut why: &'static str,
    ) -> Result<Exchange, Ended> {
        let queue = self.proxy.settings.outbound_queue;
        let is_http1 = request.version() != Version::HTTP_2;
        let mut unsent = 0;
        loop {
            let mut picked = within(deadlines, balancer.pick(queue)).await??;
            let endpoint = &picked.endpoint;
            self.record.tries(backend, endpoint, why);
            self.check_identity(&endpoint.info.tls)?;
            if let Some(authority) = &endpoint.info.authority_override {
                request.headers_mut().remove(DST_CANONICAL);
                let bad = || Failure::BackendUnusable(format!("{authority:?} is not an authority"));
                orig_proto::set_host(&mut request, authority).ok_or_else(bad)?;
            }
            let may_upgrade = is_http1 && self.switch.is_none() && endpoint.info.hint == ProtocolHint::H2;
            let upgraded = may_upgrade && orig_proto::upgrade(&mut request, self.host).is_some();
            let lease = async {
                if is_http1 && !upgraded {
                    endpoint.client.http1(endpoint.session(Session::Http1)).await
                } else {
                    endpoint.client.http2(endpoint.session(Session::Http2)).await
                }
            };
            let lease = match within(deadlines, lease).await? {
                Ok(lease) => lease,
                Err(failure) => {
                    orig_proto::downgrade(&mut request);
                    endpoint_failed(self.proxy, balancer, endpoint, &failure);
                    self.record.try_failed(&failure);
                    why = UNREACHED;
                    continue;
                }
            };
            balancer.reached(endpoint);
            let started = Instant::now();
            if unsent == 0 {
                request.body_mut().count_request(&endpoint.http);
            }
            match within(deadlines, lease.send(request)).await {
                Ok(Ok((response, reusable))) => return Ok(Exchange { response, reusable, picked, started }),
                Ok(Err(SendFailure::Unsent(back))) if unsent < MAX_UNSENT => {
                    request = back;
                    orig_proto::downgrade(&mut request);
                    self.record.try_failed(&"the connection closed before anything was sent");
                    why = "nothing had been sent to the endpoint before";
                    unsent += 1;
                }
                Ok(Err(SendFailure::Unsent(_))) => {
                    return Err(never_sent().into());
                }
                Ok(Err(SendFailure::Failed(error))) => {
                    self.record.try_failed(&error);
                    let ended = Ended::broken(error, !is_http1);
                    endpoint.http.failed(ended.status(), started.elapsed());
                    picked.verdict.record(Class::Failure);
                    return Err(ended);
                }
                Err(failure) => {
                    self.record.try_failed(&failure);
                    endpoint.http.failed(failure.status(), started.elapsed());
                    picked.verdict.record(Class::Failure);
                    return Err(failure.into());
                }
            }
        }
    }

    fn check_identity(&self, tls: &OutboundTls) -> Result<(), Failure> {
        let Some(required) = &self.required_id else { return Ok(()) };
        let found = match tls {
            OutboundTls::Mesh(id) => id.san.as_ref(),
            OutboundTls::Loopback | OutboundTls::NotProvided => "",
        };
        if required.as_bytes() == found.as_bytes() {
            return Ok(());
        }
        let required = String::from_utf8_lossy(required.as_bytes()).into_owned();
        Err(Failure::IdentityRequired { required, found: found.to_owned() })
    }

    fn finish(
        &mut self,
        exchange: Exchange,
        balancer: &Balancer,
        backend: Option<Arc<BackendSeries>>,
        sent: Sent,
        deadlines: Option<Deadlines>,
    ) -> Response<Body> {
        let Exchange { mut response, mut reusable, picked: Picked { endpoint, pending, mut verdict }, started } =
            exchange;
        let meshed = matches!(endpoint.info.tls, OutboundTls::Mesh(_));
        let upstream_closes = meshed && is_close(response.headers());
        if meshed {
            response.headers_mut().remove(PROXY_ERROR);
            response.headers_mut().remove(PROXY_CONNECTION);
        }
        // An HTTP/1 message that came as HTTP/2 is one again; anything else keeps the version of the request.
        let carried = OrigProto::take(response.headers_mut()).map(|orig| orig.version);
        *response.version_mut() = carried.unwrap_or(self.version);
        let switch = self.switch.take();
        if switch.is_some_and(|switch| switch.answer(&self.method, &mut response, &self.proxy.drain)) {
            reusable = None;
        } else {
            headers::strip_hop_by_hop(response.headers_mut());
            if upstream_closes && balancer.only_endpoint().is_some() {
                self.close.notify_one();
                if self.version == Version::HTTP_11 {
                    response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
                }
            }
        }
        let status = response.status().as_u16();
        let known_grpc = if is_grpc(response.headers()) { grpc_status(response.headers()) } else { None };
        // What is plain from the headers need not wait for the body.
        let failed = status >= 500 || known_grpc.is_some_and(|code| matches!(code, 2 | 4 | 7 | 13 | 14 | 15));
        match class_of(status, known_grpc, failed) {
            Class::Success => {}
            class => verdict.record(class),
        }
        let mut watch = ResponseWatch::new(endpoint.http.clone(), started, status, response.headers());
        match pending.penalty(status, known_grpc, response.headers()) {
            Some(weight) => pending.penalise(weight),
            None => watch.pending = Some(pending),
        }
        watch.reusable = reusable;
        watch.fails_with_trailers = self.version == Version::HTTP_2;
        let profile = match self.counts {
            Counts::Profile(profile) => Some(profile),
            Counts::Policy(_) => None,
        };
        watch.rule = profile.map(|profile| profile.route.rule.clone());
        let actual = profile.map(|profile| profile.actual.clone());
        watch.outbound = Some(Box::new(OutboundWatch { verdict, backend, sent, route: None, deadlines, actual }));
        response.body_mut().watch_response(watch);
        response
    }
}

/// The future's result, unless a limit runs out before.
fn within<F: Future>(deadlines: &mut Option<Deadlines>, future: F) -> Within<'_, F> {
    Within { deadlines: deadlines.as_mut(), future }
}

pin_project! {
    /// Not an async block, which would keep room for the future twice.
    struct Within<'a, F> {
        deadlines: Option<&'a mut Deadlines>,
        #[pin]
        future: F,
    }
}

impl<F: Future> Future for Within<'_, F> {
    type Output = Result<F::Output, Failure>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        if let Poll::Ready(output) = this.future.poll(cx) {
            return Poll::Ready(Ok(output));
        }
        match this.deadlines {
            Some(deadlines) => deadlines.poll_expired(cx).map(|expired| Err(Failure::TimedOut(expired))),
            None => Poll::Pending,
        }
    }
}

fn is_close(headers: &HeaderMap) -> bool {
    headers.get(PROXY_CONNECTION).is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"close"))
}
