//! One byte stream, whatever it runs over, with bytes that were read ahead put back in front, and counted.

use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::{Buf, BytesMut};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf},
    net::TcpStream,
};
use tokio_rustls::{client, server};

use crate::metrics::TransportMetrics;

/// Unread bytes looked past when a connection is closed.
const MOST_SWALLOWED: usize = 256 * 1024;

/// A socket whose first bytes were already looked at.
pub struct Rewound {
    pub seen: BytesMut,
    pub io: TcpStream,
}

pub enum Transport {
    Plain(Rewound),
    ServerTls(Box<server::TlsStream<Rewound>>),
    ClientTls(Box<client::TlsStream<TcpStream>>),
}

pub struct Conn {
    io: Transport,
    seen: BytesMut,
    metrics: Option<Arc<TransportMetrics>>,
    errno: &'static str,
    detected_in: Option<Duration>,
}

impl Conn {
    pub fn new(io: Transport) -> Self {
        Self { io, seen: BytesMut::new(), metrics: None, errno: "", detected_in: None }
    }

    /// Counts this connection from here on, and its end when it is dropped.
    pub fn measure(&mut self, metrics: Arc<TransportMetrics>) {
        metrics.opened();
        self.metrics = Some(metrics);
    }

    /// One read into the look-ahead buffer; the bytes are read again later. 0 means end of stream.
    pub async fn peek_more(&mut self, limit: usize) -> io::Result<usize> {
        let mut seen = std::mem::take(&mut self.seen);
        seen.reserve(limit);
        let result = {
            let mut limited = (&mut *self).take(limit as u64);
            limited.read_buf(&mut seen).await
        };
        self.seen = seen;
        result
    }

    /// How long it took to tell what the client speaks.
    pub fn detected(&mut self, took: Duration) {
        self.detected_in = Some(took);
    }

    /// None when nobody had to look.
    pub fn detected_in(&self) -> Option<Duration> {
        self.detected_in
    }

    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        let stream = match &self.io {
            Transport::Plain(rewound) => &rewound.io,
            Transport::ServerTls(tls) => &tls.get_ref().0.io,
            Transport::ClientTls(tls) => tls.get_ref().0,
        };
        stream.peer_addr()
    }

    pub fn seen(&self) -> &[u8] {
        &self.seen
    }

    pub fn consume(&mut self, count: usize) {
        self.seen.advance(count);
    }

    /// Bytes that nobody read make the kernel end a connection with a reset, which may overtake our last words.
    fn swallow_unread(&self) {
        let mut scratch = [0; 1024];
        let socket = match &self.io {
            Transport::Plain(plain) => &plain.io,
            Transport::ServerTls(tls) => &tls.get_ref().0.io,
            Transport::ClientTls(tls) => tls.get_ref().0,
        };
        let mut swallowed = 0;
        while swallowed < MOST_SWALLOWED
            && let Ok(count) = socket.try_read(&mut scratch)
            && count > 0
        {
            swallowed += count;
        }
    }

    fn note(&mut self, error: &io::Error) {
        self.errno = errno_name(error);
    }
}

impl Drop for Conn {
    fn drop(&mut self) {
        self.swallow_unread();
        if let Some(metrics) = &self.metrics {
            metrics.closed(self.errno);
        }
    }
}

fn errno_name(error: &io::Error) -> &'static str {
    match error.raw_os_error() {
        Some(libc::ECONNRESET) => "ECONNRESET",
        Some(libc::EPIPE) => "EPIPE",
        Some(libc::ETIMEDOUT) => "ETIMEDOUT",
        Some(libc::ECONNREFUSED) => "ECONNREFUSED",
        Some(libc::EHOSTUNREACH) => "EHOSTUNREACH",
        Some(libc::ENETUNREACH) => "ENETUNREACH",
        Some(libc::ECONNABORTED) => "ECONNABORTED",
        Some(_) => "EOTHER",
        None => match error.kind() {
            io::ErrorKind::UnexpectedEof => "UNEXPECTED_EOF",
            _ => "EOTHER",
        },
    }
}

/// Applies sensible defaults to a fresh socket: no delay, and dead peers noticed when the settings ask for it.
pub fn tune(stream: &TcpStream, keepalive: Option<Duration>, user_timeout: Option<Duration>) {
    let _ = stream.set_nodelay(true);
    let socket = socket2::SockRef::from(stream);
    if let Some(time) = keepalive {
        let _ = socket.set_tcp_keepalive(&socket2::TcpKeepalive::new().with_time(time));
    }
    if user_timeout.is_some() {
        let _ = socket.set_tcp_user_timeout(user_timeout);
    }
}

impl AsyncRead for Rewound {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.seen.is_empty() {
            return Pin::new(&mut self.io).poll_read(cx, buf);
        }
        take_seen(&mut self.seen, buf);
        Poll::Ready(Ok(()))
    }
}

fn take_seen(seen: &mut BytesMut, buf: &mut ReadBuf<'_>) {
    let count = seen.len().min(buf.remaining());
    buf.put_slice(&seen[..count]);
    seen.advance(count);
    if seen.is_empty() {
        // Gives the allocation back for the rest of the connection.
        *seen = BytesMut::new();
    }
}

macro_rules! each_transport {
    ($self:expr, $io:ident => $call:expr) => {
        match $self {
            Transport::Plain($io) => $call,
            Transport::ServerTls($io) => $call,
            Transport::ClientTls($io) => $call,
        }
    };
}

impl AsyncWrite for Rewound {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

impl AsyncRead for Conn {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if !self.seen.is_empty() {
            take_seen(&mut self.seen, buf);
            return Poll::Ready(Ok(()));
        }
        let before = buf.filled().len();
        let result = ready!(each_transport!(&mut self.io, io => Pin::new(io).poll_read(cx, buf)));
        match &result {
            Ok(()) => {
                if let Some(metrics) = &self.metrics {
                    metrics.has_read(buf.filled().len() - before);
                }
            }
            Err(error) => self.note(error),
        }
        Poll::Ready(result)
    }
}

impl Conn {
    fn wrote(&mut self, result: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        match &result {
            Poll::Ready(Ok(count)) => {
                if let Some(metrics) = &self.metrics {
                    metrics.has_written(*count);
                }
            }
            Poll::Ready(Err(error)) => self.note(error),
            Poll::Pending => {}
        }
        result
    }
}

impl AsyncWrite for Conn {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let result = each_transport!(&mut self.io, io => Pin::new(io).poll_write(cx, buf));
        self.wrote(result)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let result = each_transport!(&mut self.io, io => Pin::new(io).poll_write_vectored(cx, bufs));
        self.wrote(result)
    }

    fn is_write_vectored(&self) -> bool {
        each_transport!(&self.io, io => io.is_write_vectored())
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each_transport!(&mut self.io, io => Pin::new(io).poll_flush(cx))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each_transport!(&mut self.io, io => Pin::new(io).poll_shutdown(cx))
    }
}
