//! What travels between two nodes: messages of one link, several in one envelope, numbered so that a lost one is noticed.
//!
//! ```text
//! kind 1 | from 8 | link 8 | side 1 | number 8 | then, for each message: length 4, bytes
//! ```
//!
//! Numbers are big-endian. A bus may lose envelopes or deliver one twice; whoever reads them compares their numbers.

use bytes::{Buf, Bytes};

use super::{MAX_MESSAGE, NodeId};

/// Length of what stands before the messages.
const HEADER: usize = 26;

/// Where the number stands in it.
const NUMBER: usize = 18;

const MESSAGES: u8 = 1;
const RESET: u8 = 2;

/// Bytes of messages after which an envelope is full: enough to make the cost of each envelope small, and little enough that
/// others on the same connection don't wait long.
pub const FULL: usize = 256 * 1024;

/// Which end of a link wrote an envelope.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum End {
    /// The node that has the visitors, and opens exchanges.
    Opener = 0,
    /// The node that has the sessions, and answers.
    Acceptor = 1,
}

/// Names a link, and the end that speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Sender {
    /// The node that speaks.
    pub node: NodeId,
    /// The link's number; the node that opened it chose it.
    pub link: u64,
    /// The end of the link that speaks.
    pub end: End,
}

/// An envelope as it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Envelope {
    /// Who wrote it.
    pub sender: Sender,
    /// What it holds.
    pub content: Content,
}

/// What an envelope holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// Messages, and the envelope's place among those of its sender: 0, 1, 2, …
    Messages(u64, Messages),
    /// The sender has ended the link, or doesn't know it.
    Reset,
}

/// What was published is no envelope.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("what came from another node is no envelope: {0}")]
pub struct BadEnvelope(&'static str);

impl Envelope {
    /// Reads an envelope; its messages are slices of it.
    ///
    /// # Errors
    /// It is none, or one of another version.
    pub fn decode(mut bytes: Bytes) -> Result<Self, BadEnvelope> {
        if bytes.len() < HEADER {
            return Err(BadEnvelope("it is too short"));
        }
        let kind = bytes.get_u8();
        let (node, link) = (NodeId(bytes.get_u64()), bytes.get_u64());
        let end = match bytes.get_u8() {
            0 => End::Opener,
            1 => End::Acceptor,
            _ => return Err(BadEnvelope("it is of neither end")),
        };
        let number = bytes.get_u64();
        let content = match kind {
            MESSAGES => Content::Messages(number, Messages(bytes)),
            RESET => Content::Reset,
            _ => return Err(BadEnvelope("it is of an unknown kind")),
        };
        Ok(Self { sender: Sender { node, link, end }, content })
    }

    /// The envelope that ends a link.
    pub fn reset(sender: Sender) -> Vec<u8> {
        header(RESET, sender, HEADER)
    }
}

/// The messages of an envelope, one by one.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Messages(Bytes);

impl Iterator for Messages {
    type Item = Result<Bytes, BadEnvelope>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let length = self.0.try_get_u32().ok().and_then(|length| usize::try_from(length).ok());
        let whole = length.filter(|length| *length <= self.0.len().min(MAX_MESSAGE));
        let Some(length) = whole else {
            self.0.clear();
            return Some(Err(BadEnvelope("a message in it is cut off or too long")));
        };
        Some(Ok(self.0.split_to(length)))
    }
}

/// An envelope that is being filled.
#[derive(Debug)]
pub struct Batch {
    sender: Sender,
    bytes: Vec<u8>,
    messages: usize,
    next: u64,
}

impl Batch {
    /// The first envelope of this sender, still empty.
    pub fn new(sender: Sender) -> Self {
        Self { sender, bytes: header(MESSAGES, sender, HEADER), messages: 0, next: 0 }
    }

    /// Puts in a message.
    pub fn push(&mut self, message: &[u8]) {
        let length = u32::try_from(message.len()).expect("a message has its limit");
        self.bytes.extend_from_slice(&length.to_be_bytes());
        self.bytes.extend_from_slice(message);
        self.messages += 1;
    }

    /// Messages in it.
    pub fn messages(&self) -> usize {
        self.messages
    }

    /// Whether the next message should wait for the next envelope.
    pub fn is_full(&self) -> bool {
        self.bytes.len() >= FULL
    }

    /// Closes the envelope, and begins the next one.
    pub fn close(&mut self) -> Vec<u8> {
        self.bytes[NUMBER..HEADER].copy_from_slice(&self.next.to_be_bytes());
        self.next += 1;
        self.messages = 0;
        std::mem::replace(&mut self.bytes, header(MESSAGES, self.sender, HEADER))
    }
}

fn header(kind: u8, sender: Sender, capacity: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(capacity);
    bytes.push(kind);
    bytes.extend_from_slice(&sender.node.0.to_be_bytes());
    bytes.extend_from_slice(&sender.link.to_be_bytes());
    bytes.push(sender.end as u8);
    bytes.extend_from_slice(&0u64.to_be_bytes());
    bytes
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SENDER: Sender = Sender { node: NodeId(0x0102), link: 3, end: End::Acceptor };

    #[test]
    fn golden_bytes() {
        let mut batch = Batch::new(SENDER);
        batch.push(b"a");
        batch.close();
        batch.push(b"hi");
        batch.push(b"");
        let hex: String = batch.close().iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(
            hex,
            "01000000000000010200000000000000030100000000000000010000000268690000".to_owned() + "0000"
        );
        let reset = Envelope::decode(Envelope::reset(SENDER).into()).unwrap();
        assert_eq!(reset, Envelope { sender: SENDER, content: Content::Reset });
    }

    #[test]
    fn what_is_cut_off_is_an_error_and_the_end() {
        let mut batch = Batch::new(SENDER);
        batch.push(b"whole");
        batch.push(b"broken");
        let mut bytes = batch.close();
        bytes.pop();
        let Content::Messages(0, mut messages) = Envelope::decode(bytes.into()).unwrap().content else {
            panic!()
        };
        assert_eq!(messages.next().unwrap().unwrap(), "whole");
        assert!(messages.next().unwrap().is_err());
        assert!(messages.next().is_none());
    }

    proptest! {
        #[test]
        fn messages_come_out_as_they_went_in(
            batches in prop::collection::vec(prop::collection::vec(prop::collection::vec(any::<u8>(), 0..50), 0..5), 1..4)
        ) {
            let mut batch = Batch::new(SENDER);
            for (number, written) in (0..).zip(&batches) {
                for message in written {
                    batch.push(message);
                }
                prop_assert_eq!(batch.messages(), written.len());
                let envelope = Envelope::decode(batch.close().into()).unwrap();
                prop_assert_eq!(envelope.sender, SENDER);
                let Content::Messages(read, messages) = envelope.content else { panic!("a reset") };
                prop_assert_eq!(read, number);
                let messages: Vec<_> = messages.map(|message| message.unwrap().to_vec()).collect();
                prop_assert_eq!(&messages, written);
            }
        }

        #[test]
        fn anything_is_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            if let Ok(Envelope { content: Content::Messages(_, messages), .. }) = Envelope::decode(bytes.into()) {
                for message in messages {
                    let _ = message;
                }
            }
        }
    }
}
