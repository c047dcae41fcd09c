//! What a route does to a request and its response: change headers, send the client elsewhere, rewrite, fail on purpose.

use http::{HeaderMap, HeaderName, HeaderValue, Request, Uri};
use weft_proto::linkerd::{
    grpc_route as grpc,
    http_route::{self as wire, path_modifier},
    http_types::{Headers, Scheme, scheme},
    inbound,
    outbound::{grpc_route, http_route},
};

use crate::{
    balance::Rng,
    failure::Failure,
    orig_proto::{host_of, set_host},
};

/// Applied in the order of the policy.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Filters {
    on_request: Vec<Filter>,
    on_response: Vec<HeaderChange>,
}

#[derive(Clone, Debug, PartialEq)]
enum Filter {
    Headers(HeaderChange),
    Redirect(Redirect),
    Rewrite(Target),
    Fail { failure: Failure, ratio: Ratio },
}

/// In this order: add, set, remove.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct HeaderChange {
    add: Vec<(HeaderName, HeaderValue)>,
    set: Vec<(HeaderName, HeaderValue)>,
    remove: Vec<HeaderName>,
}

#[derive(Clone, Debug, PartialEq)]
struct Redirect {
    status: u16,
    scheme: Option<String>,
    port: Option<u16>,
    target: Target,
}

/// Another place; None keeps what the request says.
#[derive(Clone, Debug, PartialEq)]
struct Target {
    host: Option<String>,
    path: Option<NewPath>,
}

#[derive(Clone, Debug, PartialEq)]
enum NewPath {
    Full(String),
    /// In place of the prefix that the route matched.
    Prefix(String),
}

/// How often a failure strikes.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Ratio {
    numerator: u32,
    denominator: u32,
}

const EMPTY: &str = "route filter is empty";

impl Filters {
    pub fn from_http(filters: &[http_route::Filter]) -> Result<Self, String> {
        use http_route::filter::Kind;
        let mut out = Self::default();
        for filter in filters {
            match filter.kind.as_ref().ok_or(EMPTY)? {
                Kind::FailureInjector(fail) => out.on_request.push(Filter::fail_http(fail)),
                Kind::RequestHeaderModifier(m) => out.on_request.push(Filter::Headers(HeaderChange::of_request(m)?)),
                Kind::ResponseHeaderModifier(m) => out.on_response.push(HeaderChange::of_response(m)?),
                Kind::Redirect(redirect) => out.on_request.push(Filter::Redirect(Redirect::from_wire(redirect)?)),
                Kind::UrlRewrite(rewrite) => out.on_request.push(Filter::rewrite(rewrite)?),
            }
        }
        Ok(out)
    }

    pub fn from_grpc(filters: &[grpc_route::Filter]) -> Result<Self, String> {
        use grpc_route::filter::Kind;
        let mut out = Self::default();
        for filter in filters {
            match filter.kind.as_ref().ok_or(EMPTY)? {
                Kind::FailureInjector(fail) => out.on_request.push(Filter::fail_grpc(fail)),
                Kind::RequestHeaderModifier(m) => out.on_request.push(Filter::Headers(HeaderChange::of_request(m)?)),
                Kind::ResponseHeaderModifier(m) => out.on_response.push(HeaderChange::of_response(m)?),
                Kind::UrlRewrite(rewrite) => out.on_request.push(Filter::rewrite(rewrite)?),
            }
        }
        Ok(out)
    }

    pub fn from_inbound_http(filters: &[inbound::http_route::Filter]) -> Result<Self, String> {
        use inbound::http_route::filter::Kind;
        let mut out = Self::default();
        for filter in filters {
            out.on_request.push(match filter.kind.as_ref().ok_or(EMPTY)? {
                Kind::FailureInjector(fail) => Filter::fail_http(fail),
                Kind::RequestHeaderModifier(m) => Filter::Headers(HeaderChange::of_request(m)?),
                Kind::Redirect(redirect) => Filter::Redirect(Redirect::from_wire(redirect)?),
            });
        }
        Ok(out)
    }

    pub fn from_inbound_grpc(filters: &[inbound::grpc_route::Filter]) -> Result<Self, String> {
        use inbound::grpc_route::filter::Kind;
        let mut out = Self::default();
        for filter in filters {
            out.on_request.push(match filter.kind.as_ref().ok_or(EMPTY)? {
                Kind::FailureInjector(fail) => Filter::fail_grpc(fail),
                Kind::RequestHeaderModifier(m) => Filter::Headers(HeaderChange::of_request(m)?),
            });
        }
        Ok(out)
    }

