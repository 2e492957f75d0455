//! What a supervisor page is, told from outside.
//!
//! The CPU itself must reach some things while user mode's tables are active: the IDT, the GDT, the
//! TSS and the stacks that the TSS names. Their addresses are in registers and in the TSS, so a page
//! can be named without knowing the kernel.

use crate::PhysicalMemory;
use crate::leaves::Leaf;

/// RSP0 to RSP2 and IST1 to IST7 of a 64-bit TSS: Intel SDM vol. 3, figure 8-11.
const STACK_POINTERS: [u64; 10] = [4, 12, 20, 36, 44, 52, 60, 68, 76, 84];

/// Addresses that name pages.
#[derive(Clone, Debug, Default)]
pub struct Landmarks {
    idt: u64,
    gdt: u64,
    tss: u64,
    stacks: Vec<u64>,
}

impl Landmarks {
    /// Takes the bases of IDT, GDT and TSS from a CPU's registers and reads the stack pointers
    /// from the TSS, where it is in one of `pages`.
    pub fn new(
        memory: &dyn PhysicalMemory,
        pages: &[Leaf],
        (idt, gdt, tss): (u64, u64, u64),
    ) -> Landmarks {
        let word = |address: u64| {
            let page = pages.iter().find(|page| page.contains(address))?;
            let mut bytes = [0; 8];
            let read = memory.read(page.physical + (address - page.address), &mut bytes);
            read.then_some(u64::from_le_bytes(bytes))
        };
        let stacks = STACK_POINTERS
            .iter()
            .filter_map(|offset| word(tss.checked_add(*offset)?))
            .filter(|pointer| *pointer != 0)
            .collect();
        Landmarks { idt, gdt, tss, stacks }
    }

    /// What is on `page`, in a few words.
    pub fn describe(&self, page: &Leaf) -> String {
        let mut names = Vec::new();
        if page.contains(self.idt) {
            names.push("IDT");
        }
        if page.contains(self.gdt) {
            names.push("GDT");
        }
        if page.contains(self.tss) {
            names.push("TSS");
        }
        // A stack pointer may point just past its stack: the first push is eight bytes below.
        if self.stacks.iter().any(|pointer| page.contains(pointer.wrapping_sub(8))) {
            names.push("stacks");
        }
        if page.executable {
            names.push("entry text");
        }
        if names.is_empty() { "data".into() } else { names.join(", ") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::synthetic::Guest;

    const PAGE: Leaf = Leaf {
        address: 0xffff_ffff_f000_0000,
        physical: 0x8000,
        size: 0x1000,
        writable: false,
        user: false,
        executable: false,
    };

    #[test]
    fn pages_are_named_from_registers_and_the_tss() {
        let tables = PAGE;
        let stack =
            Leaf { address: PAGE.address + 0x1000, physical: 0x9000, writable: true, ..PAGE };
        let text = Leaf { address: PAGE.address + 0x2000, executable: true, ..PAGE };
        let other = Leaf { address: PAGE.address + 0x3000, ..PAGE };
        let tss = tables.address + 0x100;
        let mut guest = Guest::new();
        // RSP0 is the end of the stack's page, which is the address of the next page.
        guest.write(tables.physical + 0x104, stack.address + 0x1000);

        let pages = [tables, stack, text, other];
        let landmarks = Landmarks::new(&guest.memory(), &pages, (0, tables.address, tss));
        let names = pages.map(|page| landmarks.describe(&page));
        assert_eq!(names, ["GDT, TSS", "stacks", "entry text", "data"]);
    }
}
