//! Why bytes are no message.

/// A frame that is no message. The session that sent it ends.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The frame ends within an item.
    #[error("the message ends too early")]
    Truncated,
    /// Not CBOR, or CBOR that the protocol doesn't use.
    #[error("malformed CBOR at byte {at}")]
    Malformed {
        /// Offset in the frame, in bytes.
        at: usize,
    },
    /// The outermost item isn't a map.
    #[error("a message is a CBOR map")]
    NotAMap,
    /// The first key isn't the kind.
    #[error("a message begins with its kind, key 0")]
    NoKind,
    /// A value of another type than its key wants.
    #[error("the value at byte {at} should be {wanted}")]
    WrongType {
        /// Offset in the frame, in bytes.
        at: usize,
        /// The type in words.
        wanted: &'static str,
    },
    /// A text or a part is over its bound.
    #[error("the value at byte {at} is longer than {most} bytes")]
    TooLong {
        /// Offset in the frame, in bytes.
        at: usize,
        /// Bytes allowed.
        most: usize,
    },
    /// A head has more headers than allowed.
    #[error("more than {most} headers")]
    TooManyHeaders {
        /// Headers allowed.
        most: usize,
    },
    /// A header's name or value has characters that HTTP forbids.
    #[error("the header at byte {at} is not valid in HTTP")]
    BadHeader {
        /// Offset in the frame, in bytes.
        at: usize,
    },
    /// A key that the kind needs is missing.
    #[error("a message of kind {kind} needs key {key}")]
    Missing {
        /// The message's kind.
        kind: u64,
        /// The key.
        key: u64,
    },
    /// A key stands twice.
    #[error("key {key} stands twice")]
    Repeated {
        /// The key.
        key: u64,
    },
}
