//! Any bytes, as a body in chunks and what follows it: what the machine lets through is read alike by everybody. The first
//! byte says how much comes at a time.
#![no_main]

mod reading;

use libfuzzer_sys::fuzz_target;

const HEAD: &[u8] = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";

fuzz_target!(|bytes: &[u8]| {
    if let Some((&at_once, bytes)) = bytes.split_first() {
        reading::check(&[HEAD, bytes].concat(), usize::from(at_once));
    }
});
