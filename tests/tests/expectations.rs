//! The example of expectations for a kernel that is not ours says what Debian's Linux shows, and no more.

use std::time::Duration;

use ringwall_audit::Expectations;
use ringwall_audit::document::Audit;
use ringwall_tests::{Boot, Library, linux, program};

const LINUX: &str = include_str!("../../docs/expectations/linux-6.1.toml");
const LIMIT: Duration = Duration::from_secs(80);

/// What is left of the findings of Debian's Linux with these words on its command line; `None` without that Linux.
fn left(pti: &str, program_name: &str, arguments: &str, expectations: &str) -> Option<Audit> {
    let Some(kernel) = linux() else {
        println!("skipped: Debian's Linux was not fetched");
        return None;
    };
    let boot = Boot::new().kernel(kernel).pti(pti).memory(256).limit(2 * LIMIT);
    let boot = boot.append("cryptomgr.notests").arguments(arguments);
    let mut running = boot.init(program(Library::Glibc, program_name)).start();
    running.wait_for("READY\n", LIMIT);
    let mut audit = running.look().audit;
    let expectations = Expectations::parse(expectations).unwrap_or_else(|error| panic!("{error}"));
    expectations.apply(&mut audit);
    Some(audit)
}

fn ids(audit: &Audit) -> Vec<&str> {
    audit.findings.iter().map(|finding| &*finding.id).collect()
}

#[test]
fn linux_with_isolation_is_as_declared() {
    if let Some(audit) = left("on", "spin", "2 2", LINUX) {
        assert!(audit.findings.is_empty(), "{:#?}", audit.findings);
    }
}

#[test]
fn linux_without_isolation_is_not() {
    if let Some(audit) = left("off", "spin", "", LINUX) {
        let ids = ids(&audit);
        assert!(ids.contains(&"kernel-mapped-whole") && ids.contains(&"not-declared"), "{ids:?}");
    }
}

#[test]
fn linux_with_one_page_less_declared_is_not() {
    let tight = LINUX.replace("pages = 5\n", "pages = 4\n");
    assert_ne!(tight, LINUX);
    if let Some(audit) = left("on", "spin", "", &tight) {
        let place = audit.findings.iter().flat_map(|finding| &finding.places).next();
        let note = place.map(|place| &*place.note);
        assert_eq!(note, Some("page 5 of its kind, where 4 for each CPU are declared"));
    }
}
