//! The first moments of an accepted connection: looking for mesh TLS and telling protocols apart, within a deadline.

use std::{io, sync::Arc, time::Duration};

use bytes::BytesMut;
use rustls::ServerConfig;
use tokio::{
    io::AsyncReadExt,
    net::TcpStream,
    time::{Instant, timeout, timeout_at},
};
use tokio_rustls::TlsAcceptor;
use weft_core::{
    detect::{self, Detected},
    tls_peek::{Hello, client_hello},
    transport_header::{Decoded, TransportHeader},
};

use crate::{
    conn::{Conn, Rewound, Transport},
    identity::names_of,
};

const FIRST_READ: usize = 512;
const LONGEST_HELLO: usize = 8192;

pub enum Accepted {
    Mesh { conn: Conn, client_id: Option<Arc<str>>, has_alpn: bool },
    PassedThrough { conn: Conn, sni: String },
    Plain { conn: Conn },
}

fn timed_out(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, format!("{what} timed out"))
}

/// Terminates TLS meant for us and leaves every other byte as it came. limit: for the hello and for the handshake.
pub async fn mesh_tls(
    stream: TcpStream,
    local_name: &str,
    config: Option<&Arc<ServerConfig>>,
    limit: Duration,
) -> io::Result<Accepted> {
    let deadline = Instant::now() + limit;
    let mut io = Rewound { seen: BytesMut::with_capacity(FIRST_READ), io: stream };
    let hello = timeout_at(deadline, read_hello(&mut io)).await.map_err(|_| timed_out("TLS detection"))??;
    let Hello::Tls { sni } = hello else {
        return Ok(Accepted::Plain { conn: Conn::new(Transport::Plain(io)) });
    };
    let sni = sni.unwrap_or_default();
    let Some(config) = config.filter(|_| sni.eq_ignore_ascii_case(local_name)) else {
        return Ok(Accepted::PassedThrough { conn: Conn::new(Transport::Plain(io)), sni });
    };
    let accept = TlsAcceptor::from(config.clone()).accept(io);
    let tls = timeout_at(deadline, accept).await.map_err(|_| timed_out("TLS handshake"))??;
    let (_, session) = tls.get_ref();
    let client_id = session.peer_certificates().and_then(|chain| chain.first()).and_then(|leaf| {
        let name = names_of(leaf).into_iter().next()?;
        Some(Arc::from(name))
    });
    let has_alpn = session.alpn_protocol() == Some(weft_core::transport_header::ALPN);
    Ok(Accepted::Mesh { conn: Conn::new(Transport::ServerTls(Box::new(tls))), client_id, has_alpn })
}

async fn read_hello(io: &mut Rewound) -> io::Result<Hello> {
    loop {
        if io.io.read_buf(&mut io.seen).await? == 0 {
            return Ok(Hello::NotTls);
        }
        match client_hello(&io.seen) {
            Hello::Incomplete if io.seen.len() < LONGEST_HELLO => io.seen.reserve(LONGEST_HELLO - io.seen.len()),
            Hello::Incomplete => return Ok(Hello::NotTls),
            hello => return Ok(hello),
        }
    }
}

/// The server name that a client's TLS hello asks for, left to be read again; None when it says none or is no TLS.
pub async fn server_name(conn: &mut Conn, limit: Duration) -> io::Result<Option<String>> {
    let peeked = async {
        loop {
            if conn.peek_more(FIRST_READ).await? == 0 {
                return Ok(None);
            }
            match client_hello(conn.seen()) {
                Hello::Incomplete if conn.seen().len() < LONGEST_HELLO => {}
                Hello::Incomplete | Hello::NotTls => return Ok(None),
                Hello::Tls { sni } => return Ok(sni),
            }
        }
    };
    timeout(limit, peeked).await.map_err(|_| timed_out("TLS detection"))?
}

/// What one read told; `None` in time is a timeout, which means opaque.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Detection {
    Is(Detected),
    TimedOut,
}

impl Detection {
    pub fn label(self) -> &'static str {
        match self {
            Self::Is(Detected::Http1) => "http/1",
            Self::Is(Detected::Http2) => "http/2",
            Self::Is(Detected::NotHttp) => "not_http",
            Self::TimedOut => "read_timeout",
        }
    }
}

/// Errors on end of stream before any byte.
pub async fn detect_http(conn: &mut Conn, limit: Duration) -> io::Result<Detection> {
    let started = Instant::now();
    let detection = look(conn, limit).await;
    conn.detected(started.elapsed());
    detection
}

async fn look(conn: &mut Conn, limit: Duration) -> io::Result<Detection> {
    if conn.seen().is_empty() {
        match timeout(limit, conn.peek_more(detect::READ_LIMIT)).await {
            Err(_) => return Ok(Detection::TimedOut),
            Ok(Err(error)) => return Err(error),
            Ok(Ok(0)) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(Ok(_)) => {}
        }
    }
    Ok(Detection::Is(detect::protocol_of(conn.seen())))
}

/// Reads the header that a direct connection must begin with.
pub async fn transport_header(conn: &mut Conn, limit: Duration) -> io::Result<TransportHeader> {
    let read = async {
        loop {
            match TransportHeader::decode(conn.seen()) {
                Decoded::Header { header, consumed } => {
                    conn.consume(consumed);
                    return Ok(header);
                }
                Decoded::Invalid(reason) => {
                    return Err(io::Error::new(io::ErrorKind::InvalidData, reason));
                }
                Decoded::Incomplete => {}
            }
            if read_past_seen(conn).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    };
    timeout(limit, read).await.map_err(|_| timed_out("transport header"))?
}

async fn read_past_seen(conn: &mut Conn) -> io::Result<usize> {
    conn.peek_more(1024).await
}
