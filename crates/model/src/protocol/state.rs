//! All there is to know between two steps.

use super::settings::{Settings, item};

/// CPUs.
pub const CPUS: usize = 3;
/// Spaces whose translations a CPU keeps, with PCID.
pub const SLOTS: usize = 2;

/// The space that changes. 2 and 3 are others.
pub(super) const A: u8 = 1;

/// Everything.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct State {
    /// What page tables show.
    pub mapped: u8,
    /// What somebody has begun to take out.
    pub taken: u8,
    /// What may be used for something else.
    pub free: u8,
    /// Of space A, as the next three.
    pub generation: u8,
    /// CPUs whose CR3 holds one of its roots.
    pub loaded: u8,
    /// Those that idle on it.
    pub resting: u8,
    /// Who holds its lock, plus 1.
    pub lock: u8,
    /// CPUs that are up.
    pub online: u8,
    /// What each CPU knows.
    pub cpus: [Cpu; CPUS],
    /// What each CPU asks, and is asked.
    pub boxes: [Mailbox; CPUS],
}

/// What is asked of others: to flush an item, which generation took out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Letter {
    /// A bit of [`item`].
    pub item: u8,
    /// The generation without it.
    pub generation: u8,
}

/// One CPU's mailbox. That the real one is as good as this, each access being one step, is shown under loom.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mailbox {
    /// What this CPU asks.
    pub letter: Letter,
    /// Who has not answered.
    pub waits_for: u8,
    /// Who asks.
    pub asked_by: u8,
    /// An interrupt is on its way here.
    pub interrupt: bool,
}

/// Whose translations a PCID holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Slot {
    /// 0 for nobody's.
    pub space: u8,
    /// None older than this generation.
    pub seen: u8,
    /// The user half is older.
    pub user_due: bool,
}

/// One CPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Cpu {
    /// What it is about to do.
    pub at: At,
    /// Whose root CR3 holds.
    pub space: u8,
    /// It is the user root.
    pub user: bool,
    /// It does not use the user half.
    pub resting: bool,
    /// The next exit to ring 3 flushes the user half: bit 63 of the CR3 value to leave with is clear.
    pub exit_flush: bool,
    /// The slot of `space`.
    pub loaded: u8,
    /// The slot to give up next.
    pub next: u8,
    /// All slots.
    pub slots: [Slot; SLOTS],
    /// What each half of each PCID has cached: bits of [`item`].
    pub cached: [[u8; 2]; SLOTS],
}

/// Where a CPU is in what it does. Interrupts are on in [`At::User`] and [`At::Idle`] alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum At {
    /// Not up yet.
    Off,
    /// In the set of CPUs; what it has cached since it was switched on is to be flushed.
    Online,
    /// In the kernel, with nothing begun.
    Kernel,
    /// In ring 3.
    User,
    /// Halted, on the space it had last.
    Idle,
    /// Waits for the lock, to take an item out.
    Locking(u8),
    /// Has (broken: not yet) taken out the item that its letter names.
    Taken {
        /// The CPUs to tell, if they are known already (broken).
        targets: Option<u8>,
    },
    /// Has made a new generation (broken: before it has taken anything out).
    Retired {
        /// As there.
        targets: Option<u8>,
    },
    /// Tells these CPUs, unless they rest.
    Sending(u8),
    /// Has flushed for itself.
    Waiting,
    /// Is to flush for those that ask.
    Serving {
        /// Who asks.
        left: u8,
        /// Where to go on after that.
        back: Back,
    },
    /// Has joined space A.
    Joined,
    /// Knows its generation.
    Loading(u8),
    /// Has another root in CR3 now.
    Leaving,
    /// Rests no more, and has said so.
    Woken,
    /// Is to flush everything of A: reads the generation, then writes CR3.
    Reading(Then),
    /// Has read it.
    Flushing(Then),
    /// Broken orders only: the second half of a pair of steps comes next.
    Late(Late),
}

/// Where the CPU that serves others was before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Back {
    /// In ring 3; it goes on in the kernel, which may go back or do something else.
    Kernel,
    /// Idle.
    Idle,
    /// Waiting for answers itself.
    Waiting,
    /// Waiting for the lock.
    Locking(u8),
}

/// What follows a flush.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Then {
    /// An answer to this CPU.
    Answer {
        /// Who asked.
        sender: u8,
        /// Who else asks.
        left: u8,
        /// Where to go on after that.
        back: Back,
    },
    /// To wait for answers.
    Wait,
    /// Whatever the kernel likes.
    Kernel,
}

/// The second half of what is done in the wrong order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Late {
    /// Join, with what was read before.
    Join(u8),
    /// Say that it rests no more, the generation having been the same or not.
    Wake(bool),
    /// Load this space.
    Load(u8),
    /// Read the generation that the flush reached.
    Read(Then),
    /// Flush what was answered already.
    Flush(Letter, u8, Back),
    /// Say that it is up.
    Online,
}

impl State {
    /// Whether ring 3 may run under space A's kernel root.
    pub(super) fn is_open(&self) -> bool {
        self.mapped & item::OPEN != 0
    }

    /// The CPUs run in the kernel on space 2.
    pub(super) fn start(settings: &Settings) -> State {
        let cpu = Cpu {
            at: At::Kernel,
            space: 2,
            user: false,
            resting: false,
            exit_flush: false,
            loaded: 0,
            next: 1,
            slots: [Slot { space: 2, ..Slot::default() }, Slot::default()],
            cached: [[0; 2]; SLOTS],
        };
        let mut cpus = [cpu; CPUS];
        let mut online = (1 << CPUS) - 1;
        if settings.late {
            cpus[CPUS - 1].at = At::Off;
            online &= !(1 << (CPUS - 1));
        }
        State {
            mapped: settings.items & !item::LATER,
            taken: 0,
            free: 0,
            generation: 0,
            loaded: 0,
            resting: 0,
            lock: 0,
            online,
            cpus,
            boxes: [Mailbox::default(); CPUS],
        }
    }
}
