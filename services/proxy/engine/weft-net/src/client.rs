//! HTTP connections to one place: a pool of HTTP/1 connections and one multiplexed HTTP/2 connection.

use std::{
    collections::VecDeque,
    fmt::Display,
    sync::Arc,
    time::{Duration, Instant},
};

use arc_swap::ArcSwapOption;
use http::Response;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use weft_core::{failure::Failure, http2_params::Http2Params, transport_header::Session};

use crate::{body::Body, connect::Connector, http2::Http2, peer_error::PeerError, serve::BoxRequest};

#[derive(Clone, Copy, Debug)]
pub struct ClientSettings {
    pub stream_window: u32,
    pub connection_window: u32,
    pub pool_idle: Duration,
    pub max_idle: usize,
    pub max_header_bytes: usize,
    pub http2: Http2Params,
}

pub struct Client {
    connector: Connector,
    settings: ClientSettings,
    idle: Arc<Pool>,
    multiplexed: ArcSwapOption<Http2>,
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
    Http2(Arc<Http2>),
}

/// Sends of one request over connections that turn out to be gone before anything was written.
pub const MAX_UNSENT: usize = 5;

/// What the client hears when even those were not enough.
pub fn never_sent() -> Failure {
    Failure::Io("connections close before they are used".to_owned())
}

pub enum SendFailure {
    /// Nothing was sent: the connection had just gone away.
    Unsent(BoxRequest),
    Failed(PeerError),
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
        let connection = connected?;
        self.multiplexed.store(Some(connection.clone()));
        Ok(Lease::Http2(connection))
    }

    async fn connect_http2(&self, session: Option<Session>) -> Result<Arc<Http2>, Failure> {
        let conn = self.connector.connect(session).await?;
        Http2::handshake(conn, &self.settings).await.map(Arc::new).map_err(io_failure)
    }

    fn running_http2(&self) -> Option<Lease> {
        let connection = self.multiplexed.load();
        let connection = connection.as_ref().filter(|connection| !connection.is_closed())?;
        Some(Lease::Http2(connection.clone()))
    }
}

fn io_failure(error: impl Display) -> Failure {
    Failure::Io(error.to_string())
}

impl Lease {
    /// The second part is the connection to give back when the response's body has ended.
    pub async fn send(self, request: BoxRequest) -> Result<(Response<Body>, Option<Reusable>), SendFailure> {
        match self {
            Self::Http1(mut reusable) => match reusable.sender.try_send_request(*request).await {
                Ok(response) => Ok((response.map(Body::incoming), Some(reusable))),
                Err(mut error) => Err(match error.take_message() {
                    Some(request) => SendFailure::Unsent(Box::new(request)),
                    None => SendFailure::Failed(error.into_error().into()),
                }),
            },
            Self::Http2(connection) => connection.send(request).await.map(|response| (response, None)),
        }
    }
}
