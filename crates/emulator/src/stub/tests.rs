//! A stub that a script plays: refusals, silence, floods, the guest's end.

use super::*;
use std::os::unix::net::UnixStream;

/// A stub that says `script`, whatever it is asked, and then hangs up.
fn scripted(packets: &[&str]) -> Stub {
    let (ours, mut theirs) = UnixStream::pair().expect("a socket pair");
    for data in packets {
        theirs.write_all(&packet::frame(data)).expect("room for the script");
    }
    theirs.shutdown(std::net::Shutdown::Write).expect("an open socket");
    // Keeps the other side open for requests.
    std::mem::forget(theirs);
    Stub::new(ours)
}

#[test]
fn an_unmapped_address_has_no_bytes() {
    let mut stub = scripted(&["E14", "0102"]);
    assert_eq!(stub.read(0xffff_ffff_8000_0000, 2).expect("an answer"), None);
    assert_eq!(stub.read(0x1000, 2).expect("an answer"), Some(vec![1, 2]));
}

#[test]
fn nothing_at_all_is_no_memory() {
    let mut stub = scripted(&["", ""]);
    assert!(matches!(stub.read(0x1000, 2), Err(Error::Unreadable { .. })));
}

#[test]
fn a_description_without_end_is_given_up() {
    let (ours, mut theirs) = UnixStream::pair().expect("a socket pair");
    let part = packet::frame(&format!("m{}", "x".repeat(0x1000)));
    let flood = std::thread::spawn(move || while theirs.write_all(&part).is_ok() {});
    let mut stub = Stub::new(ours);
    assert!(matches!(stub.document("target.xml"), Err(Error::Unreadable { .. })));
    drop(stub);
    flood.join().expect("an end");
}

#[test]
fn a_refusal_is_an_error() {
    let mut stub = scripted(&["", "OK"]);
    assert!(matches!(stub.hold_events(true), Err(Error::Refused { .. })));
    stub.set_breakpoint(0x1000).expect("an OK");
}

#[test]
fn the_guests_end_is_an_error_and_no_wait() {
    let mut stub = scripted(&["W00"]);
    assert!(matches!(stub.run(Duration::from_secs(60)), Err(Error::Silent { .. })));
    assert!(matches!(stub.step(), Err(Error::Silent { .. })));
}
