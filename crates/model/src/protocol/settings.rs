//! What is explored, and what is wrong with it on purpose.

/// What translations lead to. Sets of them are bits.
pub mod item {
    /// The first frame of a page of space A.
    pub const PAGE: u8 = 1;
    /// The second frame of that page, mapped when the first one is free.
    pub const AGAIN: u8 = 2;
    /// A page table of space A.
    pub const TABLE: u8 = 4;
    /// A page of the kernel half that user roots map as well.
    pub const SHARED: u8 = 8;
    /// That ring 3 may run under space A's kernel root, which only that root says: A is open. It is given once, and taken
    /// back as anything else is.
    pub const OPEN: u8 = 16;
    /// What there is not before somebody makes it.
    pub const LATER: u8 = AGAIN | OPEN;

    /// In words.
    pub fn name(item: u8) -> &'static str {
        match item {
            PAGE => "the page",
            AGAIN => "the page's second frame",
            TABLE => "the page table",
            OPEN => "ring 3's right to the kernel root",
            _ => "the kernel's page",
        }
    }
}

/// The machine and what happens on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// CR4.PCIDE is set.
    pub pcid: bool,
    /// INVPCID is there.
    pub invpcid: bool,
    /// User mode runs under roots of its own.
    pub isolated: bool,
    /// What may be taken out of page tables: bits of [`item`].
    pub items: u8,
    /// CPUs change address spaces under a lock that they hold until the frames are free.
    pub lock: bool,
    /// The last CPU comes up late.
    pub late: bool,
    /// How many spaces there are, A included. A CPU has slots for 2. If nothing but [`item::SHARED`] is taken out, A is
    /// not used.
    pub spaces: u8,
    /// A CPU may give the slot that it keeps A in to one more space.
    pub reuse: bool,
    /// What is wrong.
    pub broken: Option<Break>,
}

impl Settings {
    /// All that the CPU has, isolation, a page that may be taken out, and nothing else.
    pub const PCID: Settings = Settings {
        pcid: true,
        invpcid: true,
        isolated: true,
        items: item::PAGE,
        lock: false,
        late: false,
        spaces: 2,
        reuse: false,
        broken: None,
    };
    /// The user half is flushed on the way out.
    pub const WITHOUT_INVPCID: Settings = Settings { invpcid: false, ..Settings::PCID };
    /// Every write of CR3 flushes.
    pub const WITHOUT_PCID: Settings = Settings { pcid: false, ..Settings::WITHOUT_INVPCID };
    /// One root for all.
    pub const WITHOUT_ISOLATION: Settings = Settings { isolated: false, ..Settings::PCID };
    /// Neither isolation nor PCID.
    pub const PLAIN: Settings = Settings { isolated: false, ..Settings::WITHOUT_PCID };
}

/// A mistake in the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Break {
    /// The way out to ring 3 never flushes the user half.
    UserHalf,
    /// Page tables are changed when all have flushed, not before.
    FlushFirst,
    /// A CPU that has to be told may be left out.
    LostMessage,
    /// The CPUs to tell are read before the page tables are changed.
    EarlyTargets,
    /// The new generation is made before the page tables are changed.
    EarlyGeneration,
    /// A CPU reads the generation, then joins.
    LateJoin,
    /// A CPU that wakes compares generations, then says that it rests no more.
    LateWake,
    /// A CPU leaves the set while the old root is still loaded.
    EarlyLeave,
    /// A switch takes what its PCID holds for up to date.
    AlwaysKeep,
    /// A flush of everything flushes, then reads the generation that it has reached.
    LateRead,
    /// Frames are free before the others have answered.
    FreeEarly,
    /// The second frame is mapped before the others have answered: a copy on write that is stored, then flushed.
    NewFirst,
    /// A CPU answers, then flushes.
    AnswerFirst,
    /// Idle CPUs are not told of page tables either.
    IdleTables,
    /// A PCID goes to another space, and its user half is not flushed.
    UsedSlot,
    /// A change is flushed page by page though an earlier one was missed.
    SkippedGeneration,
    /// INVPCID of one address for a page table.
    TableByPage,
    /// That the user half has to be flushed is forgotten at the next switch.
    ForgottenDue,
    /// A flush of everything leaves the user half.
    WholeKernelHalf,
    /// The way out under the kernel root takes the mark of the user half away, and flushes nothing.
    OpenTakesMark,
    /// As long as A is open, its user half is not flushed.
    OpenSkipsUserHalf,
    /// A page of the kernel half is flushed in the PCID that is loaded only.
    OnePcid,
    /// A CPU that comes up flushes, then says that it is there.
    LateOnline,
    /// Who waits for answers gives none.
    DeafWaiter,
    /// Who waits for a lock gives none.
    DeafLock,
}
