//! Serves HTTP on one accepted connection until it ends, is told to end, or the proxy drains.

use std::{future::Future, pin::Pin, sync::Arc, time::Duration};

use http::{Request, Response};
use hyper::{
    body::Incoming,
    server::conn::{http1, http2},
    service::Service,
};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::sync::Notify;
use weft_proto::engine::Http2;

use crate::{body::Body, conn::Conn, drain::Drain, read_count::Counted, slow_head::HeadTimer};

/// The HTTP/2 preface and the head of the first frame.
const FIRST_BYTES: u64 = 24 + 9;

pub type BoxError = Box<dyn std::error::Error + Send + Sync>;
/// A request on its way through the proxy: boxed, for it passes through many hands and is some 300 bytes.
pub type BoxRequest = Box<Request<Body>>;
pub type Answer = Pin<Box<dyn Future<Output = Result<Response<Body>, BoxError>> + Send>>;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HttpVersion {
    One,
    Two,
}

impl HttpVersion {
    /// As decision records call it.
    pub fn label(self) -> &'static str {
        match self {
            Self::One => "http/1",
            Self::Two => "http/2",
        }
    }
}

/// Answers the requests of one connection.
pub trait Handler: Send + Sync + 'static {
    fn handle(self: Arc<Self>, request: BoxRequest) -> Answer;
}

struct ToHandler<H>(Arc<H>);

impl<H: Handler> Service<Request<Incoming>> for ToHandler<H> {
    type Response = Response<Body>;
    type Error = BoxError;
    type Future = Answer;

    fn call(&self, request: Request<Incoming>) -> Answer {
        self.0.clone().handle(Box::new(request.map(Body::incoming)))
    }
}

pub struct ServeSettings<'a> {
    pub http2: &'a Http2,
    pub max_header_bytes: usize,
    /// How long a client may take over one request head, or over the HTTP/2 preface.
    pub head_timeout: Duration,
}

/// close: lets the handler end the connection after the answers in flight.
pub async fn serve<H: Handler>(
    conn: Conn,
    version: HttpVersion,
    handler: Arc<H>,
    settings: ServeSettings<'_>,
    drain: &Drain,
    close: &Notify,
) -> hyper::Result<()> {
    let (conn, read) = Counted::new(conn);
    let io = TokioIo::new(conn);
    // Both kinds of connection are driven alike but share no trait.
    macro_rules! drive {
        ($connection:expr, $too_slow:expr) => {{
            // Boxed: a task keeps room for the larger kind of connection, and would for each in two places.
            let mut connection = Box::pin($connection);
            let too_slow = $too_slow;
            tokio::pin!(too_slow);
            let told = async {
                tokio::select! {
                    () = drain.begun() => {}
                    () = close.notified() => {}
                }
            };
            tokio::pin!(told);
            tokio::select! {
                biased;
                result = connection.as_mut() => return result,
                () = told => connection.as_mut().graceful_shutdown(),
                () = too_slow => return Ok(()),
            }
            connection.await
        }};
    }
    match version {
        HttpVersion::One => drive!(
            http1::Builder::new()
                .timer(HeadTimer(read))
                .header_read_timeout(settings.head_timeout)
                .half_close(true)
                .max_buf_size(settings.max_header_bytes.max(8192))
                .max_headers(512)
                .serve_connection(io, ToHandler(handler))
                .with_upgrades(),
            std::future::pending::<()>()
        ),
        HttpVersion::Two => {
            drive!(
                http2_builder(&settings).serve_connection(io, ToHandler(handler)),
                read.stays_below(FIRST_BYTES, settings.head_timeout)
            )
        }
    }
}

fn http2_builder(settings: &ServeSettings<'_>) -> http2::Builder<TokioExecutor> {
    let mut builder = http2::Builder::new(TokioExecutor::new());
    let s = settings.http2;
    let ms = |value: u32| Duration::from_millis(u64::from(value));
    builder.timer(TokioTimer::new()).max_header_list_size(if s.max_header_list_size > 0 {
        s.max_header_list_size
    } else {
        settings.max_header_bytes as u32
    });
    if s.keep_alive_interval_ms > 0 {
        builder.keep_alive_interval(ms(s.keep_alive_interval_ms));
        builder.keep_alive_timeout(ms(s.keep_alive_timeout_ms.max(1)));
    }
    if s.initial_stream_window > 0 {
        builder.initial_stream_window_size(s.initial_stream_window);
    }
    if s.initial_connection_window > 0 {
        builder.initial_connection_window_size(s.initial_connection_window);
    }
    if s.adaptive_flow_control {
        builder.adaptive_window(true);
    }
    if s.max_concurrent_streams > 0 {
        builder.max_concurrent_streams(s.max_concurrent_streams);
    }
    if s.max_frame_size > 0 {
        builder.max_frame_size(s.max_frame_size);
    }
    if s.max_pending_accept_reset_streams > 0 {
        builder.max_pending_accept_reset_streams(s.max_pending_accept_reset_streams as usize);
    }
    if s.max_send_buf_size > 0 {
        builder.max_send_buf_size(s.max_send_buf_size as usize);
    }
    builder
}
