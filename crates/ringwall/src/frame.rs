//! The registers of an interrupted program, as the entry code saves them on the task stack.
//!
//! One layout serves every way in. The CPU's own frame stands at the top, as IRETQ wants it
//! (SDM vol. 3, 6.14.2):
//!
//! ```text
//!   +168 ss      pushed by the CPU, or by the SYSCALL entry in its place
//!   +160 rsp
//!   +152 rflags
//!   +144 cs
//!   +136 rip     <- 16-byte aligned end of the part below
//!   +128 error code, or the system-call number
//!   +120 vector, or how SYSCALL's frame may leave
//!   +112 rdi ... +0 r15
//! ```
//!
//! Invariant: a frame whose origin is [`ENTERED_BY_SYSCALL`] still holds in RCX and R11 what
//! SYSCALL put there, and nothing changed RIP, RSP's validity, RFLAGS or a selector; only such a
//! frame may leave by SYSRETQ. That is why those fields have setters that demote the frame, and no
//! field is public (CVE-2012-0217 is what happens otherwise).

/// Value of the vector word of a frame that came by SYSCALL and may leave by SYSRETQ.
pub const ENTERED_BY_SYSCALL: u64 = 0x100;
/// Value of the vector word of a frame that came by SYSCALL and has to leave by IRETQ.
pub const LEAVES_BY_IRETQ: u64 = 0x101;

/// All general registers of the interrupted program and its return frame.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Frame {
    pub(crate) r15: u64,
    pub(crate) r14: u64,
    pub(crate) r13: u64,
    pub(crate) r12: u64,
    pub(crate) rbp: u64,
    pub(crate) rbx: u64,
    pub(crate) r11: u64,
    pub(crate) r10: u64,
    pub(crate) r9: u64,
    pub(crate) r8: u64,
    pub(crate) rax: u64,
    pub(crate) rcx: u64,
    pub(crate) rdx: u64,
    pub(crate) rsi: u64,
    pub(crate) rdi: u64,
    pub(crate) vector: u64,
    pub(crate) error_code: u64,
    pub(crate) rip: u64,
    pub(crate) cs: u64,
    pub(crate) rflags: u64,
    pub(crate) rsp: u64,
    pub(crate) ss: u64,
}

macro_rules! plain_registers {
    ($($get:ident $set:ident),* $(,)?) => {$(
        #[doc = concat!("The interrupted program's ", stringify!($get), ".")]
        #[inline(always)]
        pub fn $get(&self) -> u64 { self.$get }
        #[doc = concat!("Changes ", stringify!($get), " as the program will see it.")]
        #[inline(always)]
        pub fn $set(&mut self, value: u64) { self.$get = value; }
    )*};
}

macro_rules! return_registers {
    ($($get:ident $set:ident),* $(,)?) => {$(
        #[doc = concat!("The interrupted program's ", stringify!($get), ".")]
        #[inline(always)]
        pub fn $get(&self) -> u64 { self.$get }
        #[doc = concat!("Changes ", stringify!($get), "; the frame then leaves by IRETQ.")]
        #[inline(always)]
        pub fn $set(&mut self, value: u64) { self.$get = value; self.leave_by_iretq(); }
    )*};
}

impl Frame {
    plain_registers! {
        r15 set_r15, r14 set_r14, r13 set_r13, r12 set_r12, rbp set_rbp, rbx set_rbx,
        r10 set_r10, r9 set_r9, r8 set_r8, rax set_rax, rdx set_rdx, rsi set_rsi, rdi set_rdi,
    }
    return_registers! {
        rcx set_rcx, r11 set_r11, rip set_rip, rflags set_rflags, rsp set_rsp,
    }

    /// A frame that enters user mode at `rip` with stack `rsp`, all other registers zero.
    ///
    /// `cs` and `ss` are the user selectors of [`crate::Selectors`]; RFLAGS is IF alone.
    pub fn new_user(rip: u64, rsp: u64) -> Frame {
        Frame {
            rip,
            rsp,
            rflags: 0x202,
            cs: u64::from(crate::USER_CODE_SELECTOR),
            ss: u64::from(crate::USER_DATA_SELECTOR),
            vector: LEAVES_BY_IRETQ,
            ..Frame::default()
        }
    }

    /// The code selector.
    pub fn cs(&self) -> u16 {
        self.cs as u16
    }

    /// The stack selector.
    pub fn ss(&self) -> u16 {
        self.ss as u16
    }

    /// Changes both selectors; the frame then leaves by IRETQ.
    ///
    /// Any value is safe: the entry code turns a fault of the exit IRETQ into a trap of the
    /// program. A selector with RPL below 3 is raised to 3, so that no frame of a program can
    /// return to the kernel's ring.
    pub fn set_selectors(&mut self, cs: u16, ss: u16) {
        self.cs = u64::from(cs | 3);
        self.ss = u64::from(ss);
        self.leave_by_iretq();
    }

    /// Makes this frame leave by IRETQ, whichever way it came.
    pub fn leave_by_iretq(&mut self) {
        if self.vector == ENTERED_BY_SYSCALL {
            self.vector = LEAVES_BY_IRETQ;
        }
    }

    /// The vector, or `None` for a frame that came by SYSCALL.
    pub fn vector(&self) -> Option<u8> {
        (self.vector < 256).then_some(self.vector as u8)
    }

    /// The CPU's error code; 0 for vectors that have none.
    pub fn error_code(&self) -> u64 {
        self.error_code
    }

    /// RAX as SYSCALL found it. Only means something while [`Frame::vector`] is `None`.
    #[inline(always)]
    pub fn number(&self) -> u64 {
        self.error_code
    }

    /// Replaces the saved system-call number (restarts, tracers).
    pub fn set_number(&mut self, number: u64) {
        self.error_code = number;
    }

    /// Argument registers of the Linux system-call convention: RDI, RSI, RDX, R10, R8, R9.
    pub fn arguments(&self) -> [u64; 6] {
        [self.rdi, self.rsi, self.rdx, self.r10, self.r8, self.r9]
    }

    /// Whether the interrupted code ran in ring 3.
    #[inline(always)]
    pub fn from_user(&self) -> bool {
        self.cs & 3 == 3
    }
}
