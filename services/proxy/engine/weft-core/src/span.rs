//! What a span says of a request (observability.md 7.3).

use http::{HeaderMap, Method, Uri, header};

/// Attributes by their OpenTelemetry names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Attributes {
    pub texts: Vec<(&'static str, String)>,
    pub numbers: Vec<(&'static str, i64)>,
}

const HEADERS: [(&str, &str); 4] = [
    ("user-agent", "user_agent.original"),
    ("content-length", "http.request.header.content-length"),
    ("content-type", "http.request.header.content-type"),
    ("l5d-orig-proto", "http.request.header.l5d-orig-proto"),
];

/// direction: "inbound" or "outbound". host: of the request; empty when it names none.
pub fn request_attributes(direction: &str, method: &Method, uri: &Uri, host: &str, headers: &HeaderMap) -> Attributes {
    let mut out = Attributes::default();
    let mut put = |key, value: &str| {
        if !value.is_empty() {
            out.texts.push((key, value.to_owned()));
        }
    };
    put("direction", direction);
    put("http.request.method", method.as_str());
    put("network.transport", "tcp");
    put("url.scheme", uri.scheme_str().unwrap_or("http"));
    put("url.path", uri.path());
    put("url.query", uri.query().unwrap_or_default());
    put("url.full", &full(uri, host));
    for (header, attribute) in HEADERS {
        put(attribute, text(headers, header));
    }
    if headers.get(header::CONTENT_TYPE).is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc")) {
        put("rpc.system", "grpc");
        if let Some((service, call)) = uri.path().trim_start_matches('/').split_once('/') {
            put("rpc.service", service);
            put("rpc.method", call);
        }
    }
    let forwarded = text(headers, "x-forwarded-host");
    let server = if forwarded.is_empty() { host } else { forwarded };
    let server = server.rsplit_once('@').map_or(server, |(_, host)| host);
    let (address, port) = match server.rsplit_once(':') {
        Some((address, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => (address, port.parse().ok()),
        _ => (server, None),
    };
    put("server.address", address);
    out.numbers.extend(port.map(|port: u16| ("server.port", i64::from(port))));
    out
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> &'a str {
    headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
}

/// The whole URL, without what stands before an `@` in its authority.
fn full(uri: &Uri, host: &str) -> String {
    let authority = uri.authority().map_or(host, |authority| authority.as_str());
    let authority = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    format!("{}://{authority}{path}", uri.scheme_str().unwrap_or("http"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_grpc_call_is_named_and_credentials_are_not() {
        let headers = [("content-type", "application/grpc+proto"), ("user-agent", "grpc-python")];
        let headers: HeaderMap = headers.iter().map(|(k, v)| (k.parse().unwrap(), v.parse().unwrap())).collect();
        let uri = "http://user:pass@price.shop:8080/shop.Price/Quote?x=1".parse().unwrap();
        let found = request_attributes("inbound", &Method::POST, &uri, "user:pass@price.shop:8080", &headers);
        let of = |key: &str| found.texts.iter().find(|(known, _)| *known == key).map(|(_, value)| value.as_str());
        assert_eq!(of("url.full"), Some("http://price.shop:8080/shop.Price/Quote?x=1"));
        assert_eq!((of("rpc.service"), of("rpc.method")), (Some("shop.Price"), Some("Quote")));
        assert_eq!(of("user_agent.original"), Some("grpc-python"));
        assert_eq!(found.numbers, [("server.port", 8080)]);
    }

    #[test]
    fn a_forwarded_host_is_the_server() {
        let headers = [("x-forwarded-host", "www.shop.example")];
        let headers: HeaderMap = headers.iter().map(|(k, v)| (k.parse().unwrap(), v.parse().unwrap())).collect();
        let found = request_attributes("outbound", &Method::GET, &"/a".parse().unwrap(), "web.shop", &headers);
        assert!(found.texts.contains(&("server.address", "www.shop.example".to_owned())));
        assert!(found.texts.contains(&("url.full", "http://web.shop/a".to_owned())));
        assert!(found.numbers.is_empty());
    }
}
