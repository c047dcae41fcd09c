//! Which trace a request belongs to, read from its headers and written back with our own span (observability.md 7.3).

use base64::{
    Engine, alphabet,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use http::{HeaderMap, HeaderName, HeaderValue};

pub const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const GRPC_TRACE_BIN: HeaderName = HeaderName::from_static("grpc-trace-bin");
const B3: HeaderName = HeaderName::from_static("b3");
const B3_TRACE_ID: HeaderName = HeaderName::from_static("x-b3-traceid");
const B3_SPAN_ID: HeaderName = HeaderName::from_static("x-b3-spanid");
const B3_SAMPLED: HeaderName = HeaderName::from_static("x-b3-sampled");

/// Unpadded, as gRPC writes binary headers; read either way.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_encode_padding(false).with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// How a context was carried, which is how it is passed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Propagation {
    W3c,
    GrpcBinary,
    B3,
    B3Single,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceContext {
    pub propagation: Propagation,
    pub trace_id: [u8; 16],
    /// The span that sent the request.
    pub span_id: [u8; 8],
    pub is_sampled: bool,
}

impl TraceContext {
    /// The first of W3C, gRPC binary, B3 in many headers and B3 in one that is there and well formed.
    pub fn read(headers: &HeaderMap) -> Option<Self> {
        let text = |name: &HeaderName| headers.get(name)?.to_str().ok();
        text(&TRACEPARENT)
            .and_then(from_w3c)
            .or_else(|| from_grpc(headers.get(GRPC_TRACE_BIN)?.as_bytes()))
            .or_else(|| from_b3(text(&B3_TRACE_ID)?, text(&B3_SPAN_ID)?, text(&B3_SAMPLED).unwrap_or_default()))
            .or_else(|| from_b3_single(text(&B3)?))
    }

    /// Names our span as the sender, in the form that the context came in.
    pub fn write(&self, span_id: [u8; 8], headers: &mut HeaderMap) {
        let flags = u8::from(self.is_sampled);
        let (name, value) = match self.propagation {
            Propagation::W3c => (TRACEPARENT, format!("00-{}-{}-{flags:02x}", hex(&self.trace_id), hex(&span_id))),
            Propagation::GrpcBinary => (GRPC_TRACE_BIN, BASE64.encode(grpc_bytes(&self.trace_id, &span_id, flags))),
            Propagation::B3 => (B3_SPAN_ID, hex(&span_id)),
            // What follows the ids, the sampling state, stays; a parent that was named is no longer ours.
            Propagation::B3Single => (B3, format!("{}-{}-{flags}", hex(&self.trace_id), hex(&span_id))),
        };
        if let Ok(value) = HeaderValue::try_from(value) {
            headers.insert(name, value);
        }
    }
}

pub fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut out, byte| {
        let _ = write!(out, "{byte:02x}");
        out
    })
}

/// Exactly N bytes, not all of them zero.
fn id<const N: usize>(text: &str) -> Option<[u8; N]> {
    let mut out = [0; N];
    if text.len() != N * 2 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    for (index, byte) in out.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&text[index * 2..index * 2 + 2], 16).ok()?;
    }
    out.iter().any(|byte| *byte != 0).then_some(out)
}

/// Trace ids of 64 bits are those of 128 with zeros in front.
fn wide_id(text: &str) -> Option<[u8; 16]> {
    if text.len() != 16 {
        return id(text);
    }
    let low: [u8; 8] = id(text)?;
    let mut out = [0; 16];
    out[8..].copy_from_slice(&low);
    Some(out)
}

