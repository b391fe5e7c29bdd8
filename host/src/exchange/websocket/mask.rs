//! The masking of client frames (RFC 6455 section 5.3); the same operation takes the mask off again.

use bytes::BytesMut;

/// Bytes that are copied and then masked while they are still at hand.
const AT_HAND: usize = 8 * 1024;

/// A frame's masking key, as far as the frame has been masked with it.
pub(super) struct Mask(u32);

impl Mask {
    /// A key at the beginning of its frame.
    pub(super) fn new(key: [u8; 4]) -> Self {
        Self(u32::from_ne_bytes(key))
    }

    /// Combines the next `bytes` of the frame with the key, eight at a time.
    pub(super) fn apply(&mut self, bytes: &mut [u8]) {
        let [a, b, c, d] = self.0.to_ne_bytes();
        let wide = u64::from_ne_bytes([a, b, c, d, a, b, c, d]);
        let (words, rest) = bytes.as_chunks_mut::<8>();
        for word in words {
            *word = (u64::from_ne_bytes(*word) ^ wide).to_ne_bytes();
        }
        let mut key = [a, b, c, d];
        for (byte, key) in rest.iter_mut().zip(key.into_iter().cycle()) {
            *byte ^= key;
        }
        key.rotate_left(rest.len() % 4);
        self.0 = u32::from_ne_bytes(key);
    }

    /// The same into other memory.
    pub(super) fn copy(&mut self, bytes: &[u8], to: &mut BytesMut) {
        for block in bytes.chunks(AT_HAND) {
            let start = to.len();
            to.extend_from_slice(block);
            self.apply(&mut to[start..]);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn masks_as_the_example_of_rfc_6455() {
        // Section 5.7: a masked "Hello".
        let mut bytes = *b"Hello";
        Mask::new([0x37, 0xfa, 0x21, 0x3d]).apply(&mut bytes);
        assert_eq!(bytes, [0x7f, 0x9f, 0x4d, 0x51, 0x58]);
    }

    proptest! {
        #[test]
        fn equals_the_definition_and_undoes_itself(pieces: Vec<Vec<u8>>, key: [u8; 4]) {
            let bytes = pieces.concat();
            let plain: Vec<u8> = bytes.iter().enumerate().map(|(i, byte)| byte ^ key[i % 4]).collect();
            let mut masked = BytesMut::new();
            let mut mask = Mask::new(key);
            for piece in &pieces {
                mask.copy(piece, &mut masked);
            }
            prop_assert_eq!(&masked, &plain);
            Mask::new(key).apply(&mut masked);
            prop_assert_eq!(&masked[..], bytes);
        }
    }
}
