//! Failures the proxy answers itself: their status, gRPC code, and whether the connection ends (wire.md 5.7).

use std::fmt;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    NoRoute,
    Unauthorized,
    /// By a local rate limit.
    RateLimited,
    GatewayDomain,
    GatewayLoop,
    FailFast,
    LoadShed,
    ConnectTimeout,
    Io(String),
    BackendUnusable(String),
    Injected {
        status: u16,
        message: String,
    },
    InjectedGrpc {
        code: u8,
        message: String,
    },
    Redirected {
        status: u16,
        location: String,
    },
    /// A limit of the route's policy ran out.
    TimedOut(Expired),
    /// A ServiceProfile route's timeout ran out.
    ProfileTimeout,
    /// The endpoint is not who `l5d-require-id` asks for.
    IdentityRequired {
        required: String,
        found: String,
    },
    InvalidRequest(&'static str),
    InvalidPolicy(String),
}

/// Which limit of a route ran out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expired {
    /// The whole exchange, retries included.
    Request,
    /// One try's wait for response headers.
    ResponseHeaders,
    /// The response, from the time the request was sent.
    Response,
    /// No data in either direction.
    Idle,
}

impl Failure {
    pub fn status(&self) -> u16 {
        match self {
            Self::NoRoute | Self::GatewayDomain => 404,
            Self::Unauthorized => 403,
            Self::RateLimited => 429,
            Self::GatewayLoop => 508,
            Self::FailFast | Self::ConnectTimeout | Self::TimedOut(_) | Self::ProfileTimeout => 504,
            Self::LoadShed => 503,
            Self::Io(_) | Self::BackendUnusable(_) | Self::IdentityRequired { .. } => 502,
            Self::Injected { status, .. } | Self::Redirected { status, .. } => *status,
            // Meant for gRPC routes; a plain HTTP client on one sees a server error.
            Self::InjectedGrpc { .. } | Self::InvalidPolicy(_) => 500,
            Self::InvalidRequest(_) => 400,
        }
    }

    pub fn grpc_code(&self) -> u8 {
        match self {
            Self::NoRoute | Self::GatewayDomain | Self::Redirected { .. } => 5,
            Self::Unauthorized => 7,
            Self::RateLimited => 8,
            Self::GatewayLoop => 10,
            Self::FailFast | Self::ConnectTimeout | Self::TimedOut(_) | Self::ProfileTimeout => 4,
            Self::LoadShed | Self::Io(_) | Self::BackendUnusable(_) | Self::IdentityRequired { .. } => 14,
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
            | Self::RateLimited
            | Self::GatewayDomain
            | Self::Injected { .. }
            | Self::InjectedGrpc { .. }
            | Self::Redirected { .. }
            | Self::TimedOut(_) => false,
            Self::GatewayLoop
            | Self::FailFast
            | Self::LoadShed
            | Self::ConnectTimeout
            | Self::Io(_)
            | Self::BackendUnusable(_)
            | Self::ProfileTimeout
            | Self::IdentityRequired { .. }
            | Self::InvalidRequest(_)
            | Self::InvalidPolicy(_) => true,
        }
    }

