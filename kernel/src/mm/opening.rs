//! Isolation of one program's memory, switched while it runs.
//!
//! Invariant: memory is open only while its setting and the machine's say so, or on the way there; who decides is
//! [`crate::task::way`].

use super::space::Mm;
use super::tlb;
use core::sync::atomic::Ordering;
use ringwall_rules::isolation::Setting;

impl Mm {
    /// What the program has said about its isolation.
    #[inline(always)]
    pub fn isolation(&self) -> Setting {
        Setting::from_bits(self.isolation.load(Ordering::Acquire))
    }

    /// Sets [`Mm::isolation`]; what follows is [`crate::task::way`]'s.
    pub fn set_isolation(&self, setting: Setting) {
        self.isolation.store(setting.bits(), Ordering::Release);
    }

    /// Whether ring 3 may run under the kernel root.
    #[inline(always)]
    pub fn is_open(&self) -> bool {
        self.roots().is_open()
    }

    /// Lets ring 3 run under the kernel root, or forbids it. When this returns after forbidding, each CPU that ran a
    /// thread there has been in the kernel since, and such a thread's next fetch would fault.
    pub fn set_open(&self, open: bool) {
        let _tables_stay = self.space.lock();
        if open {
            // SAFETY: the lock is the one under which top-level entries change.
            unsafe { self.roots().open() };
        } else {
            // SAFETY: as above.
            let stale = unsafe { self.roots().close() };
            tlb::retire(self.roots(), stale);
        }
    }
}
