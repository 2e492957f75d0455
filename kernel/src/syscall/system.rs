//! System calls: system.

use super::Calls;

/// This area's calls.
pub const CALLS: Calls = &[];
