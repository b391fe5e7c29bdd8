//! Any bytes, as a signed statement: without the key, none of them registers anything.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tunnel::wire::registration::Statement;

fuzz_target!(|bytes: &[u8]| {
    let own = ["http://localhost:6519".parse().expect("a URL")];
    let verified = Statement::verify(bytes, &[7; 32], &own, 1_800_000_000);
    assert!(verified.is_err(), "a statement that nobody signed");
});
