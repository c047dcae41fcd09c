//! Whether a request may go on: route, authorization, rate limit, in that order, each refusal counted (wire.md 3).

use std::{sync::Arc, time::Instant};

use http::Request;
use parking_lot::Mutex;
use weft_core::{
    failure::Failure,
    inbound::ServerPolicy,
    meta::Meta,
    metrics::{Counter, HttpMetrics, InboundRouteSeries, Labels, RouteKind},
    rate_limit::Scope,
    route::{RequestView, RouteIndex},
};

use crate::{
    inbound::{Arrival, log_verdict},
    proxy::Proxy,
    record::Record,
};

/// Combinations of route and authorization whose series one connection remembers.
const MAX_REMEMBERED: usize = 64;

/// Of one connection.
#[derive(Default)]
pub struct Admission {
    permits: Mutex<Vec<Arc<Permit>>>,
}

/// A request that may go on.
pub struct Permitted {
    pub permit: Arc<Permit>,
    /// Length of the path prefix that matched, if that is how it matched.
    pub prefix: Option<usize>,
}

/// What one authorization admits to one route, and the series of those requests.
pub struct Permit {
    pub policy: Arc<ServerPolicy>,
    pub route: Option<RouteIndex>,
    pub authz: Meta,
    authority: String,
    pub http: Arc<HttpMetrics>,
    pub series: Arc<InboundRouteSeries>,
    allow: Arc<Counter>,
    unmeshed: Option<Arc<Counter>>,
}

impl Admission {
    /// Notes in the record what it decides.
    pub fn admit<B>(
        &self,
        proxy: &Proxy,
        arrival: &Arrival,
        request: &Request<B>,
        record: &mut Record,
    ) -> Result<Permitted, Failure> {
        let policy = arrival.port.policy();
        let view = RequestView::new(request);
        let Some(matched) = policy.find_route(&view) else {
            proxy.metrics.inbound_route_not_found.series(&arrival.authz_labels(&policy, |_| {})).incr();
            record.refused(policy, None);
            return Err(Failure::NoRoute);
        };
        let Some(authz) = policy.authorize(matched.route, arrival.client.ip(), &arrival.tls) else {
            let labels = arrival.authz_labels(&policy, |labels| route_labels(&policy, matched.route, labels));
            proxy.metrics.inbound_http_deny.series(&labels).incr();
            log_verdict(proxy, arrival, "request denied");
            record.refused(policy.clone(), matched.route);
            return Err(Failure::Unauthorized);
        };
        if authz.is_audit() {
            log_verdict(proxy, arrival, "request allowed by the audit policy");
        }
        let authority = if proxy.settings.inbound_metrics_authority_labels { view.host } else { "" };
        let permit = self.count(proxy, arrival, &policy, matched.route, authz, authority);
        if let Some(limit) = &policy.rate_limit
            && let Err(scope) = limit.admit(arrival.tls.client_id(), proxy.since_start(Instant::now()))
        {
            count_limited(proxy, arrival, &policy, limit.meta.as_ref(), scope);
            record.refused(policy.clone(), matched.route);
            return Err(Failure::RateLimited);
        }
        record.permitted(permit.clone());
        Ok(Permitted { permit, prefix: matched.prefix })
    }

    /// Counts one allowed request.
    fn count(
        &self,
        proxy: &Proxy,
        arrival: &Arrival,
        policy: &Arc<ServerPolicy>,
        route: Option<RouteIndex>,
        authz: &Meta,
        authority: &str,
    ) -> Arc<Permit> {
        let mut permits = self.permits.lock();
        let known = permits.iter().position(|permit| {
            Arc::ptr_eq(&permit.policy, policy)
                && permit.route == route
                && permit.authz == *authz
                && permit.authority == authority
        });
        let known = known.unwrap_or_else(|| {
            // Those of an older policy are not asked for again.
            permits.retain(|permit| Arc::ptr_eq(&permit.policy, policy));
            if permits.len() >= MAX_REMEMBERED {
                permits.remove(0);
            }
            permits.push(Arc::new(Permit::new(proxy, arrival, policy, route, authz, authority)));
            permits.len() - 1
        });
        let permit = &permits[known];
        permit.allow.incr();
        if let Some(unmeshed) = &permit.unmeshed {
            unmeshed.incr();
        }
        permit.clone()
    }
}

impl Permit {
    fn new(
        proxy: &Proxy,
        arrival: &Arrival,
        policy: &Arc<ServerPolicy>,
        route: Option<RouteIndex>,
        authz: &Meta,
        authority: &str,
    ) -> Self {
        let mut labels = Labels::default().with("direction", "inbound");
        if !authority.is_empty() {
            labels.add("authority", authority);
        }
        labels.extend(&arrival.transport_labels(policy));
        let admitted = |labels: &mut Labels| {
            route_labels(policy, route, labels);
            authz.short_labels("authz", labels);
        };
        admitted(&mut labels);
        let families = match policy.route_kind() {
            RouteKind::Http => &proxy.metrics.inbound_http_routes,
            RouteKind::Grpc => &proxy.metrics.inbound_grpc_routes,
        };
        let mut parent = Labels::default();
        policy.parent_labels(arrival.target.port(), &mut parent);
        route_labels(policy, route, &mut parent);
        Self {
            policy: policy.clone(),
            route,
            authz: authz.clone(),
            authority: authority.to_owned(),
            http: proxy.metrics.http.metrics(labels),
            series: families.series(parent),
            allow: proxy.metrics.inbound_http_allow.series(&arrival.authz_labels(policy, admitted)),
            unmeshed: arrival.unmeshed(proxy, admitted),
        }
    }
}

fn count_limited(proxy: &Proxy, arrival: &Arrival, policy: &ServerPolicy, meta: Option<&Meta>, scope: Scope) {
    let labels = arrival.authz_labels(policy, |labels| {
        if let Some(meta) = meta {
            meta.short_labels("ratelimit", labels);
        }
        labels.add("ratelimit_scope", scope.label());
    });
    proxy.metrics.inbound_ratelimit.series(&labels).incr();
}

fn route_labels(policy: &ServerPolicy, route: Option<RouteIndex>, labels: &mut Labels) {
    let default = Meta::built_in("default");
    let meta = route.and_then(|route| policy.route_meta(route)).unwrap_or(&default);
    meta.short_labels("route", labels);
}
