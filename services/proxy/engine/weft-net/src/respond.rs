//! Answers the proxy gives itself (wire.md 5.7).

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, Version, header};
use weft_core::{
    failure::Failure,
    headers::{PROXY_CONNECTION, PROXY_ERROR, is_grpc},
    metrics::RouteOutcome,
};

use crate::{body::Body, peer_error::PeerError};

/// Why a request has no response from a server.
pub enum Ended {
    /// Answered by the proxy.
    Failed(Failure),
    /// Passed on as the stream error it was.
    Reset(PeerError),
}

impl Ended {
    /// native_http2: the client itself spoke HTTP/2, so it understands a reset.
    pub fn broken(error: PeerError, native_http2: bool) -> Self {
        if native_http2 && error.http2().is_some_and(|h2| h2.is_reset() && h2.is_remote()) {
            Self::Reset(error)
        } else {
            Self::Failed(Failure::Io(error.to_string()))
        }
    }

    /// What it counts as.
    pub fn status(&self) -> u16 {
        match self {
            Self::Failed(failure) => failure.status(),
            Self::Reset(_) => 502,
        }
    }

    /// The endpoint refused the stream before it looked at the request.
    pub fn is_refused(&self) -> bool {
        self.reason() == Some(h2::Reason::REFUSED_STREAM)
    }

    fn reason(&self) -> Option<h2::Reason> {
        match self {
            Self::Failed(_) => None,
            Self::Reset(error) => error.http2()?.reason(),
        }
    }

    /// The `error` label of the route families.
    pub fn route_label(&self) -> &'static str {
        match (self, self.reason()) {
            (Self::Failed(failure), _) => failure.route_label(),
            (_, Some(h2::Reason::CANCEL)) => "CANCEL",
            (_, Some(h2::Reason::REFUSED_STREAM)) => "REFUSED",
            (_, Some(h2::Reason::ENHANCE_YOUR_CALM)) => "ENHANCE_YOUR_CALM",
            _ => "RESET",
        }
    }

    /// What the route families count: a plain status where a filter answered, none where something failed.
    pub fn route_outcome(&self) -> RouteOutcome {
        let error = self.route_label();
        match self {
            Self::Failed(failure) if error.is_empty() => {
                RouteOutcome { http_status: Some(failure.status()), grpc_status: Some(failure.grpc_code()), error }
            }
            _ => RouteOutcome { http_status: None, grpc_status: None, error },
        }
    }
}

impl From<Failure> for Ended {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

/// How the client's connection shapes the answer.
#[derive(Clone, Debug)]
pub struct AnswerTo {
    version: Version,
    /// The content type of a gRPC call, which its answer has too.
    grpc: Option<HeaderValue>,
    informational: bool,
}

impl AnswerTo {
    /// informational: the client may see `l5d-proxy-*` headers.
    pub fn new<B>(request: &Request<B>, informational: bool) -> Self {
        let (version, headers) = (request.version(), request.headers());
        let is_grpc = version == Version::HTTP_2 && is_grpc(headers);
        let grpc = if is_grpc { headers.get(header::CONTENT_TYPE).cloned() } else { None };
        Self { version, grpc, informational }
    }

    pub fn answer(&self, failure: &Failure) -> Response<Body> {
        let mut response = Response::new(Body::full(Bytes::new()));
        let message = text(&failure.to_string());
        let headers = response.headers_mut();
        if let Some(content_type) = &self.grpc {
            headers.insert(header::CONTENT_TYPE, content_type.clone());
            headers.insert("grpc-status", HeaderValue::from(u16::from(failure.grpc_code())));
            headers.insert("grpc-message", message.clone());
        } else {
            headers.insert(header::CONTENT_LENGTH, HeaderValue::from_static("0"));
        }
        if self.informational {
            headers.insert(PROXY_ERROR, message);
        }
        if let Failure::Redirected { location, .. } = failure {
            headers.insert(header::LOCATION, text(location));
        }
        if failure.is_fatal() {
            self.close(headers);
        }
        if self.grpc.is_none() {
            *response.status_mut() =
                StatusCode::from_u16(failure.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        }
        response
    }

    fn close(&self, headers: &mut HeaderMap) {
        if self.informational {
            headers.insert(PROXY_CONNECTION, HeaderValue::from_static("close"));
        }
        if self.version == Version::HTTP_11 {
            headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
    }
}

/// Bytes that a header cannot hold become spaces.
pub fn text(message: &str) -> HeaderValue {
    let clean: String = message.chars().map(|c| if (' '..='~').contains(&c) { c } else { ' ' }).collect();
    HeaderValue::try_from(clean).unwrap_or_else(|_| HeaderValue::from_static("error"))
}
