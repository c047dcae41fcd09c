//! Decisions of the data path, as values and functions: no sockets, no runtime, no clock, no Python.
//! Snapshots arrive as wire messages and are compiled here once into the form that requests are matched against.
#![forbid(unsafe_code)]

pub mod access_log;
pub mod adaptive_window;
pub mod addr;
pub mod backoff;
pub mod balance;
pub mod breaker;
pub mod budget;
pub mod detect;
pub mod endpoint;
pub mod explain;
pub mod failure;
pub mod filters;
pub mod gateway;
pub mod headers;
pub mod http2_params;
pub mod inbound;
pub mod ingress;
pub mod logical_name;
pub mod meta;
pub mod metrics;
pub mod orig_proto;
pub mod outbound;
pub mod profile;
pub mod rate_limit;
pub mod route;
pub mod settings;
pub mod span;
pub mod tap;
pub mod tls_peek;
pub mod trace_context;
pub mod transport_header;
