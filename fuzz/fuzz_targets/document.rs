//! Any text, as a frame from a client of the original's dialect: it is read or refused.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tunnel::wire::v1::{FromClient, MandateToken};

fuzz_target!(|text: &str| {
    if let Ok(FromClient::Register(request)) = FromClient::decode(text) {
        let own = ["http://localhost:6519".parse().expect("a URL")];
        let verified = MandateToken::verify(&request.mandate_token, &own, 1_800_000_000);
        assert!(verified.is_err(), "a token that nobody signed");
    }
});
