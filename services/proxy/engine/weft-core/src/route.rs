//! Which route and rule a request takes: the most specific match wins, ties go to the first listed (wire.md 2.7).

use http::{HeaderMap, Method, Request};
use regex::Regex;
use weft_proto::linkerd::{
    grpc_route as grpc,
    http_route::{self as wire, header_match, host_match, path_match, query_param_match},
    http_types::{HttpMethod, http_method},
};

use crate::{meta::Meta, orig_proto::host_of};

/// What matching looks at, borrowed from the request.
#[derive(Clone, Copy)]
pub struct RequestView<'a> {
    pub method: &'a Method,
    /// Authority or Host; a port is ignored.
    pub host: &'a str,
    pub path: &'a str,
    pub query: &'a str,
    pub headers: &'a HeaderMap,
}

impl<'a> RequestView<'a> {
    pub fn new<B>(request: &'a Request<B>) -> Self {
        Self {
            method: request.method(),
            host: host_of(request),
            path: request.uri().path(),
            query: request.uri().query().unwrap_or_default(),
            headers: request.headers(),
        }
    }
}

pub struct Route<R> {
    pub meta: Meta,
    hosts: Vec<HostMatch>,
    rules: Vec<(Vec<RequestMatch>, R)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RouteIndex {
    pub route: usize,
    pub rule: usize,
}

pub struct RouteTable<R> {
    routes: Vec<Route<R>>,
}

#[derive(Clone, Debug, PartialEq)]
pub enum HostMatch {
    Exact(String),
    /// With its leading dot.
    Suffix(String),
}

#[derive(Debug)]
enum Text {
    Exact(String),
    Regex(Regex),
}

#[derive(Debug)]
enum PathMatch {
    Exact(String),
    Prefix(String),
    Regex(Regex),
    /// Empty fields match any.
    Rpc {
        service: String,
        method: String,
    },
}

#[derive(Debug)]
pub struct RequestMatch {
    path: PathMatch,
    headers: Vec<(String, Text)>,
    query: Vec<(String, Text)>,
    method: Option<Method>,
}

/// Compares in the order of its fields.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Specificity {
    host: (bool, usize),
    path: (u8, usize, usize),
    headers: usize,
    query: usize,
    method: bool,
}

impl<R> Route<R> {
    pub fn new(meta: Meta, hosts: &[wire::HostMatch], rules: Vec<(Vec<RequestMatch>, R)>) -> Result<Self, String> {
        let hosts = hosts.iter().map(HostMatch::from_wire).collect::<Option<_>>();
        Ok(Self { meta, hosts: hosts.ok_or("route has an empty host match")?, rules })
    }
}

impl<R> RouteTable<R> {
    pub fn new(routes: Vec<Route<R>>) -> Self {
        Self { routes }
    }

    pub fn route(&self, index: RouteIndex) -> &Route<R> {
        &self.routes[index.route]
    }

    pub fn rule(&self, index: RouteIndex) -> &R {
        &self.routes[index.route].rules[index.rule].1
    }

    pub fn rules(&self) -> impl Iterator<Item = (RouteIndex, &Meta, &R)> {
        self.routes.iter().enumerate().flat_map(|(route, r)| {
            r.rules.iter().enumerate().map(move |(rule, (_, value))| (RouteIndex { route, rule }, &r.meta, value))
        })
    }

    pub fn find(&self, request: &RequestView<'_>) -> Option<RouteIndex> {
        self.find_prefix(request).map(|(index, _)| index)
    }

