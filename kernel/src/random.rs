//! Random numbers for programs: ChaCha20, keyed from the CPU's generator and the clock.
//!
//! After each request the key is replaced by output that nobody has seen, so that what was given
//! out cannot be found from the state later.

use crate::sync::Mutex;
pub use ringwall_rules::chacha::BLOCK;
use ringwall_rules::chacha::block;

/// The generator's key.
static KEY: Mutex<Option<[u32; 8]>> = Mutex::new(None);

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
