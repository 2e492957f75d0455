//! A guest made by hand, as the ELF core that QEMU would write of it: tables, descriptor tables, one CPU.
//!
//! ```text
//!   physical   0x02000 kernel root    0x10000 IDT      0x20000 the program
//!              0x03000 user root      0x11000 GDT, TSS 0x30000 the kernel
//!                                     0x12000 entry text
//!                                     0x13000 stacks   0x40000 tables, from here on
//! ```

const MEMORY: usize = 0x6_0000;
const KERNEL_ROOT: u64 = 0x2000;
const USER_ROOT: u64 = 0x3000;

const PRESENT: u64 = 1;
const WRITABLE: u64 = 1 << 1;
const USER: u64 = 1 << 2;
const NX: u64 = 1 << 63;

/// Where the entry area begins: IDT, GDT and TSS, text, stacks, a page each.
pub const ENTRY: u64 = 0xffff_ff00_0000_0000;
/// Where the kernel lies.
pub const IMAGE: u64 = 0xffff_ffff_8100_0000;
const PROGRAM: u64 = 0x40_0000;

/// A guest with one CPU.
pub struct Guest {
    memory: Vec<u8>,
    next_table: u64,
    cr3: u64,
    cs: u32,
}

impl Guest {
    /// A guest that does everything right, in ring 3.
    pub fn isolated() -> Guest {
        let memory = vec![0; MEMORY];
        let mut guest = Guest { memory, next_table: 0x4_0000, cr3: USER_ROOT, cs: 0x33 };
        guest.map(USER_ROOT, PROGRAM, 0x2_0000, USER);
        let programs = guest.word(USER_ROOT);
        guest.set(KERNEL_ROOT, programs | NX);
        let pages = [(0x1_0000, NX), (0x1_1000, NX), (0x1_2000, 0), (0x1_3000, WRITABLE | NX)];
        for (page, address) in pages.into_iter().zip((ENTRY..).step_by(0x1000)) {
            guest.map(USER_ROOT, address, page.0, page.1);
        }
        // Every table of the entry area is shared: the slot of the top level says it all.
        let slot = 8 * ((ENTRY >> 39) & 511);
        let area = guest.word(USER_ROOT + slot);
        guest.set(KERNEL_ROOT + slot, area);
        guest.map(KERNEL_ROOT, IMAGE, 0x3_0000, 0);
        guest.map(KERNEL_ROOT, IMAGE + 0x1000, KERNEL_ROOT, WRITABLE | NX);
        guest.descriptor_tables();
        guest
    }

    /// The same guest, but ring 3 runs under the kernel's root and there is no other.
    pub fn shared() -> Guest {
        let mut guest = Guest::isolated();
        guest.set(KERNEL_ROOT, guest.word(USER_ROOT));
        guest.memory[USER_ROOT as usize..][..0x1000].fill(0);
        guest.cr3 = KERNEL_ROOT;
        guest
    }

    /// The CPU is in the kernel, under a root without another half.
    pub fn in_the_kernel() -> Guest {
        Guest { cs: 0x10, ..Guest::shared() }
    }

    /// Writes a word where user mode sees it.
    pub fn leave_on_stack(mut self, word: u64) -> Guest {
        self.set(0x1_3000 + 0x100, word);
        self
    }

    /// The core.
    pub fn core(&self) -> Vec<u8> {
        core(&[self.note()], &self.memory)
    }

    /// A core without the CPU.
    pub fn core_without_registers(&self) -> Vec<u8> {
        core(&[], &self.memory)
    }

    /// The memory alone, and the CR3.
    pub fn image(&self) -> (&[u8], u64) {
        (&self.memory, self.cr3)
    }

    /// 256 gates to the entry text, a GDT, and a TSS whose stacks are in the stack page.
    fn descriptor_tables(&mut self) {
        let (text, stack) = (ENTRY + 0x2000, ENTRY + 0x3f00);
        for vector in 0..256 {
            let target = text + 8 * vector;
            let low = (target & 0xffff) | 0x10 << 16 | 0x8e00 << 32 | (target >> 16 & 0xffff) << 48;
            self.set(0x1_0000 + 16 * vector, low);
            self.set(0x1_0000 + 16 * vector + 8, target >> 32);
        }
        self.set(0x1_1000 + 0x10, 0x00af_9b00_0000_ffff);
        // RSP0 stands at 4 in a TSS, so it straddles two words.
        self.memory[0x1_1084..0x1_108c].copy_from_slice(&stack.to_le_bytes());
        self.memory[0x1_2000..0x1_3000].fill(0xcc);
    }