    /// Also the length of the path prefix that matched, if that is how it matched.
    pub fn find_prefix(&self, request: &RequestView<'_>) -> Option<(RouteIndex, Option<usize>)> {
        let mut best: Option<(Specificity, RouteIndex)> = None;
        for (route, candidate) in self.routes.iter().enumerate() {
            let Some(host) = candidate.host_specificity(request.host) else {
                continue;
            };
            for (rule, (matches, _)) in candidate.rules.iter().enumerate() {
                let found = matches.iter().filter_map(|m| m.specificity(request)).max();
                // A rule without matches takes everything.
                let found = if matches.is_empty() { Some(Specificity::default()) } else { found };
                let Some(found) = found else { continue };
                let found = Specificity { host, ..found };
                if best.is_none_or(|(so_far, _)| found > so_far) {
                    best = Some((found, RouteIndex { route, rule }));
                }
            }
        }
        best.map(|(found, index)| match found.path {
            (PREFIX, length, _) => (index, Some(length)),
            _ => (index, None),
        })
    }
}

impl<R> Route<R> {
    fn host_specificity(&self, host: &str) -> Option<(bool, usize)> {
        if self.hosts.is_empty() {
            return Some((false, 0));
        }
        let host = without_port(host);
        let host = host.strip_suffix('.').unwrap_or(host);
        self.hosts.iter().filter_map(|m| m.specificity(host)).max()
    }
}

pub fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if !name.is_empty() && port.bytes().all(|b| b.is_ascii_digit()) => name,
        _ => host,
    }
}

impl HostMatch {
    fn from_wire(m: &wire::HostMatch) -> Option<Self> {
        Some(match m.r#match.as_ref()? {
            host_match::Match::Exact(name) => Self::exact(name),
            host_match::Match::Suffix(suffix) => Self::suffix(&suffix.reverse_labels),
        })
    }

    pub fn exact(name: &str) -> Self {
        Self::Exact(name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase())
    }

    /// reverse_labels: of the part behind the wildcard, last label first.
    pub fn suffix(reverse_labels: &[String]) -> Self {
        let labels: Vec<_> = reverse_labels.iter().rev().map(|l| l.to_ascii_lowercase()).collect();
        Self::Suffix(format!(".{}", labels.join(".")))
    }

    /// Exact beats suffix, longer beats shorter.
    pub fn specificity(&self, host: &str) -> Option<(bool, usize)> {
        match self {
            Self::Exact(name) => host.eq_ignore_ascii_case(name).then_some((true, name.len())),
            Self::Suffix(suffix) => {
                let tail = host.len().checked_sub(suffix.len()).filter(|at| *at > 0)?;
                let tail = host.get(tail..)?;
                tail.eq_ignore_ascii_case(suffix).then_some((false, suffix.len()))
            }
        }
    }
}

impl Text {
    fn matches(&self, value: &str) -> bool {
        match self {
            Self::Exact(text) => text == value,
            Self::Regex(regex) => whole_match(regex, value),
        }
    }
}

fn whole_match(regex: &Regex, value: &str) -> bool {
    regex.is_match(value)
}

pub(crate) fn anchored(pattern: &str) -> Result<Regex, String> {
    Regex::new(&format!("^(?:{pattern})$")).map_err(|e| format!("pattern {pattern:?} is not a regular expression: {e}"))
}

impl RequestMatch {
    pub fn from_http(m: &wire::HttpRouteMatch) -> Result<Self, String> {
        let path = match m.path.as_ref().map(|path| path.kind.as_ref()) {
            None => PathMatch::Prefix("/".to_owned()),
            Some(None) => return Err("path match is empty".to_owned()),
            Some(Some(path_match::Kind::Exact(path))) => PathMatch::Exact(path.clone()),
            Some(Some(path_match::Kind::Prefix(path))) => PathMatch::Prefix(path.clone()),
            Some(Some(path_match::Kind::Regex(pattern))) => PathMatch::Regex(anchored(pattern)?),
        };
        let query = m.query_params.iter().map(|q| {
            let text = match q.value.as_ref().ok_or("query match is empty")? {
                query_param_match::Value::Exact(text) => Text::Exact(text.clone()),
                query_param_match::Value::Regex(pattern) => Text::Regex(anchored(pattern)?),
            };
            Ok::<_, String>((q.name.clone(), text))
        });
        Ok(Self {
            path,
            headers: header_matches(&m.headers)?,
            query: query.collect::<Result<_, _>>()?,
            method: m.method.as_ref().map(method_from).transpose()?,
        })
    }

