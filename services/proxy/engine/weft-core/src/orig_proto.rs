//! HTTP/1 carried over HTTP/2 between proxies: what `l5d-orig-proto` says (wire.md 5.4).

use http::{HeaderMap, HeaderValue, Method, Request, Uri, Version, header, uri};

use crate::headers::ORIG_PROTO;

/// The protocol a message had before it was carried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OrigProto {
    pub version: Version,
    pub absolute_form: bool,
}

impl OrigProto {
    pub fn header_value(self) -> HeaderValue {
        HeaderValue::from_static(match (self.version == Version::HTTP_10, self.absolute_form) {
            (false, false) => "HTTP/1.1",
            (false, true) => "HTTP/1.1; absolute-form",
            (true, false) => "HTTP/1.0",
            (true, true) => "HTTP/1.0; absolute-form",
        })
    }

    /// Marks an HTTP/1 request that leaves as HTTP/2.
    pub fn mark(self, headers: &mut HeaderMap) {
        headers.insert(ORIG_PROTO, self.header_value());
        headers.remove(header::TRANSFER_ENCODING);
    }

    /// Removes the mark and tells what it said; None when there was none, or one we do not know.
    pub fn take(headers: &mut HeaderMap) -> Option<Self> {
        let value = headers.remove(ORIG_PROTO)?;
        let value = value.to_str().ok()?;
        let (version, form) = value.split_once(';').unwrap_or((value, ""));
        let version = match version.trim() {
            "HTTP/1.1" => Version::HTTP_11,
            "HTTP/1.0" => Version::HTTP_10,
            _ => return None,
        };
        Some(Self { version, absolute_form: form.trim() == "absolute-form" })
    }
}

/// Host of a request: of its target, else of its `Host` header; empty when it names none.
pub fn host_of<B>(request: &Request<B>) -> &str {
    match request.uri().authority() {
        Some(authority) => authority.as_str(),
        None => request.headers().get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default(),
    }
}

/// Whether the target has the form that its method asks for: an authority alone is CONNECT's. Source: RFC 9112 3.2.
pub fn has_proper_target<B>(request: &Request<B>) -> bool {
    let uri = request.uri();
    if *request.method() == Method::CONNECT {
        uri.authority().is_some()
    } else {
        uri.authority().is_none() || uri.scheme().is_some()
    }
}

/// Leaves an HTTP/1 request with one name for its host, so that nobody behind us reads another. None when it names several.
/// Source: RFC 9112 3.2, 3.2.2.
pub fn settle_host<B>(request: &mut Request<B>) -> Option<()> {
    if request.headers().get_all(header::HOST).iter().nth(1).is_some() {
        return None;
    }
    if request.version() != Version::HTTP_2
        && let Some(authority) = request.uri().authority()
        && request.headers().get(header::HOST).is_none_or(|host| host.as_bytes() != authority.as_str().as_bytes())
    {
        // An authority is a valid header value: it has no control characters.
        let host = HeaderValue::from_str(authority.as_str()).ok()?;
        request.headers_mut().insert(header::HOST, host);
    }
    Some(())
}

/// Names another host wherever the request names one. None when it cannot stand there; the request is then unchanged.
pub fn set_host<B>(request: &mut Request<B>, host: &str) -> Option<()> {
    let value = HeaderValue::from_str(host).ok()?;
    let authority: uri::Authority = host.parse().ok()?;
    let mut parts = request.uri().clone().into_parts();
    if parts.authority.is_some() {
        parts.authority = Some(authority);
        *request.uri_mut() = Uri::from_parts(parts).ok()?;
        if !request.headers().contains_key(header::HOST) {
            return Some(());
        }
    }
    request.headers_mut().insert(header::HOST, value);
    Some(())
}

/// Turns an HTTP/1 request into the HTTP/2 request that carries it. fallback: the host of a request that names none.
/// None when its host cannot stand in an HTTP/2 target; the request is then unchanged.
pub fn upgrade<B>(request: &mut Request<B>, fallback: &str) -> Option<OrigProto> {
    let orig = OrigProto { version: request.version(), absolute_form: request.uri().authority().is_some() };
    if !orig.absolute_form {
        let host = match host_of(request) {
            "" => fallback,
            host => host,
        };
        let mut parts = uri::Parts::default();
        parts.scheme = Some(uri::Scheme::HTTP);
        parts.authority = Some(host.parse().ok()?);
        parts.path_and_query = Some(path_and_query(request.uri()));
        *request.uri_mut() = Uri::from_parts(parts).ok()?;
    }
    *request.version_mut() = Version::HTTP_2;
    orig.mark(request.headers_mut());
    Some(orig)
}

