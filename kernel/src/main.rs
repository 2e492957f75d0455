//! The reference kernel: Linux programs behind isolated page tables.
//!
//! It boots as Linux does (`-kernel`, `-initrd`, `-append`), runs `/init` of the initramfs as process 1,
//! and powers the machine off when that ends. All isolation is the `ringwall` crate's; `arch/isolation.rs`
//! and `arch/traps.rs` are where the two meet.
#![no_std]
#![no_main]
// The links of one intrusive list are one proof.
#![allow(clippy::multiple_unsafe_ops_per_block)]

extern crate alloc;

pub mod arch;
pub mod boot;
pub mod breaks;
pub mod errno;
pub mod fs;
pub mod mm;
pub mod random;
pub mod signal;
pub mod sync;
pub mod syscall;
pub mod task;
pub mod time;
pub mod user;

use boot::info::BootInfo;
use core::panic::PanicInfo;

/// How much physical memory the boot roots map, from 0 on.
const BOOT_MAPPED: u64 = 4 << 30;

/// The first Rust code, on the boot stack and the boot root, interrupts off. `magic` names the boot
/// protocol; `address`: physical, what that hands over.
pub extern "sysv64" fn kernel_main(magic: u32, address: u64) -> ! {
    let info = BootInfo::read(magic, address).unwrap_or_else(|error| give_up(error));
    let command_line = info.command_line();

    arch::clock::start();
    println!("ringwall: booting, command line \"{}\"", command_line.escape_ascii());
    if mm::layout::is_random() && !boot::place::has_list() {
        println!(
            "ringwall: the image does not slide: its file has no list of addresses (cargo xtask build)"
        );
    }
    // First of all, so that whatever goes wrong from here on ends with the machine off.
    arch::acpi::find(info.rsdp());
    #[cfg(feature = "breaks")]
    breaks::turn_on(command_line).unwrap_or_else(|error| give_up(error));
    mm::frame::start(boot::memory::end_of_ram(&info));
    // SAFETY: free RAM by the loader's word; the boot root maps that much of it.
    boot::memory::for_each_free(&info, |range| unsafe {
        mm::frame::add_memory(range.start, range.end.min(BOOT_MAPPED));
    });
    boot::roots::make(&info);
    // SAFETY: the rest, which the kernel's root maps.
    boot::memory::for_each_free(&info, |range| unsafe {
        mm::frame::add_memory(range.start.max(BOOT_MAPPED), range.end);
    });
    let features = arch::features::Features::read().unwrap_or_else(|error| give_up(error));
    features.enable();
    arch::isolation::start(command_line, &features);
    arch::machine_check::start();
    arch::apic::start();
    boot::init::run(&info)
}

/// Ends the boot with a sentence about what somebody else has to mend.
pub fn give_up(reason: impl core::fmt::Display) -> ! {
    println!("ringwall: cannot go on: {reason}");
    arch::cpu::power_off(false)
}

#[panic_handler]
fn panic(info: &PanicInfo) -> ! {
    x86_64::instructions::interrupts::disable();
    if arch::ipi::claim_the_end() {
        println!("ringwall: kernel bug: {info}");
        boot::place::tell_slide();
    }
    arch::acpi::power_off()
}