    pub fn from_grpc(m: &grpc::GrpcRouteMatch) -> Result<Self, String> {
        let rpc = m.rpc.as_ref().ok_or("gRPC match names no rpc")?;
        Ok(Self {
            path: PathMatch::Rpc { service: rpc.service.clone(), method: rpc.method.clone() },
            headers: header_matches(&m.headers)?,
            query: Vec::new(),
            method: Some(Method::POST),
        })
    }

    fn specificity(&self, request: &RequestView<'_>) -> Option<Specificity> {
        if self.method.as_ref().is_some_and(|method| method != request.method) {
            return None;
        }
        let path = self.path.specificity(request.path)?;
        let headers_match = self.headers.iter().all(|(name, text)| {
            request.headers.get_all(name.as_str()).iter().any(|v| v.to_str().is_ok_and(|v| text.matches(v)))
        });
        let query_matches =
            self.query.iter().all(|(name, text)| query_values(request.query, name).any(|value| text.matches(&value)));
        (headers_match && query_matches).then_some(Specificity {
            host: (false, 0),
            path,
            headers: self.headers.len(),
            query: self.query.len(),
            method: self.method.is_some(),
        })
    }
}

/// How a path matched; an exact match beats a pattern, and that a prefix.
const PREFIX: u8 = 1;

impl PathMatch {
    fn specificity(&self, path: &str) -> Option<(u8, usize, usize)> {
        match self {
            Self::Exact(exact) => (exact == path).then_some((3, exact.len(), 0)),
            Self::Prefix(prefix) => {
                let prefix = prefix.strip_suffix('/').unwrap_or(prefix);
                is_segment_prefix(prefix, path).then_some((PREFIX, prefix.len(), 0))
            }
            Self::Regex(regex) => whole_match(regex, path).then_some((2, regex.as_str().len(), 0)),
            Self::Rpc { service, method } => {
                let (s, m) = path.strip_prefix('/')?.split_once('/')?;
                let fits = (service.is_empty() || service == s) && (method.is_empty() || method == m);
                fits.then_some((0, service.len(), method.len()))
            }
        }
    }
}

/// `/foo` takes `/foo` and `/foo/x`, not `/foobar`.
fn is_segment_prefix(prefix: &str, path: &str) -> bool {
    path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

fn header_matches(matches: &[wire::HeaderMatch]) -> Result<Vec<(String, Text)>, String> {
    matches
        .iter()
        .map(|m| {
            let text = match m.value.as_ref().ok_or("header match is empty")? {
                header_match::Value::Exact(bytes) => {
                    Text::Exact(String::from_utf8(bytes.clone()).map_err(|_| "header match is not text")?)
                }
                header_match::Value::Regex(pattern) => Text::Regex(anchored(pattern)?),
            };
            Ok((m.name.to_ascii_lowercase(), text))
        })
        .collect()
}

pub(crate) fn method_from(method: &HttpMethod) -> Result<Method, String> {
    use http_method::{Registered, Type};
    Ok(match method.r#type.as_ref().ok_or("method match is empty")? {
        Type::Registered(number) => match Registered::try_from(*number).map_err(|_| "unknown method number")? {
            Registered::Get => Method::GET,
            Registered::Post => Method::POST,
            Registered::Put => Method::PUT,
            Registered::Delete => Method::DELETE,
            Registered::Patch => Method::PATCH,
            Registered::Options => Method::OPTIONS,
            Registered::Connect => Method::CONNECT,
            Registered::Head => Method::HEAD,
            Registered::Trace => Method::TRACE,
        },
        Type::Unregistered(name) => {
            Method::from_bytes(name.as_bytes()).map_err(|_| format!("method {name:?} is not a token"))?
        }
    })
}

