//! Which requests a tap wants: the matches of `io.linkerd.proxy.tap`, compiled once (wire.md 1.10).

use std::{collections::HashMap, net::SocketAddr};

use weft_proto::linkerd::{
    http_types::{HttpMethod, Scheme, http_method, scheme},
    tap::observe_request::{
        Match as WireMatch,
        r#match::{
            self as wire,
            http::{Match as WireHttp, StringMatch as WireString, string_match},
            tcp::Match as WireTcp,
        },
    },
};

use crate::{addr, addr::Cidr, route::method_from};

/// Deeper matches than this are refused: they arrive from outside and are walked recursively.
const MAX_DEPTH: usize = 16;

#[derive(Debug, PartialEq)]
pub enum TapMatch {
    All(Vec<TapMatch>),
    Any(Vec<TapMatch>),
    Not(Box<TapMatch>),
    Source(TcpMatch),
    Destination(TcpMatch),
    Scheme(String),
    Authority(StringMatch),
    Method(http::Method),
    Path(StringMatch),
    DestinationLabel(String, String),
    RouteLabel(String, String),
}

#[derive(Debug, PartialEq)]
pub enum TcpMatch {
    Net(Cidr),
    /// Inclusive.
    Ports(u16, u16),
}

#[derive(Debug, PartialEq)]
pub enum StringMatch {
    Exact(String),
    Prefix(String),
}

/// A request as taps see it.
pub struct TapView<'a> {
    pub source: SocketAddr,
    pub destination: SocketAddr,
    pub scheme: &'a str,
    pub authority: &'a str,
    pub method: &'a http::Method,
    /// Without the query.
    pub path: &'a str,
    pub destination_labels: &'a HashMap<String, String>,
    pub route_labels: &'a HashMap<String, String>,
}

impl TapMatch {
    /// Errors say what is missing or wrong.
    pub fn from_wire(wire: &WireMatch) -> Result<Self, String> {
        Self::at_depth(wire, 0)
    }

    fn at_depth(wire: &WireMatch, depth: usize) -> Result<Self, String> {
        use wire::Match;
        if depth > MAX_DEPTH {
            return Err(format!("match: nested more than {MAX_DEPTH} deep"));
        }
        let each = |seq: &wire::Seq| -> Result<Vec<Self>, String> {
            seq.matches.iter().map(|one| Self::at_depth(one, depth + 1)).collect()
        };
        Ok(match wire.r#match.as_ref().ok_or("match: empty")? {
            Match::All(seq) => Self::All(each(seq)?),
            Match::Any(seq) => Self::Any(each(seq)?),
            Match::Not(inner) => Self::Not(Box::new(Self::at_depth(inner, depth + 1)?)),
            Match::Source(tcp) => Self::Source(TcpMatch::from_wire(tcp)?),
            Match::Destination(tcp) => Self::Destination(TcpMatch::from_wire(tcp)?),
            Match::Http(http) => Self::from_http(http)?,
            Match::DestinationLabel(label) => Self::DestinationLabel(label.key.clone(), label.value.clone()),
            Match::RouteLabel(label) => Self::RouteLabel(label.key.clone(), label.value.clone()),
        })
    }

    fn from_http(http: &wire::Http) -> Result<Self, String> {
        Ok(match http.r#match.as_ref().ok_or("match.http: empty")? {
            WireHttp::Scheme(scheme) => Self::Scheme(scheme_text(scheme).ok_or("match.http.scheme: empty")?),
            WireHttp::Authority(text) => {
                Self::Authority(StringMatch::from_wire(text).ok_or("match.http.authority: empty")?)
            }
            WireHttp::Method(method) => {
                Self::Method(method_from(method).map_err(|why| format!("match.http.method: {why}"))?)
            }
            WireHttp::Path(text) => Self::Path(StringMatch::from_wire(text).ok_or("match.http.path: empty")?),
        })
    }

    pub fn matches(&self, view: &TapView<'_>) -> bool {
        match self {
            Self::All(all) => all.iter().all(|one| one.matches(view)),
            Self::Any(any) => any.iter().any(|one| one.matches(view)),
            Self::Not(inner) => !inner.matches(view),
            Self::Source(tcp) => tcp.matches(view.source),
            Self::Destination(tcp) => tcp.matches(view.destination),
            Self::Scheme(scheme) => scheme.eq_ignore_ascii_case(view.scheme),
            Self::Authority(text) => text.matches(view.authority),
            Self::Method(method) => method == view.method,
            Self::Path(text) => text.matches(view.path),
            Self::DestinationLabel(key, value) => view.destination_labels.get(key) == Some(value),
            Self::RouteLabel(key, value) => view.route_labels.get(key) == Some(value),
        }
    }
}

