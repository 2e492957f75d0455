//! Three CPUs and one address space that changes.
//!
//! ```text
//!   space A: a page (two frames after each other), a page table          B, C: other spaces, which nobody changes
//!   every space: one page of the kernel half that user roots map too
//!
//!   Kernel ──► User, Idle            a CPU does whatever it likes next: goes to ring 3, comes back, idles, wakes,
//!     │  ▲                           switches to any space, takes something out of A's tables or the kernel's
//!     ▼  │
//!   Taken ► Retired ► Sending ► (flush) ► Waiting          each arrow is one access to memory that others use,
//!   Joined ► Loading ► Leaving                             or one that changes this CPU's TLB
//! ```
//!
//! The TLB is the worst there can be: at every moment it holds every translation that its page tables have shown
//! since it was last flushed, several of one page at a time. That stands for every weaker TLB, because what the
//! protocol does depends on nothing that a TLB holds, and more translations are never better.
//!
//! Invariants looked for in each state ([`Protocol::fault`](crate::explore::Machine::fault)):
//!
//! 1. a CPU that runs a program, or the kernel on a program's behalf, has no translation to a freed frame;
//! 2. no CPU at all, idle ones included, can walk through a freed page table;
//! 3. no CPU that runs has a translation to a page's first frame once the tables show the second: or what one CPU stores,
//!    and says that it has, another does not find;
//! 4. somebody can always go on.
//!
//! Intel SDM vol. 3, 4.10.2 (TLBs), 4.10.3 (paging-structure caches), 4.10.4.1 (what flushes what).

mod mapper;
mod same;
mod serving;
mod settings;
mod state;
mod steps;
mod switching;
mod tlb;

pub use settings::{Break, Settings, item};
pub use state::{At, CPUS, Cpu, SLOTS, Slot, State};
pub use steps::{Protocol, Step};
