//! What to do about a machine check, from what its banks say.
//!
//! Invariant: nothing goes on that may have used wrong data. If the manual does not say that the
//! interrupted code is sound and may be resumed, it is not resumed.
//!
//! Sources: SDM vol. 3, 16.3.2 (the bank registers), 16.6 (recovery), table 16-6 (classes of uncorrected errors).

use core::fmt;

/// IA32_MCi_STATUS.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Status(pub u64);

impl Status {
    /// The bank holds an error.
    pub const VALID: u64 = 1 << 63;
    /// An earlier error was overwritten.
    pub const OVERFLOW: u64 = 1 << 62;
    /// Hardware did not correct it.
    pub const UNCORRECTED: u64 = 1 << 61;
    /// The bank's IA32_MCi_CTL asks to be told of it.
    pub const ENABLED: u64 = 1 << 60;
    /// IA32_MCi_MISC says more.
    pub const MISC_VALID: u64 = 1 << 59;
    /// IA32_MCi_ADDR says where.
    pub const ADDRESS_VALID: u64 = 1 << 58;
    /// The state of the processor is not to be relied on.
    pub const CONTEXT_CORRUPT: u64 = 1 << 57;
    /// It was signalled by this exception. Only with recovery.
    pub const SIGNALLED: u64 = 1 << 56;
    /// The interrupted code must not go on as it is. Only with recovery.
    pub const ACTION_REQUIRED: u64 = 1 << 55;

    fn has(self, bits: u64) -> bool {
        self.0 & bits == bits
    }

    /// Whether there is an error.
    pub fn valid(self) -> bool {
        self.has(Status::VALID)
    }

    /// Whether the bank's address register means something.
    pub fn has_address(self) -> bool {
        self.has(Status::ADDRESS_VALID)
    }
}

impl fmt::Debug for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for Status {
    /// The number and the manual's names of the bits that are set.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const NAMES: [(u64, &str); 9] = [
            (Status::VALID, "VAL"),
            (Status::OVERFLOW, "OVER"),
            (Status::UNCORRECTED, "UC"),
            (Status::ENABLED, "EN"),
            (Status::MISC_VALID, "MISCV"),
            (Status::ADDRESS_VALID, "ADDRV"),
            (Status::CONTEXT_CORRUPT, "PCC"),
            (Status::SIGNALLED, "S"),
            (Status::ACTION_REQUIRED, "AR"),
        ];
        write!(f, "{:#018x}", self.0)?;
        NAMES
            .iter()
            .filter(|(bit, _)| self.has(*bit))
            .try_for_each(|(_, name)| write!(f, " {name}"))
    }
}

/// What is the same for all banks: where the machine check came, and IA32_MCG_STATUS and IA32_MCG_CAP.
#[derive(Clone, Copy, Debug)]
pub struct Circumstances {
    /// The interrupted code ran in ring 3.
    pub from_user: bool,
    /// IA32_MCG_STATUS.
    pub global: u64,
    /// IA32_MCG_CAP.
    pub capabilities: u64,
}

impl Circumstances {
    /// In IA32_MCG_STATUS: the interrupted code can be resumed.
    pub const RESTART: u64 = 1 << 0;
    /// In IA32_MCG_STATUS: the interrupted instruction is the one with the error.
    pub const ERROR_IP: u64 = 1 << 1;
    /// In IA32_MCG_STATUS: a machine check is being handled. Another one meanwhile resets the machine.
    pub const IN_PROGRESS: u64 = 1 << 2;
    /// In IA32_MCG_CAP: the banks say of uncorrected errors what is to be done (S and AR).
    pub const RECOVERY: u64 = 1 << 24;

    fn restart(&self) -> bool {
        self.global & Circumstances::RESTART != 0
    }

    fn recovery(&self) -> bool {
        self.capabilities & Circumstances::RECOVERY != 0
    }
}

/// What to do. In the order of weight: of several banks the gravest decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// Resume what was interrupted, and tell later.
    Continue,
    /// The running program has used wrong data: it gets SIGBUS. Only from ring 3.
    Signal,
    /// Stop the machine, for this reason.
    Stop(&'static str),
}

/// The verdict on a whole machine check.
pub fn decide(at: &Circumstances, banks: impl IntoIterator<Item = Status>) -> Verdict {
    let valid = banks.into_iter().filter(|status| status.valid());
    valid
        .map(|status| bank(at, status))
        .max()
        .map_or(resumable(at), |worst| worst.max(resumable(at)))
}

/// Whether what was interrupted can be resumed at all.
fn resumable(at: &Circumstances) -> Verdict {
    if at.restart() {
        return Verdict::Continue;
    }
    match (at.from_user, at.global & Circumstances::ERROR_IP != 0) {
        (true, true) => Verdict::Signal,
        (true, false) => Verdict::Stop("the processor does not say where the error was"),
        (false, _) => Verdict::Stop("the kernel cannot be resumed"),
    }
}

fn bank(at: &Circumstances, status: Status) -> Verdict {
    if status.has(Status::CONTEXT_CORRUPT) {
        return Verdict::Stop("the processor's state is corrupt");
    }
    if !status.has(Status::ENABLED) || !status.has(Status::UNCORRECTED) {
        return Verdict::Continue;
    }
    if !at.recovery() {
        // Nothing says whose data it is.
        return used(at, "an uncorrected error, and this processor cannot say whose");
    }
    match (status.has(Status::SIGNALLED), status.has(Status::ACTION_REQUIRED)) {
        // Found while nobody needed the data.
        (_, false) => Verdict::Continue,
        (false, true) => Verdict::Stop("action required by an error that was not signalled"),
        (true, true) if status.has(Status::OVERFLOW) => {
            Verdict::Stop("action required, and another error was lost")
        }
        (true, true) => used(at, "the kernel has used wrong data"),
    }
}

/// The interrupted code has used wrong data.
fn used(at: &Circumstances, in_kernel: &'static str) -> Verdict {
    if at.from_user { Verdict::Signal } else { Verdict::Stop(in_kernel) }
}
