//! The masking of client frames (RFC 6455 section 5.3); the same operation takes the mask off again.

/// Combines `bytes` with the masking key, eight bytes at a time.
pub(super) fn apply(bytes: &mut [u8], key: [u8; 4]) {
    let [a, b, c, d] = key;
    let wide = u64::from_ne_bytes([a, b, c, d, a, b, c, d]);
    let (words, rest) = bytes.as_chunks_mut::<8>();
    for word in words {
        *word = (u64::from_ne_bytes(*word) ^ wide).to_ne_bytes();
    }
    for (byte, key) in rest.iter_mut().zip(key.into_iter().cycle()) {
        *byte ^= key;
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
        apply(&mut bytes, [0x37, 0xfa, 0x21, 0x3d]);
        assert_eq!(bytes, [0x7f, 0x9f, 0x4d, 0x51, 0x58]);
    }

    proptest! {
        #[test]
        fn equals_the_definition_and_undoes_itself(bytes: Vec<u8>, key: [u8; 4]) {
            let mut masked = bytes.clone();
            apply(&mut masked, key);
            let plain: Vec<u8> = bytes.iter().enumerate().map(|(i, byte)| byte ^ key[i % 4]).collect();
            prop_assert_eq!(&masked, &plain);
            apply(&mut masked, key);
            prop_assert_eq!(masked, bytes);
        }
    }
}
