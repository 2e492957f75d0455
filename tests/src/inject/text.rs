//! The entry text of the kernel that runs: where it is, what is in it.
//!
//! All of it is found from outside, by the IDT's address and the bytes of the page: another build of the
//! kernel, broken or hardened, is looked at in the same way.

use ringwall_emulator::Guest;

const PAGE: u64 = 4096;
/// Vector of debug exceptions.
pub const DEBUG: usize = 1;
/// Vector of NMIs.
pub const NMI: usize = 2;
/// Vector of machine checks.
pub const MACHINE_CHECK: usize = 18;
/// First vector that is no exception's.
const FIRST_INTERRUPT: usize = 32;
/// Vector of Linux's 32-bit calls, which programs raise.
const CALL_GATE: usize = 0x80;

/// Bytes of the instructions that a path of the entry text ends with, and how far into them the last
/// one is: IRETQ; POPFQ and RET; SYSRETQ.
const ENDS: [(&[u8], u64); 3] = [(&[0x48, 0xcf], 0), (&[0x9d, 0xc3], 1), (&[0x48, 0x0f, 0x07], 0)];

/// POPFQ.
const LOAD_FLAGS: u8 = 0x9d;

/// What is known of the entry text.
#[derive(Clone, Debug)]
pub struct Text {
    /// The page's address.
    pub base: u64,
    gates: Vec<u64>,
    /// The same of the text for open processes, if the way changes to it or from it.
    partner: Option<(u64, Vec<u64>)>,
    /// Addresses of the last instructions of its paths.
    pub ends: Vec<u64>,
    /// Addresses of POPFQ.
    pub loads_flags: Vec<u64>,
}

impl Text {
    /// Looks at a guest whose `cpu` is stopped under a user root: there, only the windows' bytes show, so `kernel_view`
    /// says what else the page holds.
    ///
    /// # Panics
    ///
    /// When the guest has no IDT in its entry text.
    pub fn find(guest: &mut Guest, cpu: usize) -> Text {
        let registers = guest.monitor.registers(cpu).expect("a monitor that answers");
        let gates = read_gates(guest, registers.idt.base).expect("the IDT is mapped in ring 3");
        let base = gates[NMI] & !(PAGE - 1);
        Text { base, gates, partner: None, ends: Vec::new(), loads_flags: Vec::new() }
    }

    /// Looks at the other text of a kernel that switches isolation while it runs, too; its IDT is at `idt`. The guest is
    /// stopped under a kernel root.
    fn read_partner(&mut self, guest: &mut Guest, idt: u64) {
        let gates = read_gates(guest, idt).expect("the kernel root maps both texts' IDTs");
        let base = gates[NMI] & !(PAGE - 1);
        assert_ne!(base, self.base, "one text of two");
        self.partner = Some((base, gates));
    }

    /// Finds the ends of the paths. The guest is stopped under a kernel root. `partner`: how far the IDT of the other
    /// text is from this one's page, if the way goes through both.
    ///
    /// # Panics
    ///
    /// When the page is not mapped.
    pub fn read_ends(&mut self, guest: &mut Guest, partner: Option<i64>) {
        if let Some(distance) = partner {
            self.read_partner(guest, self.base.wrapping_add_signed(distance));
        }
        let bases = [Some(self.base), self.partner.as_ref().map(|(base, _)| *base)];
        for base in bases.into_iter().flatten() {
            let stub = guest.stub.as_mut().expect("a gdb stub");
            let bytes = stub.read(base, PAGE as usize).expect("a stub that answers");
            let bytes = bytes.expect("the entry text is mapped under every root");
            let flags = bytes.iter().enumerate().filter(|(_, byte)| **byte == LOAD_FLAGS);
            self.loads_flags.extend(flags.map(|(offset, _)| base + offset as u64));
            for (pattern, last) in ENDS {
                let found =
                    bytes.windows(pattern.len()).enumerate().filter(|(_, at)| *at == pattern);
                self.ends.extend(found.map(|(offset, _)| base + offset as u64 + last));
            }
        }
    }

    /// Where a vector's gate leads, in either text.
    pub fn gates(&self, vector: usize) -> Vec<u64> {
        let partner = self.partner.iter().map(|(_, gates)| gates[vector]);
        partner.chain([self.gates[vector]]).collect()
    }

    /// Whether an address is where a vector's gate leads.
    pub fn is_gate(&self, vector: usize, address: u64) -> bool {
        self.gates(vector).contains(&address)
    }

    /// Where the gates of interrupts lead, in either text.
    pub fn interrupt_gates(&self) -> impl Iterator<Item = u64> {
        let texts = [Some(&self.gates), self.partner.as_ref().map(|(_, gates)| gates)];
        let gates = texts.into_iter().flatten().flat_map(|gates| gates.iter().enumerate());
        let interrupts =
            gates.filter(|(vector, _)| *vector >= FIRST_INTERRUPT && *vector != CALL_GATE);
        interrupts.map(|(_, gate)| *gate)
    }

    /// Whether an address is in the entry text.
    pub fn holds(&self, address: u64) -> bool {
        self.base_of(address).is_some()
    }

    /// The page that an address in an entry text is in.
    fn base_of(&self, address: u64) -> Option<u64> {
        let page = address & !(PAGE - 1);
        let partner = self.partner.as_ref().map(|(base, _)| *base);
        (page == self.base || Some(page) == partner).then_some(page)
    }

    /// An address for a person: the offset in the entry text if it is there.
    pub fn name(&self, address: u64) -> String {
        match self.base_of(address) {
            Some(base) if base == self.base => format!("entry text + {:#x}", address - base),
            Some(base) => format!("the other entry text + {:#x}", address - base),
            None => format!("{address:#x}"),
        }
    }
}

/// Where the gates of the IDT at `base` lead, if it is mapped where the guest is stopped.
fn read_gates(guest: &mut Guest, base: u64) -> Option<Vec<u64>> {
    let stub = guest.stub.as_mut().expect("a gdb stub");
    let table = stub.read(base, PAGE as usize).expect("a stub that answers")?;
    Some(table.as_chunks::<16>().0.iter().map(handler).collect())
}

/// The address in a gate (SDM vol. 3, figure 6-8).
fn handler(gate: &[u8; 16]) -> u64 {
    let word = u128::from_le_bytes(*gate);
    (word & 0xffff) as u64 | (word >> 32) as u64 & 0xffff_ffff_ffff_0000
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gates_address_is_in_three_parts() {
        let gate = 0x0000_0000_8877_6655_4433_8e01_0010_2211_u128;
        assert_eq!(handler(&gate.to_le_bytes()), 0x8877_6655_4433_2211);
    }
}
