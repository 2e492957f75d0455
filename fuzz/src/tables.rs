//! Bytes become a guest: its registers, then what it has written into its memory. The guest is looked at, and what is
//! said of it must make sense.
//!
//! ```text
//!   flags  root  root | eight addresses | limit | writes ...
//!                                                 '- a row of table entries, or eight bytes anywhere
//! ```
//!
//! Any bytes are a guest; those that are missing at the end are zero.

use ringwall_audit::cpu::{Cpu, Table};
use ringwall_audit::document::{AnomalyKind, Audit, Region, View};
use ringwall_audit::names::symbols::Symbols;
use ringwall_audit::{PhysicalMemory, Subject, look};

/// Size of the guest's memory: enough for some tables of each level, and quick to make.
const FRAMES: usize = 48;
const FRAME: usize = 4096;

/// Symbols that some of the guests come with.
const SYMBOLS: &str = "\
ffffffff81000000 T _text
ffffffff81000040 T entry_SYSCALL_64
ffffffff81001000 T asm_exc_page_fault
ffffffff82000000 D init_task
";

struct Input<'a>(&'a [u8]);

impl Input<'_> {
    fn take<const N: usize>(&mut self) -> [u8; N] {
        let (now, later) = self.0.split_at(N.min(self.0.len()));
        self.0 = later;
        let mut bytes = [0; N];
        bytes[..now.len()].copy_from_slice(now);
        bytes
    }

    fn byte(&mut self) -> u8 {
        u8::from_le_bytes(self.take())
    }

    fn half(&mut self) -> u16 {
        u16::from_le_bytes(self.take())
    }

    fn word(&mut self) -> u64 {
        u64::from_le_bytes(self.take())
    }
}

struct Memory(Vec<u8>);

impl Memory {
    /// Stores eight bytes; what lies outside is lost.
    fn write(&mut self, address: usize, value: u64) {
        if let Some(place) = self.0.get_mut(address..address + 8) {
            place.copy_from_slice(&value.to_le_bytes());
        }
    }

    fn range(&self, address: u64, bytes: u64) -> Option<&[u8]> {
        let start = usize::try_from(address).ok()?;
        self.0.get(start..start.checked_add(usize::try_from(bytes).ok()?)?)
    }
}

impl PhysicalMemory for Memory {
    fn read(&self, address: u64, buffer: &mut [u8]) -> bool {
        let held = self.range(address, buffer.len() as u64);
        held.inspect(|held| buffer.copy_from_slice(held)).is_some()
    }

    fn holds(&self, address: u64, bytes: u64) -> bool {
        self.range(address, bytes).is_some()
    }
}

/// Looks at the guest that `bytes` describe.
///
/// # Panics
///
/// When what is said of the guest contradicts itself.
pub fn run(bytes: &[u8]) {
    let mut input = Input(bytes);
    let flags = input.byte();
    let set = |bit: u8| flags >> bit & 1 == 1;
    let control = |bit: u8, there: bool| if there { 1_u64 << bit } else { 0 };
    let roots = [input.byte(), input.byte()].map(|frame| u64::from(frame) << 12);
    let [idt, gdt, tss, ldt, lstar, rip, rsp, gs] = std::array::from_fn(|_| input.word());
    let limit = u32::from(input.half());
    let table = |base| Table { base, limit };
    let first = Cpu {
        index: 0,
        cpl: if set(0) { 3 } else { 0 },
        rip,
        rsp,
        cr0: 0x8005_0033,
        cr3: roots[0],
        cr4: 0x20 | control(12, set(1)) | control(22, set(2)) | control(24, set(2)),
        efer: Some(0x500 | control(11, !set(3))),
        gs_base: Some(gs),
        kernel_gs_base: None,
        lstar: Some(lstar),
        idt: table(idt),
        gdt: table(gdt),
        tss: table(tss),
        ldt: table(ldt),
    };
    let second = Cpu { index: 1, cpl: 0, cr3: roots[1], lstar: None, ..first.clone() };
    let cpus = if set(4) { vec![second, first] } else { vec![first] };

    let memory = memory(&mut input);
    let symbols = Symbols::parse(SYMBOLS.as_bytes()).expect("a symbol table");
    let subject = Subject {
        memory: &memory,
        cpus: &cpus,
        source: "fuzzer".into(),
        kernel_cr3: set(5).then_some(roots[1]),
        symbols: set(6).then_some(&symbols),
        progress: &|done, total| assert!(done <= total),
    };
    if let Ok(audit) = look(&subject) {
        check(&audit);
    }
}

/// What the rest of the input writes.
fn memory(input: &mut Input) -> Memory {
    let mut memory = Memory(vec![0; FRAMES * FRAME]);
    while !input.0.is_empty() {
        let row = input.byte();
        let place = usize::from(input.byte()) * FRAME;
        if row == 0 {
            let place = place + usize::from(input.half()) % FRAME;
            memory.write(place, input.word());
            continue;
        }
        // A row of equal or successive entries. Flags: entry bits 0 to 8, NX in bit 9, the key in bits 12 to 15.
        let count = usize::from(row & 63) * if row & 64 == 0 { 1 } else { 9 };
        let index = usize::from(input.half());
        let target = u64::from(input.half());
        let flags = u64::from(input.half());
        let high = (flags >> 12) << 59 | (flags >> 9 & 1) << 63;
        let entry = target << 12 | high | flags & 0x1ff;
        let step = if row & 128 == 0 { 0 } else { 1 << 12 };
        for offset in 0..count {
            let value = entry.wrapping_add(step * offset as u64);
            memory.write(place + (index + offset) % 512 * 8, value);
        }
    }
    memory
}

fn check(audit: &Audit) {
    let cut = |view: &View| view.anomalies.iter().any(|one| one.kind == AnomalyKind::TooMuch);
    for view in &audit.views {
        for list in [&view.visible, &view.user, &view.kernel] {
            assert!(list.is_sorted_by_key(|region| region.address), "regions ascend");
            list.iter().for_each(check_region);
        }
        let pages: u64 = view.visible.iter().map(|region| region.pages).sum();
        assert!(cut(view) || pages == view.totals.visible_pages, "no page is lost");
        assert!(view.totals.writable_bytes <= view.totals.visible_bytes);
        assert!(view.totals.executable_bytes <= view.totals.visible_bytes);
    }
    assert!(audit.cpus.iter().all(|cpu| cpu.view < audit.views.len()));
    for finding in &audit.findings {
        assert!(finding.places.len() as u64 <= finding.count, "{finding:?}");
        assert!(finding.places.iter().all(|place| place.view < audit.views.len()));
    }
    let text = serde_json::to_string(audit).expect("an audit is JSON");
    let again: Audit = serde_json::from_str(&text).expect("the JSON is an audit");
    assert_eq!(&again, audit);
}

fn check_region(region: &Region) {
    assert!(region.bytes > 0 && region.pages > 0, "{region:x?}");
    assert!(region.address.checked_add(region.bytes - 1).is_some(), "{region:x?}");
}
