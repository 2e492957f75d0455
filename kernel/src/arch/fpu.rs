//! FPU, SSE and AVX state of threads. The kernel itself uses none of it.

/// A thread's saved state, as XSAVE lays it out (SDM vol. 1, 13.4).
pub struct FpuState;

impl FpuState {
    /// The state a new program starts with.
    pub fn initial() -> FpuState {
        todo!()
    }
    /// Saves the CPU's state here.
    pub fn save(&mut self) {
        todo!()
    }
    /// Loads the CPU's state from here.
    pub fn load(&self) {
        todo!()
    }
    /// A copy of the CPU's present state (fork, clone).
    pub fn copy_current() -> FpuState {
        todo!()
    }
}

/// Size of the XSAVE area in bytes, all enabled components.
pub fn size() -> usize {
    todo!()
}

/// Enabled components (XCR0).
pub fn components() -> u64 {
    todo!()
}

/// XSAVEs the CPU's state to user memory (64-aligned) and fills Linux's software bytes
/// (FP_XSTATE_MAGIC1, size, components, FP_XSTATE_MAGIC2 behind), for a signal frame.
///
/// # Errors
/// `EFAULT`.
pub fn save_to_user(_address: u64) -> crate::errno::Result<()> {
    todo!()
}

/// XRSTORs from user memory as sigreturn does; header and reserved bits are checked so that
/// nothing in it can fault the kernel.
///
/// # Errors
/// `EFAULT`, `EINVAL`.
pub fn load_from_user(_address: u64) -> crate::errno::Result<()> {
    todo!()
}
