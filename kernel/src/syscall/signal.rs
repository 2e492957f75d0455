//! System calls: signal.

use super::Calls;

/// This area's calls.
pub const CALLS: Calls = &[];
