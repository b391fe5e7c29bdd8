//! Any bytes, as a visitor's connection: what the machine lets through is read alike by everybody, however it comes. The first
//! byte says how much comes at a time.
#![no_main]

mod reading;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Some((&at_once, bytes)) = bytes.split_first() {
        reading::check(bytes, usize::from(at_once));
    }
});
