//! The command `ringwall`: looks at x86-64 guests from outside.
//!
//! ```text
//!   ringwall audit    what can user mode see of the kernel?
//! ```
//!
//! Exit status: 0 clean, 1 findings, 2 could not look.

fn main() {}
