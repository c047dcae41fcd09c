//! The header one proxy writes to another ahead of the first application byte (wire.md 5.2).

use bytes::{BufMut, BytesMut};
use prost::Message;
use weft_proto::transport::l5d::io as wire;

use crate::addr::is_dns_name;

pub const PREFACE: &[u8; 23] = b"transport.l5d.io/v1\r\n\r\n";
pub const ALPN: &[u8] = b"transport.l5d.io/v1";
const MAX_BODY: usize = 64 * 1024;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Session {
    Http1,
    Http2,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TransportHeader {
    pub port: u16,
    /// None: the port of the receiver itself. Some: a logical destination behind a gateway.
    pub name: Option<String>,
    /// None: opaque or unknown.
    pub session: Option<Session>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decoded {
    /// Call again with more bytes.
    Incomplete,
    Header {
        header: TransportHeader,
        consumed: usize,
    },
    Invalid(&'static str),
}

impl TransportHeader {
    pub fn encode(&self) -> BytesMut {
        let kind = self.session.map(|session| match session {
            Session::Http1 => wire::session_protocol::Kind::Http1(wire::session_protocol::Http1 {}),
            Session::Http2 => wire::session_protocol::Kind::Http2(wire::session_protocol::Http2 {}),
        });
        let message = wire::Header {
            port: i32::from(self.port),
            name: self.name.clone().unwrap_or_default(),
            session_protocol: kind.map(|kind| wire::SessionProtocol { kind: Some(kind) }),
        };
        let length = message.encoded_len();
        let mut out = BytesMut::with_capacity(PREFACE.len() + 4 + length);
        out.put_slice(PREFACE);
        out.put_u32(length as u32);
        out.extend_from_slice(&message.encode_to_vec());
        out
    }

    pub fn decode(bytes: &[u8]) -> Decoded {
        let seen = bytes.len().min(PREFACE.len());
        if bytes[..seen] != PREFACE[..seen] {
            return Decoded::Invalid("no transport header");
        }
        let Some(length) = bytes.get(PREFACE.len()..PREFACE.len() + 4) else {
            return Decoded::Incomplete;
        };
        let length = u32::from_be_bytes([length[0], length[1], length[2], length[3]]) as usize;
        if length > MAX_BODY {
            return Decoded::Invalid("transport header longer than 65536 bytes");
        }
        let consumed = PREFACE.len() + 4 + length;
        let Some(body) = bytes.get(PREFACE.len() + 4..consumed) else {
            return Decoded::Incomplete;
        };
        match wire::Header::decode(body) {
            Ok(message) => {
                Self::from_wire(message).map_or_else(Decoded::Invalid, |header| Decoded::Header { header, consumed })
            }
            Err(_) => Decoded::Invalid("transport header is not a valid message"),
        }
    }

    fn from_wire(message: wire::Header) -> Result<Self, &'static str> {
        let port = u16::try_from(message.port).ok().filter(|port| *port > 0);
        let session = message.session_protocol.and_then(|session| session.kind).map(|kind| match kind {
            wire::session_protocol::Kind::Http1(_) => Session::Http1,
            wire::session_protocol::Kind::Http2(_) => Session::Http2,
        });
        if !message.name.is_empty() && !is_dns_name(&message.name) {
            return Err("transport header names an invalid host");
        }
        Ok(Self {
            port: port.ok_or("transport header port is outside 1 to 65535")?,
            name: Some(message.name).filter(|name| !name.is_empty()),
            session,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_round_trip_whole_and_byte_by_byte() {
        for header in [
            TransportHeader { port: 8080, name: None, session: None },
            TransportHeader { port: 1, name: Some("a.b".into()), session: Some(Session::Http1) },
            TransportHeader { port: 65535, name: None, session: Some(Session::Http2) },
        ] {
            let mut bytes = header.encode().to_vec();
            let whole = bytes.len();
            for cut in 0..whole {
                assert_eq!(TransportHeader::decode(&bytes[..cut]), Decoded::Incomplete);
            }
            bytes.extend(b"application");
            assert_eq!(TransportHeader::decode(&bytes), Decoded::Header { header, consumed: whole });
        }
    }

    #[test]
    fn bytes_without_preface_or_with_bad_fields_are_refused() {
        assert!(matches!(TransportHeader::decode(b"GET / HTTP/1.1"), Decoded::Invalid(_)));
        let zero = TransportHeader { port: 0, name: None, session: None }.encode();
        assert!(matches!(TransportHeader::decode(&zero), Decoded::Invalid(_)));
        let name = TransportHeader { port: 1, name: Some("a b".into()), session: None }.encode();
        assert!(matches!(TransportHeader::decode(&name), Decoded::Invalid(_)));
        let mut long = PREFACE.to_vec();
        long.extend(70_000u32.to_be_bytes());
        assert!(matches!(TransportHeader::decode(&long), Decoded::Invalid(_)));
    }
}