    /// Maps a page of 4 KiB.
    fn map(&mut self, root: u64, address: u64, physical: u64, flags: u64) {
        let mut table = root;
        for shift in [39, 30, 21] {
            let at = table + 8 * ((address >> shift) & 511);
            if self.word(at) & PRESENT == 0 {
                self.set(at, self.next_table | PRESENT | WRITABLE | USER);
                self.next_table += 0x1000;
            }
            table = self.word(at) & 0x000f_ffff_ffff_f000;
        }
        self.set(table + 8 * ((address >> 12) & 511), physical | PRESENT | flags);
    }

    fn word(&self, at: u64) -> u64 {
        let bytes = &self.memory[at as usize..][..8];
        u64::from_le_bytes(bytes.try_into().expect("eight bytes"))
    }

    fn set(&mut self, at: u64, word: u64) {
        self.memory[at as usize..][..8].copy_from_slice(&word.to_le_bytes());
    }

    /// QEMU's note of the CPU: version 1 of its state.
    fn note(&self) -> Vec<u8> {
        let mut state = vec![0; 440];
        let mut put = |at: usize, bytes: &[u8]| state[at..at + bytes.len()].copy_from_slice(bytes);
        put(0, &1_u32.to_le_bytes());
        put(4, &440_u32.to_le_bytes());
        put(136, &PROGRAM.to_le_bytes());
        put(152, &self.cs.to_le_bytes());
        // TR, GDT, IDT: limit and base.
        for (at, limit, base) in
            [(320, 0x67_u32, ENTRY + 0x1080), (344, 0x1f, ENTRY + 0x1000), (368, 0xfff, ENTRY)]
        {
            put(at + 4, &limit.to_le_bytes());
            put(at + 16, &base.to_le_bytes());
        }
        let control = [0x8005_0033_u64, 0, 0, self.cr3, 0x0030_0020];
        put(392, &control.map(u64::to_le_bytes).concat());
        state
    }
}

/// The same core with so many bytes of memory more, which need not be written.
pub fn grown(core: &[u8], more: u64) -> (Vec<u8>, u64) {
    let mut core = core.to_vec();
    // The second program header, that of the memory: its lengths in the file and in memory.
    for at in [64 + 56 + 32, 64 + 56 + 40] {
        let length = u64::from_le_bytes(core[at..at + 8].try_into().expect("eight bytes"));
        core[at..at + 8].copy_from_slice(&(length + more).to_le_bytes());
    }
    let length = core.len() as u64 + more;
    (core, length)
}

/// An ELF core with these notes and memory from physical address 0 on.
fn core(notes: &[Vec<u8>], memory: &[u8]) -> Vec<u8> {
    let mut note = Vec::new();
    for state in notes {
        note.extend([5, state.len() as u32, 0].map(u32::to_le_bytes).concat());
        note.extend(b"QEMU\0\0\0\0");
        note.extend(state);
    }
    let mut file = b"\x7fELF\x02\x01\x01".to_vec();
    file.resize(16, 0);
    // A core, x86-64, version 1; two program headers behind this one.
    file.extend([4_u16, 62].map(u16::to_le_bytes).concat());
    file.extend(1_u32.to_le_bytes());
    file.extend([0_u64, 64, 0].map(u64::to_le_bytes).concat());
    file.extend(0_u32.to_le_bytes());
    file.extend([64_u16, 56, 2, 0, 0, 0].map(u16::to_le_bytes).concat());
    let (start, notes, length) = (64 + 2 * 56, note.len() as u64, memory.len() as u64);
    for (kind, offset, length) in [(4_u32, start, notes), (1, start + notes, length)] {
        file.extend([kind, 0].map(u32::to_le_bytes).concat());
        file.extend([offset, 0, 0, length, length, 0].map(u64::to_le_bytes).concat());
    }
    file.extend(note);
    file.extend(memory);
    file
}