    /// prefix: length of the path prefix that the route matched, if that is how it matched.
    /// Errors are the answer the client gets instead.
    pub fn request<B>(&self, request: &mut Request<B>, prefix: Option<usize>, rng: &mut Rng) -> Result<(), Failure> {
        for filter in &self.on_request {
            match filter {
                Filter::Headers(change) => change.apply(request.headers_mut()),
                Filter::Redirect(redirect) => return Err(redirect.answer(request, prefix)?),
                Filter::Rewrite(target) => target.rewrite(request, prefix)?,
                Filter::Fail { failure, ratio } if ratio.strikes(rng) => return Err(failure.clone()),
                Filter::Fail { .. } => {}
            }
        }
        Ok(())
    }

    pub fn response(&self, headers: &mut HeaderMap) {
        for change in &self.on_response {
            change.apply(headers);
        }
    }

    pub fn is_empty(&self) -> bool {
        self.on_request.is_empty() && self.on_response.is_empty()
    }
}

impl Filter {
    fn fail_http(fail: &wire::HttpFailureInjector) -> Self {
        let status = u16::try_from(fail.status).unwrap_or(500);
        let failure = Failure::Injected { status, message: fail.message.clone() };
        Self::Fail { failure, ratio: Ratio::from_wire(fail.ratio.as_ref()) }
    }

    fn fail_grpc(fail: &grpc::GrpcFailureInjector) -> Self {
        // Codes beyond the table read as UNKNOWN at every client.
        let code = u8::try_from(fail.code).ok().filter(|code| *code <= 16).unwrap_or(2);
        let failure = Failure::InjectedGrpc { code, message: fail.message.clone() };
        Self::Fail { failure, ratio: Ratio::from_wire(fail.ratio.as_ref()) }
    }

    fn rewrite(rewrite: &wire::UrlRewrite) -> Result<Self, String> {
        Ok(Self::Rewrite(Target::from_wire(&rewrite.host, rewrite.path.as_ref())?))
    }
}

impl Ratio {
    fn from_wire(ratio: Option<&wire::Ratio>) -> Self {
        ratio.map_or(Self { numerator: 1, denominator: 1 }, |r| Self {
            numerator: r.numerator,
            denominator: r.denominator,
        })
    }

    fn strikes(self, rng: &mut Rng) -> bool {
        self.denominator > 0 && rng.next_u64() % u64::from(self.denominator) < u64::from(self.numerator)
    }
}

impl HeaderChange {
    fn of_request(m: &wire::RequestHeaderModifier) -> Result<Self, String> {
        Self::from_wire(m.add.as_ref(), m.set.as_ref(), &m.remove)
    }

    fn of_response(m: &wire::ResponseHeaderModifier) -> Result<Self, String> {
        Self::from_wire(m.add.as_ref(), m.set.as_ref(), &m.remove)
    }

    pub fn from_wire(add: Option<&Headers>, set: Option<&Headers>, remove: &[String]) -> Result<Self, String> {
        let name =
            |text: &str| HeaderName::from_bytes(text.as_bytes()).map_err(|_| format!("{text:?} is not a header name"));
        let pairs = |headers: Option<&Headers>| {
            let headers = headers.map_or(&[][..], |headers| &headers.headers);
            let pair = |h: &weft_proto::linkerd::http_types::headers::Header| {
                let value =
                    HeaderValue::from_bytes(&h.value).map_err(|_| format!("header {:?} has a bad value", h.name));
                Ok((name(&h.name)?, value?))
            };
            headers.iter().map(pair).collect::<Result<Vec<_>, String>>()
        };
        let remove = remove.iter().map(|text| name(text)).collect::<Result<_, _>>()?;
        Ok(Self { add: pairs(add)?, set: pairs(set)?, remove })
    }

    pub fn apply(&self, headers: &mut HeaderMap) {
        for (name, value) in &self.add {
            headers.append(name.clone(), value.clone());
        }
        for (name, value) in &self.set {
            headers.insert(name.clone(), value.clone());
        }
        for name in &self.remove {
            headers.remove(name);
        }
    }
}

impl Target {
    fn from_wire(host: &str, path: Option<&wire::PathModifier>) -> Result<Self, String> {
        let path = match path.map(|path| path.replace.as_ref()) {
            None => None,
            Some(None) => return Err("path modifier is empty".to_owned()),
            Some(Some(path_modifier::Replace::Full(path))) => Some(NewPath::Full(path.clone())),
            Some(Some(path_modifier::Replace::Prefix(path))) => Some(NewPath::Prefix(path.clone())),
        };
        Ok(Self { host: Some(host.to_owned()).filter(|host| !host.is_empty()), path })
    }