/// Values of a parameter, percent-decoded.
fn query_values<'a>(query: &'a str, name: &'a str) -> impl Iterator<Item = String> + 'a {
    query.split('&').filter_map(move |pair| {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        (percent_decoded(key) == name).then(|| percent_decoded(value))
    })
}

fn percent_decoded(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let hex = |i: usize| bytes.get(i).and_then(|b| (*b as char).to_digit(16));
        match (bytes[at], hex(at + 1), hex(at + 2)) {
            (b'%', Some(high), Some(low)) => {
                out.push((high * 16 + low) as u8);
                at += 3;
            }
            (b'+', ..) => {
                out.push(b' ');
                at += 1;
            }
            (byte, ..) => {
                out.push(byte);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn prefix(path: &str) -> wire::HttpRouteMatch {
        let kind = Some(path_match::Kind::Prefix(path.to_owned()));
        wire::HttpRouteMatch { path: Some(wire::PathMatch { kind }), ..Default::default() }
    }

    fn table(routes: Vec<(Vec<wire::HostMatch>, Vec<wire::HttpRouteMatch>)>) -> RouteTable<usize> {
        let routes = routes.into_iter().enumerate().map(|(n, (hosts, matches))| {
            let matches = matches.iter().map(|m| RequestMatch::from_http(m).unwrap()).collect();
            Route::new(Meta::built_in("r"), &hosts, vec![(matches, n)]).unwrap()
        });
        RouteTable::new(routes.collect())
    }

    fn find(
        table: &RouteTable<usize>,
        method: &Method,
        host: &str,
        target: &str,
        headers: &HeaderMap,
    ) -> Option<usize> {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let view = RequestView { method, host, path, query, headers };
        table.find(&view).map(|index| *table.rule(index))
    }

    #[test]
    fn prefixes_are_segment_aligned_and_longer_wins() {
        let table = table(vec![(vec![], vec![prefix("/")]), (vec![], vec![prefix("/foo")])]);
        let none = HeaderMap::new();
        assert_eq!(find(&table, &Method::GET, "a", "/foo/x", &none), Some(1));
        assert_eq!(find(&table, &Method::GET, "a", "/foo", &none), Some(1));
        assert_eq!(find(&table, &Method::GET, "a", "/foobar", &none), Some(0));
    }

    #[test]
    fn an_exact_host_beats_a_longer_path() {
        let host = |m| vec![wire::HostMatch { r#match: Some(m) }];
        let suffix = host_match::Suffix { reverse_labels: vec!["com".into(), "example".into()] };
        let table = table(vec![
            (host(host_match::Match::Suffix(suffix)), vec![prefix("/very/long")]),
            (host(host_match::Match::Exact("a.example.com".into())), vec![prefix("/")]),
        ]);
        let none = HeaderMap::new();
        assert_eq!(find(&table, &Method::GET, "A.example.com:80", "/very/long", &none), Some(1));
        assert_eq!(find(&table, &Method::GET, "a.example.com.", "/very/long", &none), Some(1));
        assert_eq!(find(&table, &Method::GET, "b.example.com", "/very/long", &none), Some(0));
        assert_eq!(find(&table, &Method::GET, "b.example.com.:80", "/very/long", &none), Some(0));
        assert_eq!(find(&table, &Method::GET, "example.com", "/very/long", &none), None);
    }

    #[test]
    fn the_more_specific_match_wins_in_the_order_of_the_contract() {
        let path =
            |kind| wire::HttpRouteMatch { path: Some(wire::PathMatch { kind: Some(kind) }), ..Default::default() };
        let header = |name: &str| wire::HeaderMatch {
            name: name.into(),
            value: Some(header_match::Value::Exact(b"1".to_vec())),
        };
        let query = |name: &str| wire::QueryParamMatch {
            name: name.into(),
            value: Some(query_param_match::Value::Exact("1".into())),
        };
        let exact = path(path_match::Kind::Exact("/a".into()));
        let headers = wire::HttpRouteMatch { headers: vec![header("x"), header("y")], ..prefix("/a") };
        let header = wire::HttpRouteMatch { headers: vec![header("x")], ..prefix("/a") };
        let queries = wire::HttpRouteMatch { query_params: vec![query("p"), query("q")], ..prefix("/a") };
        let query = wire::HttpRouteMatch { query_params: vec![query("p")], ..prefix("/a") };
        let get = Some(HttpMethod { r#type: Some(http_method::Type::Registered(0)) });
        let method = wire::HttpRouteMatch { method: get, ..prefix("/a") };
        // From the least to the most specific; each takes the request alone.
        let all = [prefix("/"), prefix("/a"), method, query, queries, header, headers, exact];
        let mut asked = HeaderMap::new();
        asked.insert("x", HeaderValue::from_static("1"));
        asked.insert("y", HeaderValue::from_static("1"));
        for pair in all.windows(2) {
            for (order, winner) in [([0, 1], 1), ([1, 0], 0)] {
                let table = table(order.iter().map(|n| (vec![], vec![pair[*n].clone()])).collect());
                assert_eq!(find(&table, &Method::GET, "a", "/a?p=1&q=1", &asked), Some(winner), "{pair:?}");
            }
        }
        let same = table(vec![(vec![], vec![prefix("/a")]), (vec![], vec![prefix("/a")])]);
        assert_eq!(find(&same, &Method::GET, "a", "/a", &asked), Some(0), "ties go to the first");
    }

    #[test]
    fn headers_queries_and_methods_narrow_a_match() {
        let mut narrow = prefix("/");
        narrow.headers =
            vec![wire::HeaderMatch { name: "X-User".into(), value: Some(header_match::Value::Regex("al.ce".into())) }];
        narrow.query_params = vec![wire::QueryParamMatch {
            name: "q".into(),
            value: Some(query_param_match::Value::Exact("a b".into())),
        }];
        narrow.method = Some(HttpMethod { r#type: Some(http_method::Type::Registered(1)) });
        let table = table(vec![(vec![], vec![prefix("/")]), (vec![], vec![narrow])]);
        let mut headers = HeaderMap::new();
        headers.insert("x-user", HeaderValue::from_static("alice"));
        assert_eq!(find(&table, &Method::POST, "a", "/?q=a%20b", &headers), Some(1));
        assert_eq!(find(&table, &Method::POST, "a", "/?q=ab", &headers), Some(0));
        assert_eq!(find(&table, &Method::POST, "a", "/?q=ab&q=a+b", &headers), Some(1));
        assert_eq!(find(&table, &Method::GET, "a", "/?q=a+b", &headers), Some(0));
        headers.insert("x-user", HeaderValue::from_static("malice"));
        assert_eq!(find(&table, &Method::POST, "a", "/?q=a+b", &headers), Some(0));
    }

    #[test]
    fn grpc_rules_take_posts_by_service_and_method() {
        let rule = |service: &str, method: &str| {
            let rpc = Some(grpc::GrpcRpcMatch { service: service.into(), method: method.into() });
            vec![RequestMatch::from_grpc(&grpc::GrpcRouteMatch { rpc, headers: vec![] }).unwrap()]
        };
        let rules = vec![(rule("", ""), 0), (rule("a.B", ""), 1), (rule("a.B", "C"), 2)];
        let table = RouteTable::new(vec![Route::new(Meta::built_in("g"), &[], rules).unwrap()]);
        let none = HeaderMap::new();
        assert_eq!(find(&table, &Method::POST, "a", "/a.B/C", &none), Some(2));
        assert_eq!(find(&table, &Method::POST, "a", "/a.B/D", &none), Some(1));
        assert_eq!(find(&table, &Method::POST, "a", "/x.Y/Z", &none), Some(0));
        assert_eq!(find(&table, &Method::GET, "a", "/a.B/C", &none), None);
    }
}
