//! A ClientHello that may be anything: more bytes never turn an answer into another.
#![no_main]

use libfuzzer_sys::fuzz_target;
use weft_core::tls_peek::{Hello, client_hello};

fuzz_target!(|bytes: &[u8]| {
    let whole = client_hello(bytes);
    let (half, _) = bytes.split_at(bytes.len() / 2);
    match client_hello(half) {
        Hello::Incomplete => {}
        told => assert_eq!(told, whole),
    }
});
