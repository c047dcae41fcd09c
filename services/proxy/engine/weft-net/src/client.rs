//! HTTP connections to one place: a pool of HTTP/1 connections and one multiplexed HTTP/2 connection.

use std::{
    collections::VecDeque,
    sync::Arc,
    time::{Duration, Instant},
};

use arc_swap::ArcSwapOption;
use http::Response;
use hyper::{
    body::Incoming,
    client::conn::{http1, http2},
};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use parking_lot::Mutex;
use weft_core::{
    failure::Failure,
    http2_params::{FlowControl, Http2Params, KeepAlive},
    transport_header::Session,
};

use crate::{body::Body, connect::Connector, serve::BoxRequest};

#[derive(Clone, Copy, Debug)]
pub struct ClientSettings {
    pub stream_window: u32,
    pub connection_window: u32,
    pub pool_idle: Duration,
    pub max_idle: usize,
    pub max_header_bytes: usize,
    pub http2: Http2Params,
}

impl ClientSettings {
    fn http2_builder(&self) -> http2::Builder<TokioExecutor> {
        let mut builder = http2::Builder::new(TokioExecutor::new());
        let own = FlowControl::Fixed { stream_window: self.stream_window, connection_window: self.connection_window };
        match self.http2.flow_control.unwrap_or(own) {
            FlowControl::Adaptive => builder.adaptive_window(true),
            FlowControl::Fixed { stream_window, connection_window } => {
                builder.initial_stream_window_size(stream_window).initial_connection_window_size(connection_window)
            }
        };
        if let Some(KeepAlive { interval, timeout, while_idle }) = self.http2.keep_alive {
            builder.keep_alive_interval(interval).keep_alive_timeout(timeout).keep_alive_while_idle(while_idle);
        }
        if let Some(streams) = self.http2.max_concurrent_reset_streams {
            builder.max_concurrent_reset_streams(streams);
        }
        if let Some(bytes) = self.http2.max_send_buf_size {
            builder.max_send_buf_size(bytes);
        }
        builder
            .timer(TokioTimer::new())
            .max_frame_size(self.http2.max_frame_size)
            .max_header_list_size(self.max_header_bytes as u32);
        builder
    }
}

pub struct Client {
    connector: Connector,
    settings: ClientSettings,
    idle: Arc<Pool>,
    multiplexed: ArcSwapOption<http2::SendRequest<Body>>,
    /// One handshake at a time; the others then find its connection, or how it failed.
    connecting: tokio::sync::Mutex<Option<(Instant, Failure)>>,
}

struct Pool {
    idle_for: Duration,
    max_idle: usize,
    connections: Mutex<VecDeque<(Instant, http1::SendRequest<Body>)>>,
}

/// An HTTP/1 connection on loan.
pub struct Reusable {
    sender: http1::SendRequest<Body>,
    pool: Arc<Pool>,
}

/// A connection ready for one request.
pub enum Lease {
    Http1(Reusable),
    Http2(http2::SendRequest<Body>),
}

pub enum SendFailure {
    /// Nothing was sent: the connection had just gone away.
    Unsent(BoxRequest),
    Failed(hyper::Error),
}

impl Reusable {
    pub fn give_back(self) {
        self.pool.clone().put(self.sender);
    }
}

impl Pool {
    fn put(self: Arc<Self>, sender: http1::SendRequest<Body>) {
        if sender.is_closed() {
            return;
        }
        let mut connections = self.connections.lock();
        if connections.len() >= self.max_idle {
            return;
        }
        let was_empty = connections.is_empty();
        connections.push_back((Instant::now(), sender));
        drop(connections);
        if was_empty {
            // Lives only while something idles here.
            tokio::spawn(self.expire());
        }
    }

    fn take(&self) -> Option<http1::SendRequest<Body>> {
        let mut connections = self.connections.lock();
        // The newest is the least likely to be closing.
        while let Some((since, sender)) = connections.pop_back() {
            if sender.is_ready() && since.elapsed() < self.idle_for {
                return Some(sender);
            }
        }
        None
    }

    async fn expire(self: Arc<Self>) {
        loop {
            let oldest = self.connections.lock().front().map(|(since, _)| *since);
            let Some(oldest) = oldest else { return };
            tokio::time::sleep_until((oldest + self.idle_for).into()).await;
            let mut connections = self.connections.lock();
            while connections.front().is_some_and(|(since, _)| since.elapsed() >= self.idle_for) {
                connections.pop_front();
            }
            if connections.is_empty() {
                return;
            }
        }
    }
}

