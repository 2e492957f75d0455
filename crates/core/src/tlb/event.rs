//! What is counted of flushes: those taken and those spared.
//!
//! Invariant: each decision of [`CpuTlb`](super::CpuTlb) that flushes, or that spares a flush, is one event.

/// One decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Event {
    /// CR3 was written for another address space, whose translations were kept.
    SwitchKept,
    /// CR3 was written for another address space, and what was known of it dropped.
    SwitchFlushed,
    /// A change was flushed page by page.
    ChangeByPage,
    /// A change was flushed by dropping all of its address space: CR3 was written.
    ChangeWhole,
    /// A change of kernel pages was flushed by dropping all there is, of every PCID and global.
    Everything,
    /// A change needed no flush: it came with an earlier one, or the CPU runs something else by now.
    ChangeSpared,
    /// With PCID, the user half of a change was left to be dropped by the next exit; one exit drops those of all changes
    /// since the last.
    UserHalfDue,
}

impl Event {
    /// How many there are.
    pub const COUNT: usize = 7;

    /// All, each at the index that it is as a number.
    pub const ALL: [Event; Event::COUNT] = [
        Event::SwitchKept,
        Event::SwitchFlushed,
        Event::ChangeByPage,
        Event::ChangeWhole,
        Event::Everything,
        Event::ChangeSpared,
        Event::UserHalfDue,
    ];

    /// What it is called in a list of counters.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Event::SwitchKept => "switch-kept",
            Event::SwitchFlushed => "switch-flushed",
            Event::ChangeByPage => "flush-pages",
            Event::ChangeWhole => "flush-whole",
            Event::Everything => "flush-all",
            Event::ChangeSpared => "flush-spared",
            Event::UserHalfDue => "flush-exit",
        }
    }
}

const _: () = {
    let mut index = 0;
    while index < Event::COUNT {
        assert!(Event::ALL[index] as usize == index, "`ALL` is in the order of the numbers");
        index += 1;
    }
};
