//! The atomics that this crate uses, in one place: the crate `ringwall-model` compiles [`tlb`](crate::tlb) a second
//! time with atomics of its own here, which try every order that the language allows.

pub(crate) use core::sync::atomic::{AtomicU64, Ordering};
