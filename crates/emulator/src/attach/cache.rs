//! Blocks of memory that were read and may be wanted again, least recently used ones forgotten first.

use std::collections::HashMap;

/// The blocks, by the physical address that they begin at.
#[derive(Debug, Default)]
pub(super) struct Cache {
    blocks: HashMap<u64, Block>,
    bytes: usize,
    /// Counts uses.
    now: u64,
}

#[derive(Debug)]
struct Block {
    bytes: Box<[u8]>,
    used: u64,
}

impl Cache {
    /// Most bytes that are kept.
    pub const MOST: usize = 64 << 20;

    /// The block that begins at `start`.
    pub fn get(&mut self, start: u64) -> Option<&[u8]> {
        self.now += 1;
        let block = self.blocks.get_mut(&start)?;
        block.used = self.now;
        Some(&block.bytes)
    }

    /// Keeps a block, and forgets old ones if it has to.
    pub fn insert(&mut self, start: u64, bytes: Box<[u8]>) {
        self.now += 1;
        self.bytes += bytes.len();
        let block = Block { bytes, used: self.now };
        self.bytes -= self.blocks.insert(start, block).map_or(0, |old| old.bytes.len());
        while self.bytes > Cache::MOST {
            let oldest = self.blocks.iter().min_by_key(|(_, block)| block.used);
            let Some(oldest) = oldest.map(|(start, _)| *start) else { return };
            self.bytes -= self.blocks.remove(&oldest).map_or(0, |block| block.bytes.len());
        }
    }

    /// Forgets everything: the guest has run.
    pub fn clear(&mut self) {
        *self = Cache::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_recently_used_block_goes() {
        let mut cache = Cache::default();
        let third = || vec![7; Cache::MOST / 3].into_boxed_slice();
        for start in 0..3 {
            cache.insert(start, third());
        }
        assert!(cache.get(0).is_some());
        cache.insert(3, third());
        let kept: Vec<bool> = (0..4).map(|start| cache.get(start).is_some()).collect();
        assert_eq!(kept, [true, false, true, true]);
        assert!(cache.bytes <= Cache::MOST);
        cache.insert(3, Box::new([1]));
        assert_eq!(cache.bytes, 2 * (Cache::MOST / 3) + 1);
        cache.clear();
        assert!(cache.get(0).is_none());
    }
}
