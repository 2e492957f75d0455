//! A thread's state in registers that a switch has to save and load besides the stack: FPU, segment registers and
//! their bases.
//!
//! Invariant: a thread's context is touched by the CPU that runs it, or by whoever has it where no CPU can.

use super::scheduler::current;
use super::segments;
use super::thread::Thread;
use crate::arch::selectors::Selectors;
use core::sync::atomic::{AtomicBool, Ordering};
use x86_64::VirtAddr;
use x86_64::registers::control::{Cr4, Cr4Flags};
use x86_64::registers::model_specific::{FsBase, KernelGsBase};
use x86_64::registers::segmentation::{FS, Segment64};

/// User mode can change FS and GS bases without the kernel.
static USER_CHANGES_BASES: AtomicBool = AtomicBool::new(false);

/// Looks at what this CPU, which is as all others are, lets programs do.
pub(super) fn initialize() {
    let changes = Cr4::read().contains(Cr4Flags::FSGSBASE);
    USER_CHANGES_BASES.store(changes, Ordering::Relaxed);
}

/// Saves what the running thread has in registers besides its stack's.
pub(super) fn save(thread: &Thread) {
    // SAFETY: this CPU runs the thread.
    let context = unsafe { &mut *thread.context() };
    context.fpu.save();
    context.selectors = Selectors::present();
    if USER_CHANGES_BASES.load(Ordering::Relaxed) {
        context.fs_base = FS::read_base().as_u64();
        // SAFETY: every 64-bit CPU has it. As a plain word: nobody needs it checked.
        context.gs_base = unsafe { KernelGsBase::MSR.read() };
    } else {
        // A base that came with a selector comes with it again.
        if context.selectors.has_fs() {
            context.fs_base = 0;
        }
        if context.selectors.has_gs() {
            context.gs_base = 0;
        }
    }
}

/// Loads what the thread that was switched to has in registers besides its stack's.
pub(super) fn load(thread: &Thread) {
    // SAFETY: this CPU runs the thread.
    let context = unsafe { &*thread.context() };
    context.fpu.load();
    segments::switch_to(context);
    // Before the bases: loading FS or GS sets its base too.
    context.selectors.load();
    if USER_CHANGES_BASES.load(Ordering::Relaxed) {
        // SAFETY: the kernel does not use FS; the value is canonical (see `user_base`).
        unsafe { FS::write_base(VirtAddr::new_truncate(context.fs_base)) };
        KernelGsBase::write(VirtAddr::new_truncate(context.gs_base));
        return;
    }
    let loaded = Selectors::present();
    if !loaded.has_fs() {
        FsBase::write(VirtAddr::new_truncate(context.fs_base));
    }
    if !loaded.has_gs() {
        KernelGsBase::write(VirtAddr::new_truncate(context.gs_base));
    }
}

/// The running thread's FS and GS bases as user mode has them now.
pub fn user_bases() -> (u64, u64) {
    // Under the kernel the user's GS base waits in the other register.
    (FsBase::read().as_u64(), KernelGsBase::read().as_u64())
}

/// Makes the running thread's segment registers those of a new program.
pub fn clear_selectors() {
    change_selectors(|_| Selectors::default());
}

/// Changes selectors and keeps the bases.
fn change_selectors(change: fn(Selectors) -> Selectors) {
    let (fs_base, gs_base) = user_bases();
    change(Selectors::present()).load();
    FsBase::write(VirtAddr::new_truncate(fs_base));
    KernelGsBase::write(VirtAddr::new_truncate(gs_base));
}

/// Sets the running thread's FS base; `base` lies in the user half.
pub fn set_fs_base(base: u64) {
    if Selectors::present().has_fs() {
        change_selectors(Selectors::without_fs);
    }
    FsBase::write(VirtAddr::new_truncate(base));
    // SAFETY: this CPU runs the thread.
    unsafe { (*current().context()).fs_base = base };
}

/// Sets the running thread's GS base as user mode sees it; `base` lies in the user half.
pub fn set_gs_base(base: u64) {
    if Selectors::present().has_gs() {
        change_selectors(Selectors::without_gs);
    }
    KernelGsBase::write(VirtAddr::new_truncate(base));
    // SAFETY: this CPU runs the thread.
    unsafe { (*current().context()).gs_base = base };
}
