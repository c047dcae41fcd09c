//! The wire contracts as prost messages: `linkerd::*` as other proxies speak them, `engine` as Python speaks to us.
//! Owns no behaviour; everything here is generated from `proto/` when the crate is built.
#![forbid(unsafe_code)]
#![allow(clippy::all, deprecated)]

include!(concat!(env!("OUT_DIR"), "/all.rs"));

pub use io::linkerd::proxy as linkerd;
pub use weft::decision::v1 as decision;
pub use weft::engine::v1 as engine;
