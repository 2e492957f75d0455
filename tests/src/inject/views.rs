//! What the stack page shows to ring 3 after a trip: no root's physical address and no kernel-only pointer.

use ringwall_emulator::{CpuState, GuestMemory};

use super::{PAIR_BITS, Watch};

const PAGE: u64 = 4096;
/// First address of the kernel's half.
pub(super) const KERNEL_HALF: u64 = 0xffff_8000_0000_0000;

impl Watch {
    /// Checks the user view of the stack page. The CPU is in ring 3.
    pub(super) fn check_view(&mut self, state: &CpuState, what: &str) {
        // An open process's ring 3 is under the kernel root, and what it shows is no user view.
        if self.isolated && !self.under_user_root(state) {
            return;
        }
        let base = state.kernel_gs_base;
        let bytes = self.stub().read(base, PAGE as usize).expect("a stub that answers");
        let bytes = bytes.unwrap_or_else(|| panic!("the stack page at {base:#x} is not mapped"));
        // What a program has put into a register says nothing to it.
        let is_own = |word: u64| state.general.contains(&word);
        for (index, word) in bytes.as_chunks::<8>().0.iter().enumerate() {
            let word = u64::from_le_bytes(*word);
            let place = format!("way {}: after {what} the stack page + {:#x}", self.way, index * 8);
            assert!(
                word & !PAIR_BITS != state.cr3 & !PAIR_BITS,
                "{place} shows a root's physical address: {word:#x}"
            );
            assert!(
                word < KERNEL_HALF || is_own(word) || !self.is_kernel_only(state, word),
                "{place} shows a kernel-only pointer: {word:#x}"
            );
        }
    }

    /// Whether an address is mapped under the kernel root of the pair, and not under the user root.
    fn is_kernel_only(&self, state: &CpuState, address: u64) -> bool {
        let memory = &self.running.guest.memory;
        let user = state.cr3 & !(PAGE - 1);
        maps(memory, user & !PAGE, address) && !maps(memory, user, address)
    }
}

/// Whether the four-level tables at `root` map an address.
fn maps(memory: &GuestMemory, root: u64, address: u64) -> bool {
    const PRESENT: u64 = 1 << 0;
    const LARGE: u64 = 1 << 7;
    const TABLE: u64 = 0x000f_ffff_ffff_f000;
    let mut table = root;
    for level in (0..4).rev() {
        let index = address >> (12 + 9 * level) & 511;
        let mut entry = [0; 8];
        if !memory.read(table + index * 8, &mut entry) {
            return false;
        }
        let entry = u64::from_le_bytes(entry);
        if entry & PRESENT == 0 {
            return false;
        }
        if entry & LARGE != 0 && level < 3 {
            return true;
        }
        table = entry & TABLE;
    }
    true
}
