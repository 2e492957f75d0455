//! The parts of the command `ringwall` that tests use as well.

pub mod html;
