//! Opens connections to one place: TCP, mesh TLS with the exact peer, and the transport header where the peer wants it.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use bytes::BytesMut;
use rustls::pki_types::ServerName;
use tokio::{io::AsyncWriteExt, net::TcpStream, time::timeout};
use tokio_rustls::TlsConnector;
use weft_core::{
    endpoint::ServerId,
    failure::Failure,
    settings::KeepAliveSettings,
    transport_header::{Session, TransportHeader},
};

use crate::{
    conn::{Conn, Rewound, Transport, tune},
    identity::IdentityStore,
    metrics::TransportMetrics,
};

/// Port and, behind a gateway, name that a transport header carries.
#[derive(Clone, Debug)]
pub struct HeaderTarget {
    pub port: u16,
    pub name: Option<String>,
}

pub struct Connector {
    pub addr: SocketAddr,
    pub tls: Option<ServerId>,
    pub header: Option<HeaderTarget>,
    /// Covers TCP; the TLS handshake gets as long again, at least a second.
    pub timeout: Duration,
    pub keepalive: KeepAliveSettings,
    pub metrics: Option<Arc<TransportMetrics>>,
    pub identity: Arc<IdentityStore>,
}

const SHORTEST_HANDSHAKE: Duration = Duration::from_secs(1);

impl Connector {
    pub async fn connect(&self, session: Option<Session>) -> Result<Conn, Failure> {
        let mut conn = self.open().await?;
        if let (Some(_), Some(target)) = (&self.tls, &self.header) {
            let header = TransportHeader { port: target.port, name: target.name.clone(), session };
            conn.write_all(&header.encode()).await.map_err(|e| self.io_failure(e))?;
            conn.flush().await.map_err(|e| self.io_failure(e))?;
        }
        Ok(conn)
    }

    /// A connection on which nothing was said yet.
    pub async fn open(&self) -> Result<Conn, Failure> {
        let connecting = timeout(self.timeout, TcpStream::connect(self.addr)).await;
        let stream = connecting.map_err(|_| Failure::ConnectTimeout)?.map_err(|e| self.io_failure(e))?;
        tune(&stream, self.keepalive.keepalive, self.keepalive.user_timeout);
        let Some(server) = &self.tls else {
            return Ok(self.measured(Conn::new(Transport::Plain(Rewound { seen: BytesMut::new(), io: stream }))));
        };
        let config = self.identity.client_config(server, self.header.is_some()).map_err(Failure::Io)?;
        let name = ServerName::try_from(server.sni.to_string())
            .map_err(|_| Failure::Io(format!("{:?} is not a server name", server.sni)))?;
        let handshake = TlsConnector::from(config).connect(name, stream);
        let tls = timeout(self.timeout.max(SHORTEST_HANDSHAKE), handshake).await;
        let tls = tls.map_err(|_| Failure::ConnectTimeout)?.map_err(|e| self.io_failure(e))?;
        Ok(self.measured(Conn::new(Transport::ClientTls(Box::new(tls)))))
    }

    fn io_failure(&self, error: io::Error) -> Failure {
        Failure::Io(format!("{}: {error}", self.addr))
    }

    fn measured(&self, mut conn: Conn) -> Conn {
        if let Some(metrics) = &self.metrics {
            conn.measure(metrics.clone());
        }
        conn
    }
}
