//! Any bytes, as what another node published: an envelope is read, message by message, or refused; and its messages put into
//! an envelope again are the same.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use tunnel::wire::envelope::{Batch, Content, Envelope};

fuzz_target!(|bytes: &[u8]| {
    let Ok(Envelope { sender, content: Content::Messages(_, messages) }) =
        Envelope::decode(Bytes::copy_from_slice(bytes))
    else {
        return;
    };
    let mut whole: Vec<_> = messages.collect();
    let cut_off = whole.iter().position(Result::is_err);
    assert!(cut_off.is_none_or(|at| at + 1 == whole.len()), "nothing is read behind a mistake");
    whole.truncate(cut_off.unwrap_or(whole.len()));
    let mut batch = Batch::new(sender);
    for message in whole.iter().flatten() {
        batch.push(message);
    }
    let Ok(Envelope { content: Content::Messages(_, again), .. }) = Envelope::decode(batch.close().into())
    else {
        panic!("an envelope of our own isn't read");
    };
    assert_eq!(again.collect::<Vec<_>>(), whole);
});
