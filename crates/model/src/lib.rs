//! The TLB shootdown protocol, in every interleaving.
//!
//! Three views of one thing, because none shows all of it:
//!
//! - [`protocol`] is a *state space*: three CPUs that take page tables apart, switch, idle, run programs and answer each
//!   other, one memory access at a time, in every order there is. Its TLBs keep whatever nothing flushed. It knows no
//!   weak memory: its accesses come in one order.
//! - `tests/atomics` runs the *code itself*, [`tlb`], under loom: the source of `ringwall-core`, compiled a second time
//!   with atomics ([`sync`]) that return every value that the language allows, not only the newest.
//! - `tests/lockstep` runs the code beside the state space, call by call: both have to do the same.
//!
//! Invariant: what is broken on purpose ([`protocol::Break`]) is found, with the shortest way there; and so is what is
//! broken in [`sync`].

pub mod explore;
pub mod protocol;
pub mod sync;
// `ringwall_core::tlb`, over `sync`. No doc comment: with one, its own links would be looked up here.
#[allow(clippy::modulo_one, reason = "a set of CPUs is one word here")]
#[path = "../../core/src/tlb/mod.rs"]
pub mod tlb;

/// What [`tlb`] looks for in its crate: sets of CPUs are one word here, or each look at one would be eight.
mod area {
    pub const MAX_CPUS: usize = 64;
}

mod root {
    pub use ringwall_core::root::{NO_FLUSH, Pcid, RootPair, Tlb, USER_PCID_BIT};
}