impl TcpMatch {
    fn from_wire(tcp: &wire::Tcp) -> Result<Self, String> {
        Ok(match tcp.r#match.as_ref().ok_or("match.tcp: empty")? {
            WireTcp::Netmask(net) => {
                let ip = net.ip.as_ref().and_then(addr::ip_from).ok_or("match.tcp.netmask: no address")?;
                let prefix = u8::try_from(net.mask).ok().and_then(|prefix| Cidr::new(ip, prefix));
                Self::Net(prefix.ok_or_else(|| format!("match.tcp.netmask: {} is too long a mask", net.mask))?)
            }
            WireTcp::Ports(ports) => {
                let port =
                    |value: u32| u16::try_from(value).map_err(|_| format!("match.tcp.ports: {value} is no port"));
                // An absent upper end means the one port.
                let (min, max) = (port(ports.min)?, port(if ports.max == 0 { ports.min } else { ports.max })?);
                if min > max {
                    return Err(format!("match.tcp.ports: {min} is above {max}"));
                }
                Self::Ports(min, max)
            }
        })
    }

    fn matches(&self, addr: SocketAddr) -> bool {
        match self {
            Self::Net(net) => net.contains(addr.ip()),
            Self::Ports(min, max) => (*min..=*max).contains(&addr.port()),
        }
    }
}

impl StringMatch {
    fn from_wire(wire: &WireString) -> Option<Self> {
        Some(match wire.r#match.as_ref()? {
            string_match::Match::Exact(text) => Self::Exact(text.clone()),
            string_match::Match::Prefix(text) => Self::Prefix(text.clone()),
        })
    }

    fn matches(&self, text: &str) -> bool {
        match self {
            Self::Exact(exact) => exact == text,
            Self::Prefix(prefix) => text.starts_with(prefix.as_str()),
        }
    }
}

fn scheme_text(wire: &Scheme) -> Option<String> {
    Some(match wire.r#type.as_ref()? {
        scheme::Type::Registered(number) => match scheme::Registered::try_from(*number).ok()? {
            scheme::Registered::Http => "http".to_owned(),
            scheme::Registered::Https => "https".to_owned(),
        },
        scheme::Type::Unregistered(text) => text.clone(),
    })
}

