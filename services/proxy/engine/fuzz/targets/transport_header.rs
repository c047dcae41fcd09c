//! What a peer writes ahead of its first byte: decoding never reads past what it says it consumed, and what was decoded
//! means the same when it is encoded again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use weft_core::transport_header::{Decoded, TransportHeader};

fuzz_target!(|bytes: &[u8]| {
    if let Decoded::Header { header, consumed } = TransportHeader::decode(bytes) {
        assert!(consumed <= bytes.len());
        assert!(header.port > 0);
        let again = header.encode();
        match TransportHeader::decode(&again) {
            Decoded::Header { header: same, consumed } => assert_eq!((same, consumed), (header, again.len())),
            other => panic!("{other:?}"),
        }
    }
});
