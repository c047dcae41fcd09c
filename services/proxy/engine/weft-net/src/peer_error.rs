//! How the other side of an HTTP connection broke off.

use std::{error::Error, fmt};

#[derive(Debug)]
pub enum PeerError {
    /// Clients of either version, and servers of HTTP/1.
    Hyper(hyper::Error),
    /// Servers of HTTP/2.
    Http2(h2::Error),
    /// A server of HTTP/2 that left a ping without an answer.
    Silent,
}

impl PeerError {
    /// None where HTTP/2 does not say more.
    pub fn http2(&self) -> Option<&h2::Error> {
        match self {
            Self::Hyper(error) => error.source()?.downcast_ref(),
            Self::Http2(error) => Some(error),
            Self::Silent => None,
        }
    }
}

impl fmt::Display for PeerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Hyper(error) => error.fmt(f),
            Self::Http2(error) => error.fmt(f),
            Self::Silent => f.write_str("it left a keep-alive ping without an answer"),
        }
    }
}

impl Error for PeerError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        // The error itself: hyper answers a stream with the reason of the HTTP/2 error that it finds below its own.
        match self {
            Self::Hyper(error) => Some(error),
            Self::Http2(error) => Some(error),
            Self::Silent => None,
        }
    }
}

impl From<hyper::Error> for PeerError {
    fn from(error: hyper::Error) -> Self {
        Self::Hyper(error)
    }
}

impl From<h2::Error> for PeerError {
    fn from(error: h2::Error) -> Self {
        Self::Http2(error)
    }
}
