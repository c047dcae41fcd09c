//! Sockets of the data path. Decisions come from `weft_core`; facts come from Python as commands, questions go to it as
//! events.

mod accept;
mod admin;
mod admission;
mod attempt;
mod balancer;
mod balancer_metrics;
mod body;
mod cache;
mod client;
mod conn;
mod connect;
mod control;
mod deadlines;
mod discovery;
mod dns;
mod drain;
mod endpoint;
mod engine;
mod events;
mod exchange;
mod gateway;
mod identity;
mod inbound;
mod inbound_http;
mod listen;
mod metrics;
mod orig_dst;
mod outbound;
mod outbound_http;
mod ports;
mod process;
mod proxy;
mod replay;
mod respond;
mod retry;
mod routing;
mod running;
mod serve;
mod slow_head;
mod splice;
mod targets;
mod upgrade;
mod watch;

pub use engine::{CommandError, Engine};
pub use identity::{generate_key_and_csr, verify_leaf};
