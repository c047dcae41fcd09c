//! Header names of the mesh, and the hop-by-hop hygiene of HTTP/1 (wire.md 5.4, 5.5).

use http::{HeaderMap, HeaderName, header};

pub const CLIENT_ID: HeaderName = HeaderName::from_static("l5d-client-id");
pub const DST_CANONICAL: HeaderName = HeaderName::from_static("l5d-dst-canonical");
/// Not Linkerd's any more: set only where `inbound_remote_ip_header` asks for it.
pub const REMOTE_IP: HeaderName = HeaderName::from_static("l5d-remote-ip");
pub const ORIG_PROTO: HeaderName = HeaderName::from_static("l5d-orig-proto");
pub const PROXY_ERROR: HeaderName = HeaderName::from_static("l5d-proxy-error");
pub const PROXY_CONNECTION: HeaderName = HeaderName::from_static("l5d-proxy-connection");
pub const REQUIRE_ID: HeaderName = HeaderName::from_static("l5d-require-id");
const LEGACY_PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");
const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");

/// A real protocol switch is asked for or granted. Offers of cleartext HTTP/2 do not count: they are removed.
pub fn is_upgrade(headers: &HeaderMap) -> bool {
    let asks = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .any(|value| value.split(',').any(|token| token.trim().eq_ignore_ascii_case("upgrade")));
    asks && headers.get(header::UPGRADE).is_some_and(|to| !to.as_bytes().eq_ignore_ascii_case(b"h2c"))
}

/// Removes what concerns one connection only.
pub fn strip_hop_by_hop(headers: &mut HeaderMap) {
    if headers.contains_key(header::CONNECTION) {
        let named: Vec<HeaderName> = headers
            .get_all(header::CONNECTION)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .filter_map(|token| token.trim().parse().ok())
            .collect();
        for name in named {
            headers.remove(name);
        }
        headers.remove(header::CONNECTION);
    }
    headers.remove(LEGACY_PROXY_CONNECTION);
    headers.remove(KEEP_ALIVE);
    headers.remove(header::UPGRADE);
}

/// Removes what HTTP/1 says of its connection and HTTP/2 does not carry, once `strip_hop_by_hop` has (RFC 9113 8.2.2).
pub fn strip_for_http2(headers: &mut HeaderMap) {
    headers.remove(header::TRANSFER_ENCODING);
    if headers.get(header::TE).is_some_and(|te| te != "trailers") {
        headers.remove(header::TE);
    }
}

pub fn is_grpc(headers: &HeaderMap) -> bool {
    headers.get(header::CONTENT_TYPE).is_some_and(|value| value.as_bytes().starts_with(b"application/grpc"))
}

/// `grpc-status` of response headers or trailers.
pub fn grpc_status(headers: &HeaderMap) -> Option<u8> {
    headers.get("grpc-status")?.to_str().ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs.iter().map(|(k, v)| (k.parse().unwrap(), v.parse().unwrap())).collect()
    }

    #[test]
    fn headers_named_by_connection_go_with_it() {
        let mut map =
            headers(&[("connection", "close, x-mine"), ("x-mine", "1"), ("keep-alive", "t"), ("x-other", "2")]);
        strip_hop_by_hop(&mut map);
        assert_eq!(map, headers(&[("x-other", "2")]));
    }

    #[test]
    fn only_real_upgrades_count() {
        assert!(is_upgrade(&headers(&[("connection", "Upgrade"), ("upgrade", "websocket")])));
        assert!(!is_upgrade(&headers(&[("connection", "Upgrade, HTTP2-Settings"), ("upgrade", "h2c")])));
        assert!(!is_upgrade(&headers(&[("upgrade", "websocket")])));
    }
}
