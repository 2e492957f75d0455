//! Tests of the tests: a check must fail on a kernel that is broken on purpose.

use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::boot::Boot;
use crate::made;

/// Runs `check` with a boot of the kernel that has the deliberate break `name`, and passes
/// only if the check panics and says `symptom`: a break must be noticed for what it is, and not by
/// an accident on the way. The same check has to pass on the sound kernel: that is a scenario of its
/// own.
///
/// # Panics
///
/// When `check` does not notice the break, or notices something else.
pub fn expect_broken(name: &str, symptom: &str, check: impl Fn(Boot)) {
    if made::other_kernel() {
        println!("not our kernel, so it has no break {name}: nothing to test");
        return;
    }
    // Outside of the closure: a kernel that has not been built is no break that was noticed.
    let _ = made::breakable();
    let boot = Boot::new().broken(name);
    let Err(noticed) = catch_unwind(AssertUnwindSafe(|| check(boot))) else {
        panic!("the check did not notice the break {name}");
    };
    let said = match (noticed.downcast_ref::<String>(), noticed.downcast_ref::<&str>()) {
        (Some(said), _) => said.as_str(),
        (None, Some(said)) => said,
        (None, None) => "",
    };
    assert!(said.contains(symptom), "the break {name} did not show as {symptom:?} but as: {said}");
}
