//! HTTP/1 carried over HTTP/2 between proxies: what `l5d-orig-proto` says (wire.md 5.4).

use http::{HeaderMap, HeaderValue, Version, header};

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

#[cfg(test)]
mod tests {
    use super::*;

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