fn from_w3c(text: &str) -> Option<TraceContext> {
    let mut parts = text.trim().split('-');
    let (version, trace, span, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    if version != "00" || parts.next().is_some() || flags.len() != 2 {
        return None;
    }
    let flags = u8::from_str_radix(flags, 16).ok()?;
    Some(TraceContext {
        propagation: Propagation::W3c,
        trace_id: id(trace)?,
        span_id: id(span)?,
        is_sampled: flags & 1 == 1,
    })
}

fn from_b3(trace: &str, span: &str, sampled: &str) -> Option<TraceContext> {
    Some(TraceContext {
        propagation: Propagation::B3,
        trace_id: wide_id(trace)?,
        span_id: id(span)?,
        is_sampled: sampled == "1",
    })
}

fn from_b3_single(text: &str) -> Option<TraceContext> {
    let mut parts = text.trim().split('-');
    let (trace, span, sampled) = (parts.next()?, parts.next()?, parts.next().unwrap_or_default());
    Some(TraceContext {
        propagation: Propagation::B3Single,
        trace_id: wide_id(trace)?,
        span_id: id(span)?,
        // "d" asks for debugging, which implies it.
        is_sampled: matches!(sampled, "1" | "d"),
    })
}

/// Version 0, then fields: 0 and the trace id, 1 and the span id, 2 and the flags; base64 on the wire.
fn from_grpc(text: &[u8]) -> Option<TraceContext> {
    let bytes = BASE64.decode(text).ok()?;
    if bytes.len() != 29 || bytes[0] != 0 || bytes[1] != 0 || bytes[18] != 1 || bytes[27] != 2 {
        return None;
    }
    let (trace_id, span_id) = (bytes[2..18].try_into().ok()?, bytes[19..27].try_into().ok()?);
    Some(TraceContext { propagation: Propagation::GrpcBinary, trace_id, span_id, is_sampled: bytes[28] & 1 == 1 })
}

fn grpc_bytes(trace_id: &[u8; 16], span_id: &[u8; 8], flags: u8) -> Vec<u8> {
    [&[0, 0][..], trace_id, &[1], span_id, &[2, flags]].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
    const SPAN: &str = "00f067aa0ba902b7";
    const OURS: [u8; 8] = [1, 2, 3, 4, 5, 6, 7, 8];

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs.iter().map(|(k, v)| (HeaderName::from_static(k), HeaderValue::from_str(v).unwrap())).collect()
    }

    #[test]
    fn w3c_goes_before_b3_and_keeps_its_trace_with_our_span() {
        let mut map = headers(&[
            ("x-b3-traceid", "463ac35c9f6413ad48485a3953bb6124"),
            ("x-b3-spanid", "a2fb4a1d1a96d312"),
            ("traceparent", format!("00-{TRACE}-{SPAN}-01").as_str()),
        ]);
        let context = TraceContext::read(&map).unwrap();
        assert_eq!((hex(&context.trace_id).as_str(), context.is_sampled), (TRACE, true));
        context.write(OURS, &mut map);
        assert_eq!(map["traceparent"], format!("00-{TRACE}-0102030405060708-01"));
        assert_eq!(map["x-b3-spanid"], "a2fb4a1d1a96d312");
    }

    #[test]
    fn b3_in_many_headers_and_in_one() {
        let mut map = headers(&[("x-b3-traceid", "48485a3953bb6124"), ("x-b3-spanid", SPAN), ("x-b3-sampled", "1")]);
        let context = TraceContext::read(&map).unwrap();
        assert_eq!(hex(&context.trace_id), "000000000000000048485a3953bb6124");
        assert!(context.is_sampled);
        context.write(OURS, &mut map);
        assert_eq!(
            (map["x-b3-spanid"].as_bytes(), map["x-b3-traceid"].as_bytes()),
            (&b"0102030405060708"[..], &b"48485a3953bb6124"[..])
        );
        let mut map = headers(&[("b3", format!("{TRACE}-{SPAN}-1-05e3ac9a4f6e3b90").as_str())]);
        TraceContext::read(&map).unwrap().write(OURS, &mut map);
        assert_eq!(map["b3"], format!("{TRACE}-0102030405060708-1"));
    }

    #[test]
    fn grpc_binary_survives_both_ways() {
        let context = TraceContext {
            propagation: Propagation::GrpcBinary,
            trace_id: id(TRACE).unwrap(),
            span_id: id(SPAN).unwrap(),
            is_sampled: true,
        };
        let mut map = HeaderMap::new();
        context.write(context.span_id, &mut map);
        assert_eq!(TraceContext::read(&map), Some(context));
    }

    #[test]
    fn malformed_contexts_are_no_contexts() {
        for value in [
            String::new(),
            format!("01-{TRACE}-{SPAN}-01"),
            format!("00-{TRACE}-{SPAN}"),
            format!("00-{TRACE}-{SPAN}-01-more"),
            format!("00-{}-{SPAN}-01", "0".repeat(32)),
            format!("00-{}-{SPAN}-01", "é".repeat(16)),
            format!("00-{TRACE}-xyz-01"),
        ] {
            assert_eq!(TraceContext::read(&headers(&[("traceparent", value.as_str())])), None, "{value}");
        }
        assert_eq!(TraceContext::read(&headers(&[("grpc-trace-bin", "AAAA")])), None);
        assert_eq!(TraceContext::read(&headers(&[("b3", "0")])), None);
    }
}
