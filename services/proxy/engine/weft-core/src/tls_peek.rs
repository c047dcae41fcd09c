//! Reads the server name out of a TLS ClientHello that may still be arriving. Decides nothing about it.

/// What the first bytes of a connection say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Hello {
    /// Could still become a ClientHello.
    Incomplete,
    NotTls,
    /// A ClientHello; the name is absent when the client sent none.
    Tls {
        sni: Option<String>,
    },
}

const HANDSHAKE: u8 = 22;
const CLIENT_HELLO: u8 = 1;
const SERVER_NAME: u16 = 0;
const HOST_NAME: u8 = 0;

/// Total: any input gives an answer. Source: RFC 8446 4.1.2, RFC 6066 3.
pub fn client_hello(bytes: &[u8]) -> Hello {
    match bytes {
        [] | [HANDSHAKE] | [HANDSHAKE, 3] => return Hello::Incomplete,
        [HANDSHAKE, 3, ..] => {}
        _ => return Hello::NotTls,
    }
    // A hello may span records; their payloads are joined before reading it.
    let mut message = Vec::new();
    let mut rest = bytes;
    while let [kind, 3, _, hi, lo, tail @ ..] = rest {
        if *kind != HANDSHAKE {
            return Hello::NotTls;
        }
        let length = usize::from(u16::from_be_bytes([*hi, *lo]));
        let have = length.min(tail.len());
        message.extend_from_slice(&tail[..have]);
        if have < length || hello_length(&message).is_some_and(|need| message.len() >= need) {
            break;
        }
        rest = &tail[have..];
    }
    match (message.first(), hello_length(&message)) {
        (Some(&kind), _) if kind != CLIENT_HELLO => Hello::NotTls,
        (Some(_), Some(need)) if message.len() >= need => {
            server_name(&message[4..need]).map_or(Hello::NotTls, |sni| Hello::Tls { sni })
        }
        _ => Hello::Incomplete,
    }
}

fn hello_length(message: &[u8]) -> Option<usize> {
    let [_, a, b, c, ..] = message else {
        return None;
    };
    Some(4 + ((usize::from(*a) << 16) | (usize::from(*b) << 8) | usize::from(*c)))
}

/// Outer None: malformed. Inner None: no name.
fn server_name(body: &[u8]) -> Option<Option<String>> {
    let mut input = Input(body);
    input.take(2 + 32)?;
    let session = input.u8()?;
    input.take(usize::from(session))?;
    let suites = input.u16()?;
    input.take(usize::from(suites))?;
    let compressions = input.u8()?;
    input.take(usize::from(compressions))?;
    if input.0.is_empty() {
        return Some(None);
    }
    let all = input.u16()?;
    let mut extensions = Input(input.take(usize::from(all))?);
    while !extensions.0.is_empty() {
        let kind = extensions.u16()?;
        let length = extensions.u16()?;
        let mut data = Input(extensions.take(usize::from(length))?);
        if kind == SERVER_NAME {
            data.u16()?;
            if data.u8()? != HOST_NAME {
                return Some(None);
            }
            let length = data.u16()?;
            let name = std::str::from_utf8(data.take(usize::from(length))?).ok()?;
            return Some(Some(name.to_ascii_lowercase()));
        }
    }
    Some(None)
}

struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (head, tail) = self.0.split_at_checked(count)?;
        self.0 = tail;
        Some(head)
    }

    fn u8(&mut self) -> Option<u8> {
        self.take(1).map(|b| b[0])
    }

    fn u16(&mut self) -> Option<u16> {
        self.take(2).map(|b| u16::from_be_bytes([b[0], b[1]]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hello(sni: Option<&str>) -> Vec<u8> {
        let mut body = vec![3, 3];
        body.extend([7; 32]);
        body.extend([0, 0, 2, 0x13, 0x01, 1, 0]);
        let mut extensions = vec![0, 43, 0, 3, 2, 3, 4];
        if let Some(name) = sni {
            let n = name.len() as u16;
            extensions.extend([0, 0]);
            extensions.extend((n + 5).to_be_bytes());
            extensions.extend((n + 3).to_be_bytes());
            extensions.push(0);
            extensions.extend(n.to_be_bytes());
            extensions.extend(name.bytes());
        }
        body.extend((extensions.len() as u16).to_be_bytes());
        body.extend(extensions);
        let mut message = vec![1, 0];
        message.extend((body.len() as u16).to_be_bytes());
        message.extend(body);
        message
    }

    fn record(payload: &[u8]) -> Vec<u8> {
        let mut out = vec![22, 3, 1];
        out.extend((payload.len() as u16).to_be_bytes());
        out.extend(payload);
        out
    }

    #[test]
    fn the_name_is_read_whole_and_every_prefix_is_incomplete() {
        let bytes = record(&hello(Some("a.b.example")));
        assert_eq!(client_hello(&bytes), Hello::Tls { sni: Some("a.b.example".into()) });
        for cut in 0..bytes.len() {
            assert_eq!(client_hello(&bytes[..cut]), Hello::Incomplete, "cut at {cut}");
        }
        let mut trailing = bytes;
        trailing.extend(b"more");
        assert!(matches!(client_hello(&trailing), Hello::Tls { sni: Some(_) }));
    }

    #[test]
    fn a_hello_split_over_records_is_joined() {
        let message = hello(Some("split.example"));
        let (one, two) = message.split_at(9);
        let bytes = [record(one), record(two)].concat();
        assert_eq!(client_hello(&bytes), Hello::Tls { sni: Some("split.example".into()) });
    }

    #[test]
    fn other_protocols_are_not_tls() {
        for bytes in [&b"GET / HTTP/1.1\r\n"[..], b"PRI * HTTP/2.0", b"\x16\x02", b"\x00"] {
            assert_eq!(client_hello(bytes), Hello::NotTls);
        }
        assert_eq!(client_hello(&record(&hello(None))), Hello::Tls { sni: None });
        assert_eq!(client_hello(&record(&[2, 0, 0, 0])), Hello::NotTls);
    }
}
