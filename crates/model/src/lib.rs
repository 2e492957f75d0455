//! The TLB shootdown protocol, in every interleaving.
//!
//! [`protocol`] is a *state space*: three CPUs that take page tables apart, switch, idle, run programs and answer each
//! other, one memory access at a time, in every order there is. Its TLBs keep whatever nothing flushed. It knows no
//! weak memory: its accesses come in one order.
//!
//! Invariant: what is broken on purpose ([`protocol::Break`]) is found, with the shortest way there.

pub mod explore;
pub mod protocol;
