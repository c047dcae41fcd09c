//! Sockets of the data path: interception, TLS, HTTP, splicing, control tunnels, admin listener.

pub mod csr;
pub mod dns;
pub mod sockets;
pub mod tls;
pub mod tunnel;
