//! Clocks and timers.

/// Nanoseconds since boot.
pub fn now() -> u64 {
    todo!()
}

/// Nanoseconds since 1970.
pub fn realtime() -> u64 {
    todo!()
}

/// The local APIC timer's interrupt. `from_user`: it interrupted ring 3.
pub fn tick(_from_user: bool) {
    todo!()
}
