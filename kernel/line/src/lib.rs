//! A terminal's line discipline as data: editing, echo, output processing.
//!
//! ```text
//! line -> Discipline::input -> buffer -> peek, consume -> a reading program
//!                 \-> echo --\
//! a writing program -> Output::post -> line
//! ```
//!
//! Bytes come in and go out; nothing here knows of a serial port, a process or a lock.
#![no_std]
#![forbid(unsafe_code)]

mod discipline;
mod output;
mod settings;

pub use discipline::{Discipline, Effect};
pub use output::Output;
pub use settings::{Settings, WithSpeeds};
