//! A program's LDT.
//!
//! It belongs to the memory: threads share it, fork copies it, exec begins without one. The library
//! keeps the table itself; here are who may change it when, and the steps of a change.
//!
//! Invariant: the LDT is read and changed under the lock of [`Mm::ldt`] alone, and never without each
//! CPU that runs the program having the new one loaded before the old one goes.

use super::frame;
use super::space::Mm;
use crate::arch::cpu;
use crate::arch::frames::KernelFrames;
use crate::arch::selectors::Selectors;
use crate::breaks::Break;
use crate::errno::{Errno, Result};
use crate::sync::cross;
use alloc::vec::Vec;
use ringwall::core::segment::Descriptor;

/// Bytes of a descriptor.
const ENTRY: usize = 8;

impl Mm {
    /// Sets an entry of the current program's LDT, which becomes as long as it has to be.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn set_ldt_entry(&self, entry: usize, descriptor: Descriptor) -> Result<()> {
        frame::admit()?;
        let guard = self.ldt.lock();
        let roots = self.roots();
        let mut frames = KernelFrames;
        // SAFETY: the LDT changes under its lock alone.
        let table = unsafe { roots.copy_ldt(entry + 1, &mut frames) };
        let mut table = table.map_err(|_| Errno::ENOMEM)?;
        table.set(entry, descriptor, &frames);
        // SAFETY: as above; the lock is held to the end.
        let retired = unsafe { roots.set_ldt(Some(table), &mut frames) };
        let retired = retired.map_err(|_| Errno::ENOMEM)?;
        let here = cpu::index();
        let targets = retired.targets(roots).filter(|cpu| *cpu == here || !Break::LdtHere.is_on());
        cross::call(targets, &|| {
            // SAFETY: interrupts are off in the kernel.
            unsafe { ringwall::reload_ldt(roots) };
            if cpu::index() == here || !Break::LdtRegisters.is_on() {
                Selectors::refresh_data();
            }
        });
        // SAFETY: every CPU that has it loaded has reloaded LDTR.
        let unmapped = unsafe { retired.unmap(roots, &frames) };
        super::tlb::retire(roots, unmapped.pages());
        if let Some(old) = unmapped.flushed() {
            old.release(&mut frames);
        }
        drop(guard);
        Ok(())
    }

    /// The first `bytes` bytes of the LDT, zeros where it is shorter; nothing if there is none.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn ldt_bytes(&self, bytes: usize) -> Result<Vec<u8>> {
        let mut content = Vec::new();
        if self.roots().ldt_entries() == 0 {
            return Ok(content);
        }
        content.try_reserve_exact(bytes).map_err(|_| Errno::ENOMEM)?;
        content.resize(bytes, 0);
        let _guard = self.ldt.lock();
        // SAFETY: the LDT changes under its lock alone.
        unsafe { self.roots().read_ldt(0, &mut content, &KernelFrames) };
        Ok(content)
    }

    /// Gives `child`, which runs nowhere yet, a copy.
    ///
    /// # Errors
    /// `ENOMEM`.
    #[cold]
    pub(super) fn copy_ldt_to(&self, child: &Mm) -> Result<()> {
        let mut frames = KernelFrames;
        let copy = {
            let _guard = self.ldt.lock();
            // SAFETY: the LDT changes under its lock alone.
            unsafe { self.roots().copy_ldt(1, &mut frames) }
        };
        let copy = copy.map_err(|_| Errno::ENOMEM)?;
        // SAFETY: nobody else knows the child's memory.
        let retired = unsafe { child.roots().set_ldt(Some(copy), &mut frames) };
        let retired = retired.map_err(|_| Errno::ENOMEM)?;
        // SAFETY: no CPU runs on it.
        let unmapped = unsafe { retired.unmap(child.roots(), &frames) };
        let none = unmapped.flushed();
        debug_assert!(none.is_none(), "a new program has no LDT");
        Ok(())
    }
}

/// Bytes of the greatest LDT.
pub const GREATEST: usize = ringwall::core::private::LDT_ENTRIES * ENTRY;
