//! What one port admits: a `Server` message compiled to routes and authorizations (wire.md 3).

mod authz;

use std::{net::IpAddr, sync::Arc, time::Duration};

use weft_proto::linkerd::inbound::{self as wire, proxy_protocol::Kind};

use self::authz::Authz;
use crate::{
    filters::Filters,
    meta::Meta,
    metrics::{Labels, RouteKind},
    rate_limit::LocalRateLimit,
    route::{RequestMatch, RequestView, Route, RouteIndex, RouteTable},
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    Detect { timeout: Duration },
    Http1,
    Http2,
    Grpc,
    Opaque,
    Tls,
}

/// How a connection arrived, as far as TLS goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InboundTls {
    /// Terminated here. No id when the client sent no certificate.
    Mesh {
        client_id: Option<Arc<str>>,
    },
    /// TLS to somebody else, passed through.
    PassedThrough {
        sni: String,
    },
    NoTls {
        reason: NoTls,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoTls {
    Loopback,
    PortSkipped,
    FromRemote,
}

impl InboundTls {
    pub fn client_id(&self) -> Option<&Arc<str>> {
        match self {
            Self::Mesh { client_id } => client_id.as_ref(),
            Self::PassedThrough { .. } | Self::NoTls { .. } => None,
        }
    }

    /// What TLS_IN labels say, by key.
    pub fn facts(&self) -> Vec<(&'static str, String)> {
        match self {
            Self::Mesh { client_id } => {
                vec![("tls", "true".to_owned()), ("client_id", client_id.as_deref().unwrap_or_default().to_owned())]
            }
            Self::PassedThrough { sni } => vec![("tls", "opaque".to_owned()), ("sni", sni.clone())],
            Self::NoTls { reason } => {
                vec![("tls", "no_identity".to_owned()), ("no_tls_reason", reason.text().to_owned())]
            }
        }
    }

    pub fn labels(&self, labels: &mut Labels) {
        for (key, value) in self.facts() {
            labels.add(key, &value);
        }
    }
}

impl NoTls {
    pub fn text(self) -> &'static str {
        match self {
            Self::Loopback => "loopback",
            Self::PortSkipped => "port_skipped",
            Self::FromRemote => "no_tls_from_remote",
        }
    }
}

/// What a rule does with the requests that match it.
struct RoutePolicy {
    /// Ahead of the server's own.
    authzs: Arc<[Authz]>,
    filters: Filters,
}

/// The rule that a request takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Matched {
    /// None on a server that has no routes to choose from.
    pub route: Option<RouteIndex>,
    /// Length of the path prefix that matched, if that is how it matched.
    pub prefix: Option<usize>,
}

pub struct ServerPolicy {
    pub protocol: Protocol,
    pub meta: Meta,
    authzs: Vec<Authz>,
    loopback: Meta,
    /// None for protocols without routes.
    routes: Option<RouteTable<RoutePolicy>>,
    pub rate_limit: Option<Arc<LocalRateLimit>>,
}

impl ServerPolicy {
    pub fn from_wire(server: &wire::Server) -> Result<Self, String> {
        let label = |key: &str| server.labels.get(key).cloned().unwrap_or_default();
        let name = label("name");
        if name.is_empty() {
            return Err("server policy has no name".to_owned());
        }
        let meta = Meta { group: label("group"), kind: label("kind"), ..Meta::built_in(&name) };
        let kind = server.protocol.as_ref().and_then(|p| p.kind.as_ref()).ok_or("server policy has no protocol")?;
        let (protocol, routes, rate_limit) = match kind {
            Kind::Detect(detect) => {
                let timeout = detect.timeout.as_ref().and_then(|t| Duration::try_from(*t).ok());
                let protocol = Protocol::Detect { timeout: timeout.unwrap_or(DETECT_TIMEOUT) };
                (protocol, Some(http_routes(&detect.http_routes)?), detect.http_local_rate_limit.as_ref())
            }
            Kind::Http1(http) => (Protocol::Http1, Some(http_routes(&http.routes)?), http.local_rate_limit.as_ref()),
            Kind::Http2(http) => (Protocol::Http2, Some(http_routes(&http.routes)?), http.local_rate_limit.as_ref()),
            Kind::Grpc(grpc) => (Protocol::Grpc, Some(grpc_routes(&grpc.routes)?), None),
            Kind::Opaque(_) => (Protocol::Opaque, None, None),
            Kind::Tls(_) => (Protocol::Tls, None, None),
        };
        Ok(Self {
            protocol,
            meta,
            authzs: authzs(&server.authorizations)?,
            loopback: Meta::built_in("loopback"),
            routes,
            rate_limit: rate_limit.map(|limit| Arc::new(LocalRateLimit::from_wire(limit))),
        })
    }