/// Undoes `upgrade`, here or at the peer; None when the request was not an upgraded one.
pub fn downgrade<B>(request: &mut Request<B>) -> Option<OrigProto> {
    let orig = OrigProto::take(request.headers_mut())?;
    *request.version_mut() = orig.version;
    if let Some(authority) = request.uri().authority().cloned() {
        if !request.headers().contains_key(header::HOST) {
            // An authority is a valid header value: it has no control characters.
            if let Ok(host) = HeaderValue::from_str(authority.as_str()) {
                request.headers_mut().insert(header::HOST, host);
            }
        }
        if !orig.absolute_form {
            *request.uri_mut() = Uri::from(path_and_query(request.uri()));
        }
    }
    Some(orig)
}

fn path_and_query(uri: &Uri) -> uri::PathAndQuery {
    uri.path_and_query().cloned().unwrap_or_else(|| uri::PathAndQuery::from_static("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(version: Version, target: &str, host: Option<&str>) -> Request<()> {
        let mut request = Request::new(());
        *request.uri_mut() = target.parse().unwrap();
        *request.version_mut() = version;
        if let Some(host) = host {
            request.headers_mut().insert(header::HOST, host.parse().unwrap());
        }
        request
    }

    #[test]
    fn an_upgraded_request_comes_back_as_it_was() {
        for (version, target, host) in [
            (Version::HTTP_11, "/a/b?c=d", Some("books.shop:8080")),
            (Version::HTTP_10, "http://proxy.example/x", Some("proxy.example")),
            (Version::HTTP_11, "/", Some("[fd00::1]:80")),
        ] {
            let mut carried = request(version, target, host);
            upgrade(&mut carried, "10.0.0.1:80").unwrap();
            assert_eq!(carried.version(), Version::HTTP_2);
            assert_eq!(carried.uri().authority().unwrap().as_str(), host.unwrap());
            downgrade(&mut carried).unwrap();
            assert_eq!(carried.uri(), &target.parse::<Uri>().unwrap());
            assert_eq!(carried.version(), version);
            assert_eq!(carried.headers().get(header::HOST).unwrap(), host.unwrap());
        }
    }

    #[test]
    fn a_request_without_host_goes_to_the_fallback_and_an_impossible_host_is_left_alone() {
        let mut nameless = request(Version::HTTP_10, "/x", None);
        upgrade(&mut nameless, "10.0.0.1:80").unwrap();
        assert_eq!(host_of(&nameless), "10.0.0.1:80");
        let mut bad = request(Version::HTTP_11, "/x", Some("a b"));
        assert_eq!(upgrade(&mut bad, "10.0.0.1:80"), None);
        assert_eq!(bad.version(), Version::HTTP_11);
    }

    #[test]
    fn a_request_has_one_host_and_an_absolute_target_names_it() {
        let mut absolute = request(Version::HTTP_11, "http://a.shop/x", Some("b.shop"));
        assert_eq!(settle_host(&mut absolute), Some(()));
        assert_eq!(absolute.headers().get(header::HOST).unwrap(), "a.shop");
        let mut twice = request(Version::HTTP_11, "/x", Some("a.shop"));
        twice.headers_mut().append(header::HOST, HeaderValue::from_static("b.shop"));
        assert_eq!(settle_host(&mut twice), None);
        let mut nameless = request(Version::HTTP_10, "/x", None);
        assert_eq!(settle_host(&mut nameless), Some(()));
        assert!(nameless.headers().is_empty());
    }

    #[test]
    fn an_authority_alone_is_the_target_of_connect_only() {
        for (method, target, proper) in [
            (Method::GET, "/x", true),
            (Method::GET, "http://a.shop/x", true),
            (Method::OPTIONS, "*", true),
            (Method::GET, "a.shop:80", false),
            (Method::CONNECT, "a.shop:80", true),
            (Method::CONNECT, "/x", false),
        ] {
            let mut request = request(Version::HTTP_11, target, None);
            *request.method_mut() = method;
            assert_eq!(has_proper_target(&request), proper, "{request:?}");
        }
    }

    #[test]
    fn a_native_http2_request_is_not_downgraded() {
        let mut native = request(Version::HTTP_2, "http://a.b/x", None);
        assert_eq!(downgrade(&mut native), None);
        assert_eq!(native.version(), Version::HTTP_2);
    }

    #[test]
    fn marks_round_trip() {
        for version in [Version::HTTP_10, Version::HTTP_11] {
            for absolute_form in [false, true] {
                let mut headers = HeaderMap::new();
                headers.insert(header::TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
                let orig = OrigProto { version, absolute_form };
                orig.mark(&mut headers);
                assert!(!headers.contains_key(header::TRANSFER_ENCODING));
                assert_eq!(OrigProto::take(&mut headers), Some(orig));
                assert!(headers.is_empty());
            }
        }
    }

    #[test]
    fn an_unknown_mark_is_removed_and_ignored() {
        let mut headers = HeaderMap::new();
        headers.insert(ORIG_PROTO, HeaderValue::from_static("HTTP/9"));
        assert_eq!(OrigProto::take(&mut headers), None);
        assert!(headers.is_empty());
    }
}
