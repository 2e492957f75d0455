//! The last step of the boot: the initramfs unpacked, process 1 started.

use super::info::BootInfo;
use crate::mm::layout::direct;
use crate::{fs, give_up, mm, println, syscall, task};
use alloc::vec::Vec;

/// Runs the initramfs's init as process 1. What the loader passed is free memory afterwards.
pub fn run(info: &BootInfo) -> ! {
    let command_line = info.command_line();
    fs::COMMAND_LINE.call_once(|| command_line.to_vec());
    if let Some(decision) = crate::arch::isolation::decision() {
        fs::MELTDOWN.call_once(|| alloc::format!("{}", decision.status()));
    }
    let Some(range) = info.initramfs() else {
        give_up(
            "no initramfs: the boot loader has to pass one (QEMU: -initrd FILE, GRUB: module2 FILE)",
        );
    };
    crate::time::initialize();
    let length = (range.end - range.start) as usize;
    // SAFETY: the loader put the initramfs there; the direct map reaches it, and it was kept from the
    // frame allocator.
    let image = unsafe { core::slice::from_raw_parts(direct(range.start), length) };
    if let Err(error) = fs::unpack(image) {
        println!("ringwall: bad initramfs: {error}");
        give_up("the initramfs cannot be unpacked; make it anew (newc cpio, plain or gzip)");
    }
    // SAFETY: the initramfs was copied, and nothing else is on its whole pages.
    unsafe { mm::frame::add_memory(range.start, range.end) };
    let init = Init::from_command_line(command_line);
    let says = |wanted| command_line.split(u8::is_ascii_whitespace).any(|word| word == wanted);
    if says(b"ringwall.log_unknown".as_slice()) {
        syscall::system::log_unknown_calls();
    }
    if says(task::overflow::WORD) {
        task::overflow::ask();
    }
    if says(mm::spread::WORD) {
        mm::spread::fix();
    }
    mm::start();
    task::create::initialize_cpu();
    crate::arch::smp::start(command_line, super::memory::place_for_trampoline(info));
    let Init { path, arguments, environment } = init;
    let error = task::run_first(&path, arguments, environment);
    println!("ringwall: cannot run {}: error {}", path.escape_ascii(), error.0);
    give_up("process 1 cannot start; is it a static 64-bit program, and executable?")
}

/// What to run, from the command line, as Linux reads it.
struct Init {
    path: Vec<u8>,
    arguments: Vec<Vec<u8>>,
    environment: Vec<Vec<u8>>,
}

impl Init {
    fn from_command_line(command_line: &[u8]) -> Init {
        let mut words = command_line.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
        let mut path = b"/init".to_vec();
        for word in words.by_ref().take_while(|word| *word != b"--") {
            if let Some(named) = word.strip_prefix(b"rdinit=") {
                path = named.to_vec();
            }
        }
        let arguments = core::iter::once(path.clone()).chain(words.map(<[u8]>::to_vec)).collect();
        let environment = [&b"HOME=/"[..], b"TERM=linux"].map(<[u8]>::to_vec).to_vec();
        Init { path, arguments, environment }
    }
}
