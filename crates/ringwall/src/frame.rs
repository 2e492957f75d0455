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

/// RFLAGS bits that a program does not decide.
mod flags {
    /// IF, and bit 1, which is always set.
    pub const ALWAYS_USER: u64 = 1 << 9 | 1 << 1;
    /// IOPL, VM, VIF, VIP.
    pub const NEVER_USER: u64 = 3 << 12 | 1 << 17 | 1 << 19 | 1 << 20;
}

/// All general registers of the interrupted program and its return frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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
        rcx set_rcx, r11 set_r11, rip set_rip, rsp set_rsp,
    }

    /// The interrupted program's rflags.
    #[inline(always)]
    pub fn rflags(&self) -> u64 {
        self.rflags
    }

    /// Changes rflags; the frame then leaves by IRETQ.
    ///
    /// A program's frame keeps interrupts on, no I/O privilege and no virtual-8086 bits, whatever
    /// `value` says (SDM vol. 1, 3.4.3).
    pub fn set_rflags(&mut self, value: u64) {
        self.rflags = match self.from_user() {
            true => value & !flags::NEVER_USER | flags::ALWAYS_USER,
            false => value,
        };
        self.leave_by_iretq();
    }

    /// A frame that enters user mode at `rip` with stack `rsp`, all other registers zero.
    ///
    /// CS and SS are [`crate::USER_CODE_SELECTOR`] and [`crate::USER_DATA_SELECTOR`]; RFLAGS is IF
    /// alone.
    pub fn new_user(rip: u64, rsp: u64) -> Frame {
        Frame {
            r15: 0,
            r14: 0,
            r13: 0,
            r12: 0,
            rbp: 0,
            rbx: 0,
            r11: 0,
            r10: 0,
            r9: 0,
            r8: 0,
            rax: 0,
            rcx: 0,
            rdx: 0,
            rsi: 0,
            rdi: 0,
            vector: LEAVES_BY_IRETQ,
            error_code: 0,
            rip,
            cs: u64::from(crate::USER_CODE_SELECTOR),
            rflags: flags::ALWAYS_USER,
            rsp,
            ss: u64::from(crate::USER_DATA_SELECTOR),
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

    /// Makes the frame one of a system call of that number, however it came: a tracer brings back the
    /// registers of an interrupted call. It leaves by IRETQ.
    pub fn become_call(&mut self, number: u64) {
        self.vector = LEAVES_BY_IRETQ;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_gets_no_privileged_flag() {
        let mut frame = Frame::new_user(0x40_0000, 0x7000);
        frame.set_rflags(!(1 << 9));
        assert_eq!(frame.rflags() & (3 << 12), 0, "IOPL");
        assert_ne!(frame.rflags() & (1 << 9), 0, "IF");
        assert_eq!(frame.rflags() & (1 << 17), 0, "VM");
    }

    #[test]
    fn a_changed_frame_does_not_leave_by_sysretq() {
        let changes: [fn(&mut Frame); 6] = [
            |frame| frame.set_rip(1),
            |frame| frame.set_rsp(1),
            |frame| frame.set_rflags(1),
            |frame| frame.set_rcx(1),
            |frame| frame.set_r11(1),
            |frame| frame.set_selectors(0x33, 0x2b),
        ];
        for change in changes {
            let mut frame = Frame::new_user(0, 0);
            frame.vector = ENTERED_BY_SYSCALL;
            change(&mut frame);
            assert_eq!(frame.vector, LEAVES_BY_IRETQ);
        }
    }

    #[test]
    fn a_plain_result_still_leaves_by_sysretq() {
        let mut frame = Frame::new_user(0, 0);
        frame.vector = ENTERED_BY_SYSCALL;
        frame.set_rax(1);
        frame.set_rdx(1);
        assert_eq!(frame.vector, ENTERED_BY_SYSCALL);
    }

    #[test]
    fn selectors_cannot_name_ring_0() {
        let mut frame = Frame::new_user(0, 0);
        frame.set_selectors(0x10, 0x18);
        assert_eq!(frame.cs() & 3, 3);
    }
}