    /// Path and query after the change.
    fn path(&self, uri: &Uri, prefix: Option<usize>) -> Result<String, Failure> {
        let old = uri.path();
        let mut path = match &self.path {
            None => old.to_owned(),
            Some(NewPath::Full(path)) => path.clone(),
            Some(NewPath::Prefix(new)) => {
                let rest = prefix.and_then(|length| old.get(length..));
                let rest = rest.ok_or_else(|| invalid("a filter replaces a prefix, and the route matched none"))?;
                let joined = format!("{}/{}", new.trim_end_matches('/'), rest.trim_start_matches('/'));
                // A match of the whole path leaves nothing behind the new prefix, not even a slash.
                if rest.is_empty() && new.len() > 1 { new.clone() } else { joined }
            }
        };
        if let Some(query) = uri.query() {
            path.push('?');
            path.push_str(query);
        }
        Ok(path)
    }

    fn rewrite<B>(&self, request: &mut Request<B>, prefix: Option<usize>) -> Result<(), Failure> {
        if self.path.is_some() {
            let path = self.path(request.uri(), prefix)?;
            let mut parts = request.uri().clone().into_parts();
            parts.path_and_query = Some(path.parse().map_err(|_| invalid("a filter rewrites to an impossible path"))?);
            *request.uri_mut() =
                Uri::from_parts(parts).map_err(|_| invalid("a filter rewrites to an impossible target"))?;
        }
        match &self.host {
            Some(host) => set_host(request, host).ok_or_else(|| invalid("a filter rewrites to an impossible host")),
            None => Ok(()),
        }
    }
}

impl Redirect {
    fn from_wire(redirect: &wire::RequestRedirect) -> Result<Self, String> {
        let status = match redirect.status {
            0 => 301,
            status => u16::try_from(status)
                .ok()
                .filter(|status| (300..400).contains(status))
                .ok_or_else(|| format!("{status} is not a status of a redirect"))?,
        };
        let port = u16::try_from(redirect.port).map_err(|_| format!("{} is not a port", redirect.port))?;
        Ok(Self {
            status,
            scheme: redirect.scheme.as_ref().map(scheme_from).transpose()?,
            port: Some(port).filter(|port| *port > 0),
            target: Target::from_wire(&redirect.host, redirect.path.as_ref())?,
        })
    }

    fn answer<B>(&self, request: &Request<B>, prefix: Option<usize>) -> Result<Failure, Failure> {
        let (old_host, old_port) = split_port(host_of(request));
        let host = self.target.host.as_deref().unwrap_or(old_host);
        if host.is_empty() {
            return Err(Failure::InvalidRequest("a redirect needs a host"));
        }
        let scheme = self.scheme.as_deref().or(request.uri().scheme_str()).unwrap_or("http");
        let kept = if self.target.host.is_none() && self.scheme.is_none() { old_port } else { None };
        // The scheme's own port goes without saying.
        let own = if scheme == "https" { 443 } else { 80 };
        let port = self.port.or(kept).filter(|port| *port != own);
        let port = port.map_or_else(String::new, |port| format!(":{port}"));
        let path = self.target.path(request.uri(), prefix)?;
        Ok(Failure::Redirected { status: self.status, location: format!("{scheme}://{host}{port}{path}") })
    }
}

fn invalid(reason: &str) -> Failure {
    Failure::InvalidPolicy(reason.to_owned())
}

fn scheme_from(scheme: &Scheme) -> Result<String, String> {
    Ok(match scheme.r#type.as_ref().ok_or("scheme is empty")? {
        scheme::Type::Registered(number) => match scheme::Registered::try_from(*number) {
            Ok(scheme::Registered::Http) => "http".to_owned(),
            Ok(scheme::Registered::Https) => "https".to_owned(),
            Err(_) => return Err(format!("{number} is not a known scheme")),
        },
        scheme::Type::Unregistered(name) => name.clone(),
    })
}

fn split_port(authority: &str) -> (&str, Option<u16>) {
    match authority.rsplit_once(':') {
        Some((host, port)) if !host.is_empty() => match port.parse() {
            Ok(port) => (host, Some(port)),
            Err(_) => (authority, None),
        },
        _ => (authority, None),
    }
}

#[cfg(test)]
#[path = "filters_tests.rs"]
mod tests;
