//! The verdict on machine checks, against the manual's classes of errors.

use ringwall_rules::machine_check::{Circumstances, Status, Verdict, decide};

const UNCORRECTED: u64 = Status::VALID | Status::UNCORRECTED | Status::ENABLED;
const REQUIRED: u64 = UNCORRECTED | Status::SIGNALLED | Status::ACTION_REQUIRED;

fn at(from_user: bool, global: u64) -> Circumstances {
    let global = global | Circumstances::IN_PROGRESS;
    Circumstances { from_user, global, capabilities: Circumstances::RECOVERY }
}

fn verdict(from_user: bool, status: u64) -> Verdict {
    decide(&at(from_user, Circumstances::RESTART), [Status(status)])
}

fn stops(verdict: Verdict) -> bool {
    matches!(verdict, Verdict::Stop(_))
}

#[test]
fn what_nobody_used_lets_everything_go_on() {
    for from_user in [false, true] {
        for status in [
            0,
            Status::VALID | Status::ENABLED,
            // Not enabled: the bank holds something older.
            Status::VALID | Status::UNCORRECTED,
            // UCNA and SRAO.
            UNCORRECTED,
            UNCORRECTED | Status::OVERFLOW,
            UNCORRECTED | Status::SIGNALLED,
        ] {
            assert_eq!(verdict(from_user, status), Verdict::Continue, "{}", Status(status));
        }
    }
}

#[test]
fn used_data_ends_the_program_or_the_machine() {
    assert_eq!(verdict(true, REQUIRED), Verdict::Signal);
    assert!(stops(verdict(false, REQUIRED)));
    for from_user in [false, true] {
        assert!(stops(verdict(from_user, REQUIRED | Status::OVERFLOW)));
        assert!(stops(verdict(from_user, UNCORRECTED | Status::ACTION_REQUIRED)));
        assert!(stops(verdict(from_user, UNCORRECTED | Status::CONTEXT_CORRUPT)));
        // Nothing else counts then, not even that the bank was not enabled.
        assert!(stops(verdict(from_user, Status::VALID | Status::CONTEXT_CORRUPT)));
    }
}

#[test]
fn what_cannot_be_resumed_is_not() {
    let none = [Status(0); 0];
    assert!(stops(decide(&at(false, 0), none)));
    assert!(stops(decide(&at(false, Circumstances::ERROR_IP), none)));
    assert!(stops(decide(&at(true, 0), none)));
    assert_eq!(decide(&at(true, Circumstances::ERROR_IP), none), Verdict::Signal);
    assert_eq!(decide(&at(true, Circumstances::RESTART), none), Verdict::Continue);
}

#[test]
fn without_recovery_every_uncorrected_error_counts_as_used() {
    let old =
        |from_user| Circumstances { capabilities: 0, ..at(from_user, Circumstances::RESTART) };
    assert_eq!(decide(&old(true), [Status(UNCORRECTED)]), Verdict::Signal);
    assert!(stops(decide(&old(false), [Status(UNCORRECTED)])));
    assert_eq!(decide(&old(false), [Status(Status::VALID | Status::ENABLED)]), Verdict::Continue);
}

#[test]
fn the_gravest_bank_decides() {
    let corrupt = Status(UNCORRECTED | Status::CONTEXT_CORRUPT);
    let banks = [Status(UNCORRECTED), corrupt, Status(REQUIRED)];
    assert!(stops(decide(&at(true, Circumstances::RESTART), banks)));
    let banks = [Status(UNCORRECTED), Status(REQUIRED), Status(0)];
    assert_eq!(decide(&at(true, Circumstances::RESTART), banks), Verdict::Signal);
    // Bits of a bank that holds nothing mean nothing.
    assert_eq!(verdict(false, Status::CONTEXT_CORRUPT), Verdict::Continue);
}

#[test]
fn bits_are_named() {
    assert_eq!(Status(0xb000_0000_0000_0001).to_string(), "0xb000000000000001 VAL UC EN");
}
