//! Random numbers for programs: ChaCha20, keyed from the CPU's generator and the clock.
//!
//! After each request the key is replaced by output that nobody has seen, so that what was given
//! out cannot be found from the state later (RFC 7539 for the block function).

use spin::Mutex;

/// The generator's key.
static KEY: Mutex<Option<[u32; 8]>> = Mutex::new(None);

/// Bytes of a block.
pub const BLOCK: usize = 64;

/// One ChaCha20 block.
fn block(key: &[u32; 8], counter: u64, nonce: u64) -> [u8; BLOCK] {
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

/// A stream of random bytes that nobody else gets any of.
pub struct Stream {
    key: [u32; 8],
    counter: u64,
}

impl Stream {
    /// Takes a stream from the generator, which then has another key.
    pub fn new() -> Stream {
        let mut generator = KEY.lock();
        let key = generator.get_or_insert_with(|| {
            let mut key = [0; 8];
            for pair in key.chunks_exact_mut(2) {
                let seed = crate::arch::random::seed();
                pair.copy_from_slice(&[seed as u32, (seed >> 32) as u32]);
            }
            key
        });
        // The clock as nonce keeps two kernels with the same seed apart.
        let bytes = block(key, 0, crate::arch::clock::ticks());
        let word = |index: usize| {
            let mut word = [0; 4];
            word.copy_from_slice(&bytes[index * 4..index * 4 + 4]);
            u32::from_le_bytes(word)
        };
        *key = core::array::from_fn(word);
        Stream { key: core::array::from_fn(|index| word(8 + index)), counter: 0 }
    }

    /// The next block.
    pub fn next_block(&mut self) -> [u8; BLOCK] {
        let bytes = block(&self.key, self.counter, 0);
        self.counter += 1;
        bytes
    }
}

impl Default for Stream {
    fn default() -> Self {
        Stream::new()
    }
}

/// Fills kernel memory with random bytes.
pub fn fill(into: &mut [u8]) {
    let mut stream = Stream::new();
    for chunk in into.chunks_mut(BLOCK) {
        chunk.copy_from_slice(&stream.next_block()[..chunk.len()]);
    }
}
