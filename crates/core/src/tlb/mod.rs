//! What TLBs may still know, and who has to flush what, when.
//!
//! A translation that was taken out of the page tables stays usable, on every CPU that has it cached, until that
//! CPU flushes it. With PCID it outlives even a switch to another address space and back. This module decides
//! which flushes are needed and leaves out those that are not; it executes none itself ([`Hardware`] does).
//!
//! ```text
//!   mapper                                         each CPU
//!   changes page tables
//!   space.retire(pages) ─► Change, generation n    switch: joins space.loaded, reads the generation:
//!   space.targets(&change) ─ IPI ────────────────►   seen it: CR3 keeps the PCID's entries; else flushes them
//!   own cpu.flush(&change)                         IPI: cpu.flush(&change), answers
//!   waits for every answer
//!   frees the frames
//! ```
//!
//! Two facts make that safe. A CPU joins `loaded` *before* it reads the generation, and the mapper makes a new
//! generation *before* it reads `loaded`: so either the CPU sees the new generation, or the mapper sees the CPU. And
//! a CPU that knows an old generation never keeps what it has cached.
//!
//! The user half of a PCID is flushed lazily: bit 63 of the CR3 value to leave with is cleared, and the exit that loads
//! it flushes. While the kernel runs, nothing uses the user half. Setting the bit again is the exit's own last act
//! before the write, so the flush is paid once.
//!
//! - [`Space`] is shared by all CPUs: generation, and which CPUs need to be told.
//! - [`CpuTlb`] is one CPU's own: which PCID holds which space, as of which generation.
//! - [`Pages`] and [`Change`] say what was changed.
//! - [`Mailbox`] carries requests to other CPUs, and their answers back.
//! - [`Event`] is what is counted.
//!
//! Intel SDM vol. 3, 4.10 (caching translations, PCID, what each instruction flushes), 4.10.5 (other CPUs); AMD APM
//! vol. 2, 5.5.

mod change;
mod cpu;
mod event;
mod mailbox;
mod space;

pub use change::{Change, PAGES_LIMIT, Pages};
pub use cpu::{CpuTlb, Features, Hardware, SLOTS, Switch};
pub use event::Event;
pub use mailbox::Mailbox;
pub use space::{CpuSet, Space};
