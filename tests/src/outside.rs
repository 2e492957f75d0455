//! The entry area of a guest in user mode, with its bytes, read from outside.
//!
//! ```text
//!   CR3 (user root)    ──► the pages that ring 3's tables show, and what is in them
//!   CR3 without bit 12 ──► what the same addresses, and their neighbours, are to the kernel
//! ```

use std::ops::Range;
use std::time::Duration;

use ringwall::entry::layout::DATA;
use ringwall_audit::{Page, PhysicalMemory, TableCache, Tables, USER_ROOT};
use ringwall_cli::cpu;
use ringwall_emulator::{GuestMemory, Registers};

use crate::looking::audit;
use crate::{Running, patient};

/// How long a guest may take to run something in user mode.
const CATCH_LIMIT: Duration = Duration::from_secs(20);

/// What a program's tables show of our kernel at one moment. Isolation must be on.
#[derive(Clone, Debug)]
pub struct Visible {
    /// The CPU's registers.
    pub registers: Registers,
    /// The supervisor pages of the user root, with their contents.
    pub pages: Vec<(Page, Vec<u8>)>,
    /// The kernel view of the entry text.
    pub kernel_text: Vec<u8>,
    /// The CPU's kernel-only data.
    pub kernel_data: Vec<u8>,
    /// The first bytes that the program is about to execute; fewer at the end of a page.
    pub program: Vec<u8>,
}

impl Visible {
    /// The page that is code: its address and the bytes of its user view.
    ///
    /// # Panics
    ///
    /// When there is none.
    pub fn text(&self) -> (u64, &[u8]) {
        let found = self.pages.iter().find(|(page, _)| page.rights.executable);
        found.map(|(page, bytes)| (page.address, &bytes[..])).expect("an entry text")
    }

    /// The user view of the only page that is writable: entry stack, landing stacks, scratch word.
    ///
    /// # Panics
    ///
    /// When there is none.
    pub fn stack(&self) -> &[u8] {
        let found = self.pages.iter().find(|(page, _)| page.rights.writable);
        found.map(|(_, bytes)| &bytes[..]).expect("a stack page")
    }

    /// Where that page is.
    ///
    /// # Panics
    ///
    /// When there is none.
    pub fn stack_address(&self) -> u64 {
        let found = self.pages.iter().find(|(page, _)| page.rights.writable);
        found.map(|(page, _)| page.address).expect("a stack page")
    }

    /// Every address at which `bytes` stand in one of the pages, at any alignment.
    pub fn find(&self, bytes: &[u8]) -> Vec<u64> {
        let in_page = |(page, contents): &(Page, Vec<u8>)| {
            let places = contents.windows(bytes.len()).zip(page.address..);
            let found = places.filter(|(window, _)| *window == bytes);
            found.map(|(_, address)| address).collect::<Vec<_>>()
        };
        self.pages.iter().flat_map(in_page).collect()
    }
}

/// The entry text as ring 0 executes it, with or without isolation.
#[derive(Clone, Debug)]
pub struct EntryText {
    /// Its page.
    pub bytes: Vec<u8>,
    /// Where the IDT's 256 gates lead, as offsets in it.
    pub gates: Vec<u64>,
}

impl Running {
    /// Stops the guest in user mode, reads the entry area, and lets it go on.
    ///
    /// # Panics
    ///
    /// When the CPU is not seen in user mode, runs there under no user root, or its tables make no sense.
    pub fn visible(&mut self) -> Visible {
        self.stopped(|memory, registers| {
            assert!(registers.cr3 & USER_ROOT != 0, "CR3 is {:#x}: no user root", registers.cr3);
            read(memory, registers)
        })
    }

    /// Stops the guest in user mode, reads the entry text, and lets it go on.
    ///
    /// # Panics
    ///
    /// As [`Running::visible`], but any root will do.
    pub fn entry_text(&mut self) -> EntryText {
        self.stopped(|memory, registers| {
            let read = reader(memory);
            let cache = TableCache::new(&read);
            let kernel = Tables::new(&cache, registers.cr3 & !USER_ROOT, cpu(&registers).paging());
            let page = |address: u64| {
                let page = kernel.translate(address).filter(|page| page.address == address);
                page.map(|page| contents(memory, &page)).expect("a page of 4 KiB in the entry area")
            };
            let gates = gates(&page(registers.idt.base));
            let base = gates[0] & !0xfff;
            let gates = gates.into_iter().map(|gate| gate - base).collect();
            EntryText { bytes: page(base), gates }
        })
    }

    fn stopped<T>(&mut self, view: impl FnOnce(&GuestMemory, Registers) -> T) -> T {
        let caught =
            self.guest.stop_in_user_mode(patient(CATCH_LIMIT)).expect("a monitor that answers");
        let Some(registers) = caught else {
            panic!("the CPU is never in user mode; its log:\n{}", self.guest.console.text());
        };
        let seen = view(&self.guest.memory, registers);
        self.guest.monitor.resume().expect("a monitor that answers");
        seen
    }
}

fn reader(memory: &GuestMemory) -> impl PhysicalMemory {
    |address: u64, buffer: &mut [u8]| memory.read(address, buffer)
}

fn contents(memory: &GuestMemory, page: &Page) -> Vec<u8> {
    let mut bytes = vec![0; page.size as usize];
    assert!(memory.read(page.physical, &mut bytes), "{page:x?} is not in memory");
    bytes
}

/// Where the gates of an IDT lead (SDM vol. 3, 6.14.1).
fn gates(idt: &[u8]) -> Vec<u64> {
    let address = |gate: &[u8]| {
        let part = |range: Range<usize>| {
            gate[range].iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte))
        };
        part(0..2) | part(6..8) << 16 | part(8..12) << 32
    };
    idt.chunks_exact(16).map(address).collect()
}

fn read(memory: &GuestMemory, registers: Registers) -> Visible {
    let read = reader(memory);
    let cache = TableCache::new(&read);
    let tables = |root| Tables::new(&cache, root, cpu(&registers).paging());
    let (user, kernel) = (tables(registers.cr3), tables(registers.cr3 & !USER_ROOT));
    let kernel_page = |address: u64| {
        let page = kernel.translate(address).map(|page| contents(memory, &page));
        page.unwrap_or_else(|| panic!("the kernel root has no page {address:#x}"))
    };
    let audit = audit(memory, &[cpu(&registers)]);
    let regions = audit.views[0].visible.iter().filter(|region| !region.rights.user);
    let addresses = regions
        .flat_map(|region| (0..region.pages).map(|page| region.address + page * region.page_size));
    let pages = addresses.filter_map(|address| user.translate(address));
    let pages: Vec<_> = pages.map(|page| (page, contents(memory, &page))).collect();
    let address = |wanted: fn(&Page) -> bool| {
        let found = pages.iter().find(|(page, _)| wanted(page));
        found.map(|(page, _)| page.address).expect("a page of each kind in the entry area")
    };
    let text = address(|page| page.rights.executable);
    let stack = address(|page| page.rights.writable);
    let program = user.translate(registers.rip).map(|page| {
        const INSTRUCTIONS: usize = 16;
        let bytes = contents(memory, &page)[(registers.rip - page.address) as usize..].to_vec();
        bytes.into_iter().take(INSTRUCTIONS).collect()
    });
    Visible {
        registers,
        kernel_text: kernel_page(text),
        kernel_data: kernel_page(stack + DATA as u64),
        program: program.unwrap_or_default(),
        pages,
    }
}