    /// Keeps what clients have used of limits that did not change.
    pub fn succeed(&mut self, before: &Self) {
        if let (Some(limit), Some(old)) = (&mut self.rate_limit, &before.rate_limit)
            && limit.is_same(old)
        {
            *limit = old.clone();
        }
    }

    /// Stands in for a policy that could not be understood: admits nobody but loopback.
    pub fn invalid() -> Self {
        Self {
            protocol: Protocol::Detect { timeout: DETECT_TIMEOUT },
            meta: Meta::built_in("invalid"),
            authzs: Vec::new(),
            loopback: Meta::built_in("loopback"),
            routes: None,
            rate_limit: None,
        }
    }

    /// None: no route takes the request.
    pub fn find_route(&self, request: &RequestView<'_>) -> Option<Matched> {
        match &self.routes {
            Some(table) => table.find_prefix(request).map(|(index, prefix)| Matched { route: Some(index), prefix }),
            None => Some(Matched { route: None, prefix: None }),
        }
    }

    /// Which generation of families counts the requests of this server's routes.
    pub fn route_kind(&self) -> RouteKind {
        if self.protocol == Protocol::Grpc { RouteKind::Grpc } else { RouteKind::Http }
    }

    /// What the rule does to its requests; None for nothing.
    pub fn filters(&self, route: Option<RouteIndex>) -> Option<&Filters> {
        let filters = &self.routes.as_ref()?.rule(route?).filters;
        Some(filters).filter(|filters| !filters.is_empty())
    }

    /// Metadata of a route found by `find_route`.
    pub fn route_meta(&self, index: RouteIndex) -> Option<&Meta> {
        self.routes.as_ref().map(|table| &table.route(index).meta)
    }

    /// The first authorization that admits the client: the route's, the server's, then loopback.
    pub fn authorize(&self, route: Option<RouteIndex>, client: IpAddr, tls: &InboundTls) -> Option<&Meta> {
        let of_route = match (route, &self.routes) {
            (Some(index), Some(table)) => &table.rule(index).authzs[..],
            _ => &[],
        };
        of_route
            .iter()
            .chain(&self.authzs)
            .find(|authz| authz.admits(client, tls))
            .map(|authz| &authz.meta)
            .or_else(|| client.is_loopback().then_some(&self.loopback))
    }

    /// SRV labels.
    pub fn labels(&self, port: u16, labels: &mut Labels) {
        self.meta.short_labels("srv", labels);
        labels.add("srv_port", &port.to_string());
    }

    /// The server as the parent of its routes.
    pub fn parent_labels(&self, port: u16, labels: &mut Labels) {
        self.meta.short_labels("parent", labels);
        labels.add("parent_port", &port.to_string());
    }
}

const DETECT_TIMEOUT: Duration = Duration::from_secs(10);

fn authzs(all: &[wire::Authz]) -> Result<Vec<Authz>, String> {
    all.iter().map(Authz::from_wire).collect()
}

fn http_routes(routes: &[wire::HttpRoute]) -> Result<RouteTable<RoutePolicy>, String> {
    let routes = routes.iter().map(|route| {
        let shared: Arc<[Authz]> = authzs(&route.authorizations)?.into();
        let rules = route.rules.iter().map(|rule| {
            let matches = rule.matches.iter().map(RequestMatch::from_http).collect::<Result<_, _>>()?;
            Ok((matches, RoutePolicy { authzs: shared.clone(), filters: Filters::from_inbound_http(&rule.filters)? }))
        });
        let rules = rules.collect::<Result<_, String>>()?;
        Route::new(Meta::from_wire(route.metadata.as_ref()).ok_or("route has no metadata")?, &route.hosts, rules)
    });
    Ok(RouteTable::new(routes.collect::<Result<_, String>>()?))
}

fn grpc_routes(routes: &[wire::GrpcRoute]) -> Result<RouteTable<RoutePolicy>, String> {
    let routes = routes.iter().map(|route| {
        let shared: Arc<[Authz]> = authzs(&route.authorizations)?.into();
        let rules = route.rules.iter().map(|rule| {
            let matches = rule.matches.iter().map(RequestMatch::from_grpc).collect::<Result<_, _>>()?;
            Ok((matches, RoutePolicy { authzs: shared.clone(), filters: Filters::from_inbound_grpc(&rule.filters)? }))
        });
        let rules = rules.collect::<Result<_, String>>()?;
        Route::new(Meta::from_wire(route.metadata.as_ref()).ok_or("route has no metadata")?, &route.hosts, rules)
    });
    Ok(RouteTable::new(routes.collect::<Result<_, String>>()?))
}

#[cfg(test)]
mod tests;
