//! Tests of the tests: a check must fail on a kernel that is broken on purpose.

use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::boot::Boot;
use crate::made;

/// Runs `check` with a boot of the kernel that has the deliberate break `break-NAME`, and passes
/// only if the check panics. The same check has to pass on the sound kernel: that is a scenario of
/// its own.
///
/// # Panics
///
/// When `check` does not notice the break.
pub fn expect_broken(name: &str, check: impl Fn(Boot)) {
    if made::other_kernel() {
        println!("not our kernel, so there is no break-{name}: nothing to test");
        return;
    }
    // Outside of the closure: a kernel that has not been built is no break that was noticed.
    let _ = made::kernel(Some(name));
    let boot = Boot::new().broken(name);
    let noticed = catch_unwind(AssertUnwindSafe(|| check(boot))).is_err();
    assert!(noticed, "the check did not notice break-{name}");
}
