//! Any bytes, as a frame from a peer: they decode or are refused, and what decodes comes back the same.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use tunnel::wire::{Decoded, Limits, Message};

const LIMITS: Limits = Limits { headers: 32 };

fuzz_target!(|bytes: &[u8]| {
    if let Ok(Decoded::Message(message)) = Message::decode(Bytes::copy_from_slice(bytes), &LIMITS) {
        let again = Message::decode(message.encode(), &LIMITS);
        assert_eq!(again, Ok(Decoded::Message(message)));
    }
});
