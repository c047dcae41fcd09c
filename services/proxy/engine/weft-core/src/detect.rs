//! Tells HTTP/1, HTTP/2 and everything else apart from the first read of a connection (wire.md 5.6).

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Detected {
    Http1,
    Http2,
    NotHttp,
}

/// Longest first read that is looked at, bytes.
pub const READ_LIMIT: usize = 1024;
const H2_PREFACE: &[u8] = b"PRI * HTTP/2.0";
const LONGEST_METHOD: usize = 32;
const CLAIM: &[u8] = b" HTTP/1.";

/// One read decides: shorter than 14 bytes is not HTTP, because no useful request head is.
pub fn protocol_of(first_read: &[u8]) -> Detected {
    if first_read.len() < H2_PREFACE.len() {
        Detected::NotHttp
    } else if first_read.starts_with(H2_PREFACE) {
        Detected::Http2
    } else if begins_request_head(first_read) {
        Detected::Http1
    } else {
        Detected::NotHttp
    }
}

/// True for `METHOD SP target SP HTTP/1.x` or any prefix of it. A whole line that says HTTP/1 but holds a byte which it must
/// not is HTTP too, to be refused as such: taken as bytes it would reach the application past the routes.
fn begins_request_head(bytes: &[u8]) -> bool {
    let line = bytes.split(|b| *b == b'\n').next().unwrap_or(bytes);
    let complete = line.len() < bytes.len();
    let line = if complete { line.strip_suffix(b"\r").unwrap_or(line) } else { line };
    let mut parts = line.splitn(3, |b| *b == b' ');
    let method = parts.next().unwrap_or_default();
    if method.is_empty() || method.len() > LONGEST_METHOD || !method.iter().all(|b| is_token(*b)) {
        return false;
    }
    if complete && line.windows(CLAIM.len()).any(|part| part == CLAIM) {
        return true;
    }
    let Some(target) = parts.next() else {
        return !complete;
    };
    if target.iter().any(|b| *b <= b' ' || *b == 0x7f) {
        return false;
    }
    match parts.next() {
        None => !complete,
        Some(_) if complete => false,
        Some(version) => {
            let version = version.strip_suffix(b"\r").unwrap_or(version);
            !target.is_empty() && (b"HTTP/1.1".starts_with(version) || b"HTTP/1.0".starts_with(version))
        }
    }
}

fn is_token(b: u8) -> bool {
    b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn request_heads_are_http1_complete_or_cut() {
        for text in [
            "GET / HTTP/1.1\r\nhost: a\r\n\r\n",
            "GET /0123456789012345",
            "PROPFIND /long/path HTT",
            "POST http://a.example/x HTTP/1.0\r\n",
            "M-SEARCH * HTTP/1.1\r\n",
        ] {
            assert_eq!(protocol_of(text.as_bytes()), Detected::Http1, "{text}");
        }
    }

    #[test]
    fn a_line_that_says_http1_is_http1_whatever_else_it_holds() {
        for bytes in [&b"GET /a\x01b HTTP/1.1\r\n"[..], b"GET / HTTP/1.1\rhost: a\r\n\r\n", b"GET /a b HTTP/1.1\r\n"] {
            assert_eq!(protocol_of(bytes), Detected::Http1);
        }
    }

    #[test]
    fn the_h2_preface_is_http2() {
        assert_eq!(protocol_of(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), Detected::Http2);
        assert_eq!(protocol_of(b"PRI * HTTP/2."), Detected::NotHttp);
    }

    #[test]
    fn other_protocols_are_not_http() {
        for bytes in [
            &b"*1\r\n$4\r\nPING\r\n*1\r\n"[..],
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03abc",
            b"SSH-2.0-OpenSSH_9.6\r\n",
            b"EHLO mail.example.org\r\n",
            b"GET / HTTP/3.0\r\nhost: a\r\n",
            b"short",
        ] {
            assert_eq!(protocol_of(bytes), Detected::NotHttp, "{}", String::from_utf8_lossy(bytes));
        }
    }
}
