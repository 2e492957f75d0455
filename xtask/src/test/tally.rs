//! Sums of cargo's `test result:` lines, and a last line of the same form.

use std::time::Duration;

/// Numbers of tests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Tests that passed.
    pub passed: u64,
    /// Tests that failed, and steps that did.
    pub failed: u64,
    /// Tests that were not run on purpose.
    pub ignored: u64,
}

impl Tally {
    /// Counts what a line says, if it is one of cargo's results.
    pub fn read(&mut self, line: &str) {
        let Some(result) = line.strip_prefix("test result: ") else {
            return;
        };
        let number = |name: &str| {
            let end = result.find(&format!(" {name};"))?;
            result[..end].rsplit([' ', ';']).next()?.parse::<u64>().ok()
        };
        self.passed += number("passed").unwrap_or(0);
        self.failed += number("failed").unwrap_or(0);
        self.ignored += number("ignored").unwrap_or(0);
    }

    /// Counts a step: a failure if no test says so already, a pass if it ran no tests.
    pub fn count_step(&mut self, passed: bool) {
        if !passed && self.failed == 0 {
            self.failed += 1;
        } else if passed && *self == Tally::default() {
            self.passed += 1;
        }
    }

    /// Adds another tally.
    pub fn add(&mut self, other: &Tally) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.ignored += other.ignored;
    }

    /// The line that cargo would close with.
    pub fn line(&self, elapsed: Duration) -> String {
        let result = if self.failed == 0 { "ok" } else { "FAILED" };
        let Tally { passed, failed, ignored } = self;
        format!(
            "test result: {result}. {passed} passed; {failed} failed; {ignored} ignored; \
             0 measured; 0 filtered out; finished in {:.2}s",
            elapsed.as_secs_f64()
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_are_summed_and_written_in_the_form_they_were_read() {
        let mut tally = Tally::default();
        tally.read("test result: ok. 12 passed; 0 failed; 1 ignored; 0 measured; 3 filtered out; finished in 0.46s");
        tally.read("test result: FAILED. 3 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.1s");
        tally.read("test something ... ok");
        assert_eq!(tally, Tally { passed: 15, failed: 2, ignored: 1 });

        let mut again = Tally::default();
        again.read(&tally.line(Duration::from_secs(1)));
        assert_eq!(again, tally);
    }

    #[test]
    fn a_step_without_tests_counts_as_one() {
        let mut tally = Tally::default();
        tally.count_step(true);
        assert_eq!(tally, Tally { passed: 1, ..Tally::default() });

        let mut broken_build = Tally { passed: 5, ..Tally::default() };
        broken_build.count_step(false);
        assert_eq!(broken_build, Tally { passed: 5, failed: 1, ignored: 0 });

        let mut failed_tests = Tally { passed: 5, failed: 2, ignored: 0 };
        failed_tests.count_step(false);
        assert_eq!(failed_tests.failed, 2);
    }
}