impl Client {
    pub fn new(connector: Connector, settings: ClientSettings) -> Self {
        let idle = Pool { idle_for: settings.pool_idle, max_idle: settings.max_idle, connections: Mutex::default() };
        Self {
            connector,
            settings,
            idle: Arc::new(idle),
            multiplexed: ArcSwapOption::empty(),
            connecting: tokio::sync::Mutex::new(None),
        }
    }

    pub fn connector(&self) -> &Connector {
        &self.connector
    }

    /// session: what a transport header says about the bytes; None when the peer takes the port as opaque.
    pub async fn http1(&self, session: Option<Session>) -> Result<Lease, Failure> {
        match self.idle.take() {
            Some(sender) => Ok(Lease::Http1(Reusable { sender, pool: self.idle.clone() })),
            // Boxed, as what follows: requests find a connection far more often than they open one.
            None => Box::pin(self.open_http1(session)).await,
        }
    }

    async fn open_http1(&self, session: Option<Session>) -> Result<Lease, Failure> {
        let conn = self.connector.connect(session).await?;
        let handshake = http1::Builder::new()
            .max_buf_size(self.settings.max_header_bytes.max(8192))
            .max_headers(512)
            .handshake(TokioIo::new(conn));
        let (sender, connection) = handshake.await.map_err(io_failure)?;
        tokio::spawn(connection.with_upgrades());
        Ok(Lease::Http1(Reusable { sender, pool: self.idle.clone() }))
    }

    pub async fn http2(&self, session: Option<Session>) -> Result<Lease, Failure> {
        match self.running_http2() {
            Some(lease) => Ok(lease),
            None => Box::pin(self.open_http2(session)).await,
        }
    }

    async fn open_http2(&self, session: Option<Session>) -> Result<Lease, Failure> {
        let waiting_since = Instant::now();
        let mut last_failure = self.connecting.lock().await;
        if let Some(lease) = self.running_http2() {
            return Ok(lease);
        }
        match &*last_failure {
            // It was tried while we waited: a queue of attempts, each with its own timeout, helps nobody.
            Some((at, failure)) if *at >= waiting_since => return Err(failure.clone()),
            _ => {}
        }
        let connected = self.connect_http2(session).await;
        *last_failure = connected.as_ref().err().map(|failure| (Instant::now(), failure.clone()));
        let sender = connected?;
        self.multiplexed.store(Some(Arc::new(sender.clone())));
        Ok(Lease::Http2(sender))
    }

    async fn connect_http2(&self, session: Option<Session>) -> Result<http2::SendRequest<Body>, Failure> {
        let conn = self.connector.connect(session).await?;
        let handshake = self.settings.http2_builder().handshake(TokioIo::new(conn));
        let (sender, connection) = handshake.await.map_err(io_failure)?;
        tokio::spawn(connection);
        Ok(sender)
    }

    fn running_http2(&self) -> Option<Lease> {
        let sender = self.multiplexed.load();
        let sender = sender.as_ref().filter(|sender| !sender.is_closed())?;
        Some(Lease::Http2(http2::SendRequest::clone(sender)))
    }
}

fn io_failure(error: hyper::Error) -> Failure {
    Failure::Io(error.to_string())
}

impl Lease {
    /// The second part is the connection to give back when the response's body has ended.
    pub async fn send(self, request: BoxRequest) -> Result<(Response<Incoming>, Option<Reusable>), SendFailure> {
        match self {
            Self::Http1(mut reusable) => match reusable.sender.try_send_request(*request).await {
                Ok(response) => Ok((response, Some(reusable))),
                Err(mut error) => Err(match error.take_message() {
                    Some(request) => SendFailure::Unsent(Box::new(request)),
                    None => SendFailure::Failed(error.into_error()),
                }),
            },
            Self::Http2(mut sender) => match sender.try_send_request(*request).await {
                Ok(response) => Ok((response, None)),
                Err(mut error) => Err(match error.take_message() {
                    Some(request) => SendFailure::Unsent(Box::new(request)),
                    None => SendFailure::Failed(error.into_error()),
                }),
            },
        }
    }
}
