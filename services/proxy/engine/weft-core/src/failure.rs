//! Failures the proxy answers itself: their status, gRPC code, and whether the connection ends (wire.md 5.7).

use std::fmt;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    NoRoute,
    Unauthorized,
    GatewayDomain,
    GatewayLoop,
    FailFast,
    LoadShed,
    ConnectTimeout,
    Io(String),
    BackendUnusable(String),
    Injected { status: u16, message: String },
    InjectedGrpc { code: u8, message: String },
    InvalidRequest(&'static str),
    InvalidPolicy(String),
}

impl Failure {
    pub fn status(&self) -> u16 {
        match self {
            Self::NoRoute | Self::GatewayDomain => 404,
            Self::Unauthorized => 403,
            Self::GatewayLoop => 508,
            Self::FailFast | Self::ConnectTimeout => 504,
            Self::LoadShed => 503,
            Self::Io(_) | Self::BackendUnusable(_) => 502,
            Self::Injected { status, .. } => *status,
            // Meant for gRPC routes; a plain HTTP client on one sees a server error.
            Self::InjectedGrpc { .. } | Self::InvalidPolicy(_) => 500,
            Self::InvalidRequest(_) => 400,
        }
    }

    pub fn grpc_code(&self) -> u8 {
        match self {
            Self::NoRoute | Self::GatewayDomain => 5,
            Self::Unauthorized => 7,
            Self::GatewayLoop => 10,
            Self::FailFast | Self::ConnectTimeout => 4,
            Self::LoadShed | Self::Io(_) | Self::BackendUnusable(_) => 14,
            Self::Injected { .. } => 9,
            Self::InjectedGrpc { code, .. } => *code,
            Self::InvalidRequest(_) => 3,
            Self::InvalidPolicy(_) => 13,
        }
    }

    /// Fatal failures also end the client's connection, so that it may reach another proxy.
    pub fn is_fatal(&self) -> bool {
        match self {
            Self::NoRoute
            | Self::Unauthorized
            | Self::GatewayDomain
            | Self::Injected { .. }
            | Self::InjectedGrpc { .. } => false,
            Self::GatewayLoop
            | Self::FailFast
            | Self::LoadShed
            | Self::ConnectTimeout
            | Self::Io(_)
            | Self::BackendUnusable(_)
            | Self::InvalidRequest(_)
            | Self::InvalidPolicy(_) => true,
        }
    }

    /// The `error` label of the error counters; None for outcomes of policy, which have counters of their own.
    pub fn metric_label(&self) -> Option<&'static str> {
        match self {
            Self::NoRoute | Self::Unauthorized | Self::Injected { .. } | Self::InjectedGrpc { .. } => None,
            Self::GatewayDomain => Some("gateway domain invalid"),
            Self::GatewayLoop => Some("gateway loop"),
            Self::FailFast => Some("failfast"),
            Self::LoadShed => Some("loadshed"),
            Self::Io(_) | Self::ConnectTimeout => Some("i/o"),
            Self::BackendUnusable(_) | Self::InvalidRequest(_) | Self::InvalidPolicy(_) => Some("unexpected"),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoRoute => f.write_str("no route found for request"),
            Self::Unauthorized => f.write_str("client not authorized"),
            Self::GatewayDomain => f.write_str("not found"),
            Self::GatewayLoop => f.write_str("gateway loop detected"),
            Self::FailFast => f.write_str("no ready endpoint: fail fast"),
            Self::LoadShed => f.write_str("load shed"),
            Self::ConnectTimeout => f.write_str("connect timed out"),
            Self::Io(reason) => write!(f, "endpoint connection failed: {reason}"),
            Self::BackendUnusable(reason) => write!(f, "backend cannot be used: {reason}"),
            Self::Injected { message, .. } | Self::InjectedGrpc { message, .. } => f.write_str(message),
            Self::InvalidRequest(reason) => f.write_str(reason),
            Self::InvalidPolicy(reason) => write!(f, "invalid policy: {reason}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_failure_has_the_status_and_code_of_the_contract() {
        let table = [
            (Failure::NoRoute, 404, 5, false),
            (Failure::Unauthorized, 403, 7, false),
            (Failure::GatewayDomain, 404, 5, false),
            (Failure::GatewayLoop, 508, 10, true),
            (Failure::FailFast, 504, 4, true),
            (Failure::LoadShed, 503, 14, true),
            (Failure::ConnectTimeout, 504, 4, true),
            (Failure::Io("reset".into()), 502, 14, true),
            (Failure::BackendUnusable("none".into()), 502, 14, true),
            (Failure::Injected { status: 418, message: String::new() }, 418, 9, false),
            (Failure::InvalidPolicy("x".into()), 500, 13, true),
        ];
        for (failure, status, code, fatal) in table {
            assert_eq!((failure.status(), failure.grpc_code(), failure.is_fatal()), (status, code, fatal), "{failure}");
        }
    }
}