    /// The `error` label of the error counters; None for outcomes of policy, which have counters of their own.
    pub fn metric_label(&self) -> Option<&'static str> {
        match self {
            Self::NoRoute
            | Self::Unauthorized
            | Self::RateLimited
            | Self::Injected { .. }
            | Self::InjectedGrpc { .. }
            | Self::Redirected { .. } => None,
            Self::TimedOut(_) | Self::ProfileTimeout => Some("response timeout"),
            Self::IdentityRequired { .. } => Some("identity required"),
            Self::GatewayDomain => Some("gateway domain invalid"),
            Self::GatewayLoop => Some("gateway loop"),
            Self::FailFast => Some("failfast"),
            Self::LoadShed => Some("loadshed"),
            Self::Io(_) | Self::ConnectTimeout => Some("i/o"),
            Self::BackendUnusable(_) | Self::InvalidRequest(_) | Self::InvalidPolicy(_) => Some("unexpected"),
        }
    }

    /// The `error` label of the route families; empty for what those count as a plain status.
    pub fn route_label(&self) -> &'static str {
        match self {
            Self::NoRoute | Self::Injected { .. } | Self::InjectedGrpc { .. } | Self::Redirected { .. } => "",
            Self::FailFast => "FAIL_FAST",
            Self::LoadShed => "LOAD_SHED",
            Self::TimedOut(Expired::Request) | Self::ProfileTimeout => "REQUEST_TIMEOUT",
            Self::TimedOut(Expired::ResponseHeaders) => "RESPONSE_HEADERS_TIMEOUT",
            Self::TimedOut(Expired::Response) => "RESPONSE_STREAM_TIMEOUT",
            Self::TimedOut(Expired::Idle) => "IDLE_TIMEOUT",
            Self::Io(_) | Self::ConnectTimeout => "IO",
            Self::Unauthorized
            | Self::RateLimited
            | Self::GatewayDomain
            | Self::GatewayLoop
            | Self::BackendUnusable(_)
            | Self::IdentityRequired { .. }
            | Self::InvalidRequest(_)
            | Self::InvalidPolicy(_) => "UNKNOWN",
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoRoute => f.write_str("no route found for request"),
            Self::Unauthorized => f.write_str("client not authorized"),
            Self::RateLimited => f.write_str("rate limit exceeded"),
            Self::GatewayDomain => f.write_str("not found"),
            Self::GatewayLoop => f.write_str("gateway loop detected"),
            Self::FailFast => f.write_str("no ready endpoint: fail fast"),
            Self::LoadShed => f.write_str("load shed"),
            Self::ConnectTimeout => f.write_str("connect timed out"),
            Self::Io(reason) => write!(f, "endpoint connection failed: {reason}"),
            Self::BackendUnusable(reason) => write!(f, "backend cannot be used: {reason}"),
            Self::Injected { message, .. } | Self::InjectedGrpc { message, .. } => f.write_str(message),
            Self::Redirected { location, .. } => write!(f, "redirected to {location}"),
            Self::TimedOut(expired) => expired.fmt(f),
            Self::ProfileTimeout => f.write_str("request timed out"),
            Self::IdentityRequired { required, found } => {
                write!(f, "request required the identity {required:?}; connection has {found:?}")
            }
            Self::InvalidRequest(reason) => f.write_str(reason),
            Self::InvalidPolicy(reason) => write!(f, "invalid policy: {reason}"),
        }
    }
}

impl fmt::Display for Expired {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Request => "request timed out",
            Self::ResponseHeaders => "response headers timed out",
            Self::Response => "response timed out",
            Self::Idle => "stream idled out",
        })
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
            (Failure::RateLimited, 429, 8, false),
            (Failure::GatewayDomain, 404, 5, false),
            (Failure::GatewayLoop, 508, 10, true),
            (Failure::FailFast, 504, 4, true),
            (Failure::LoadShed, 503, 14, true),
            (Failure::ConnectTimeout, 504, 4, true),
            (Failure::Io("reset".into()), 502, 14, true),
            (Failure::BackendUnusable("none".into()), 502, 14, true),
            (Failure::Injected { status: 418, message: String::new() }, 418, 9, false),
            (Failure::Redirected { status: 302, location: "http://a/".into() }, 302, 5, false),
            (Failure::TimedOut(Expired::Idle), 504, 4, false),
            (Failure::ProfileTimeout, 504, 4, true),
            (Failure::IdentityRequired { required: "a".into(), found: "b".into() }, 502, 14, true),
            (Failure::InvalidPolicy("x".into()), 500, 13, true),
        ];
        for (failure, status, code, fatal) in table {
            assert_eq!((failure.status(), failure.grpc_code(), failure.is_fatal()), (status, code, fatal), "{failure}");
        }
    }
}
