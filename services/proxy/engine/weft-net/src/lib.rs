//! Sockets of the data path. In progress: the modules in this folder that are not named here wait for the proxy type that
//! connects them; docs/compatibility.md says so.

pub mod orig_dst;
pub mod splice;
