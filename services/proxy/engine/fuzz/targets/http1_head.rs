//! The first bytes of a connection: whatever they are, they are told apart, and once the first line is whole nothing
//! behind it changes the verdict.
#![no_main]

use libfuzzer_sys::fuzz_target;
use weft_core::detect::{Detected, protocol_of};

fuzz_target!(|bytes: &[u8]| {
    let whole = protocol_of(bytes);
    let line = bytes.split(|b| *b == b'\n').next().unwrap_or_default();
    if whole == Detected::Http1 {
        // It begins with a method: no control byte before the first space.
        assert!(line.iter().take_while(|b| **b != b' ').all(|b| b.is_ascii_graphic()));
    }
    // Anything shorter is no HTTP yet.
    if bytes.len() >= b"PRI * HTTP/2.0".len() && line.len() < bytes.len() {
        assert_eq!(protocol_of(&[bytes, b" HTTP/1.1\r\n\r\n"].concat()), whole);
    }
});