/// A scheme as events carry it.
pub fn wire_scheme(text: &str) -> Scheme {
    let registered = match text {
        "http" => Some(scheme::Registered::Http),
        "https" => Some(scheme::Registered::Https),
        _ => None,
    };
    let kind = registered
        .map_or_else(|| scheme::Type::Unregistered(text.to_owned()), |known| scheme::Type::Registered(known as i32));
    Scheme { r#type: Some(kind) }
}

/// A method as events carry it.
pub fn wire_method(method: &http::Method) -> HttpMethod {
    let registered = http_method::Registered::from_str_name(method.as_str());
    let kind = registered.map_or_else(
        || http_method::Type::Unregistered(method.as_str().to_owned()),
        |known| http_method::Type::Registered(known as i32),
    );
    HttpMethod { r#type: Some(kind) }
}

#[cfg(test)]
mod tests {
    use weft_proto::linkerd::net;

    use super::*;

    fn of(inner: wire::Match) -> WireMatch {
        WireMatch { r#match: Some(inner) }
    }

    fn http(inner: WireHttp) -> WireMatch {
        of(wire::Match::Http(wire::Http { r#match: Some(inner) }))
    }

    fn path_prefix(prefix: &str) -> WireMatch {
        http(WireHttp::Path(WireString { r#match: Some(string_match::Match::Prefix(prefix.to_owned())) }))
    }

    fn view<'a>(labels: &'a HashMap<String, String>, method: &'a http::Method) -> TapView<'a> {
        TapView {
            source: "10.0.0.9:5000".parse().unwrap(),
            destination: "10.0.1.7:8080".parse().unwrap(),
            scheme: "http",
            authority: "price.shop:8080",
            method,
            path: "/quote/1",
            destination_labels: labels,
            route_labels: labels,
        }
    }

    fn matches(wire: &WireMatch) -> bool {
        let labels = HashMap::from([("deployment".to_owned(), "price".to_owned())]);
        TapMatch::from_wire(wire).unwrap().matches(&view(&labels, &http::Method::GET))
    }

    #[test]
    fn every_kind_of_match_admits_what_it_names_and_nothing_else() {
        let ports = |min, max| {
            let ports = wire::tcp::PortRange { min, max };
            of(wire::Match::Destination(wire::Tcp { r#match: Some(WireTcp::Ports(ports)) }))
        };
        let net = |ip: &str, mask| {
            let netmask = wire::tcp::Netmask { ip: Some(addr::wire_ip(ip.parse().unwrap())), mask };
            of(wire::Match::Source(wire::Tcp { r#match: Some(WireTcp::Netmask(netmask)) }))
        };
        let label = |value: &str| wire::Label { key: "deployment".to_owned(), value: value.to_owned() };
        let exact = |text: &str| WireString { r#match: Some(string_match::Match::Exact(text.to_owned())) };
        let table = [
            (path_prefix("/quote"), true),
            (path_prefix("/other"), false),
            (http(WireHttp::Authority(exact("price.shop:8080"))), true),
            (http(WireHttp::Authority(exact("price.shop"))), false),
            (http(WireHttp::Method(wire_method(&http::Method::GET))), true),
            (http(WireHttp::Method(wire_method(&http::Method::PUT))), false),
            (http(WireHttp::Scheme(wire_scheme("http"))), true),
            (http(WireHttp::Scheme(wire_scheme("https"))), false),
            (ports(8000, 9000), true),
            (ports(8080, 0), true),
            (ports(1, 100), false),
            (net("10.0.0.0", 24), true),
            (net("10.9.0.0", 24), false),
            (of(wire::Match::DestinationLabel(label("price"))), true),
            (of(wire::Match::DestinationLabel(label("cart"))), false),
            (of(wire::Match::RouteLabel(label("price"))), true),
            (of(wire::Match::Not(Box::new(path_prefix("/quote")))), false),
            (of(wire::Match::All(wire::Seq { matches: vec![path_prefix("/q"), ports(8080, 8080)] })), true),
            (of(wire::Match::All(wire::Seq { matches: vec![path_prefix("/q"), ports(1, 2)] })), false),
            (of(wire::Match::Any(wire::Seq { matches: vec![path_prefix("/x"), ports(8080, 8080)] })), true),
            (of(wire::Match::All(wire::Seq::default())), true),
            (of(wire::Match::Any(wire::Seq::default())), false),
        ];
        for (wire, expected) in table {
            assert_eq!(matches(&wire), expected, "{wire:?}");
        }
    }

    #[test]
    fn what_cannot_be_understood_is_refused_with_its_place() {
        let bad_mask = wire::tcp::Netmask { ip: Some(net::IpAddress::default()), mask: 8 };
        let table = [
            (WireMatch::default(), "match: empty"),
            (of(wire::Match::Http(wire::Http::default())), "match.http: empty"),
            (of(wire::Match::Source(wire::Tcp { r#match: Some(WireTcp::Netmask(bad_mask)) })), "netmask: no address"),
        ];
        for (wire, reason) in table {
            let error = TapMatch::from_wire(&wire).unwrap_err();
            assert!(error.contains(reason), "{error}");
        }
        let deep = (0..40).fold(path_prefix("/"), |inner, _| of(wire::Match::Not(Box::new(inner))));
        assert!(TapMatch::from_wire(&deep).unwrap_err().contains("nested"));
    }
}
