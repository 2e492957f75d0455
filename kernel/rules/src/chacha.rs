//! ChaCha20's block function (RFC 7539, 2.3).

/// Bytes of a block.
pub const BLOCK: usize = 64;

/// The block of a key for a counter and a nonce, 64 bits each, as in Bernstein's original.
pub fn block(key: &[u32; 8], counter: u64, nonce: u64) -> [u8; BLOCK] {
    let mut initial = [0; 16];
    initial[..4].copy_from_slice(&[0x6170_7865, 0x3320_646e, 0x7962_2d32, 0x6b20_6574]);
    initial[4..12].copy_from_slice(key);
    initial[12] = counter as u32;
    initial[13] = (counter >> 32) as u32;
    initial[14] = nonce as u32;
    initial[15] = (nonce >> 32) as u32;
    let mut state = initial;
    for _ in 0..10 {
        for column in 0..4 {
            quarter(&mut state, column, 4 + column, 8 + column, 12 + column);
        }
        for diagonal in 0..4 {
            quarter(
                &mut state,
                diagonal,
                4 + (diagonal + 1) % 4,
                8 + (diagonal + 2) % 4,
                12 + (diagonal + 3) % 4,
            );
        }
    }
    let mut bytes = [0; BLOCK];
    for (index, chunk) in bytes.chunks_exact_mut(4).enumerate() {
        chunk.copy_from_slice(&state[index].wrapping_add(initial[index]).to_le_bytes());
    }
    bytes
}

fn quarter(state: &mut [u32; 16], a: usize, b: usize, c: usize, d: usize) {
    for (first, second) in [(16, 12), (8, 7)] {
        state[a] = state[a].wrapping_add(state[b]);
        state[d] = (state[d] ^ state[a]).rotate_left(first);
        state[c] = state[c].wrapping_add(state[d]);
        state[b] = (state[b] ^ state[c]).rotate_left(second);
    }
}

#[cfg(test)]
mod tests {
    use super::block;

    /// RFC 7539, 2.3.2. Its 32-bit counter and 96-bit nonce are the same four words.
    #[test]
    fn test_vector() {
        let key = core::array::from_fn(|word| {
            let byte = word as u8 * 4;
            u32::from_le_bytes([byte, byte + 1, byte + 2, byte + 3])
        });
        let bytes = block(&key, 0x0900_0000 << 32 | 1, 0x4a00_0000);
        let begin = [
            0x10, 0xf1, 0xe7, 0xe4, 0xd1, 0x3b, 0x59, 0x15, 0x50, 0x0f, 0xdd, 0x1f, 0xa3, 0x20,
            0x71, 0xc4,
        ];
        let end = [
            0xb5, 0x12, 0x9c, 0xd1, 0xde, 0x16, 0x4e, 0xb9, 0xcb, 0xd0, 0x83, 0xe8, 0xa2, 0x50,
            0x3c, 0x4e,
        ];
        assert_eq!(bytes[..16], begin);
        assert_eq!(bytes[48..], end);
    }
}
