//! Monitors that follow a script, and others that are none.

use super::*;
use std::os::unix::net::UnixStream;

/// A monitor that says `script`, whatever it is asked, and then hangs up.
fn scripted(script: &str) -> Result<Monitor, Error> {
    let (ours, mut theirs) = UnixStream::pair().expect("a socket pair");
    let text = format!("{{\"QMP\": {{}}}}\n{{\"return\": {{}}}}\n{script}");
    theirs.write_all(text.as_bytes()).expect("room for the script");
    theirs.shutdown(std::net::Shutdown::Write).expect("an open socket");
    // Keeps the other side open for requests.
    std::mem::forget(theirs);
    Monitor::new(ours)
}

#[test]
fn events_before_an_answer_are_kept() {
    let mut monitor = scripted(concat!(
        "{\"event\": \"SHUTDOWN\", \"data\": {\"guest\": true, \"reason\": \"guest-reset\"}}\n",
        "{\"return\": \"text\\r\\n\"}\n",
    ))
    .expect("a greeting");
    assert_eq!(monitor.human("info status", 0).expect("an answer"), "text\n");
    assert_eq!(monitor.shutdown_reason().as_deref(), Some("guest-reset"));
}

#[test]
fn who_has_ended_is_not_waited_for_as_long() {
    let (ours, mut theirs) = UnixStream::pair().expect("a socket pair");
    let end = "{\"event\": \"SHUTDOWN\", \"data\": {\"reason\": \"guest-shutdown\"}}\n";
    let script = format!("{{\"QMP\": {{}}}}\n{{\"return\": {{}}}}\n{end}");
    theirs.write_all(script.as_bytes()).expect("room for the script");
    let mut monitor = Monitor::new(ours).expect("a greeting");
    let start = Instant::now();
    let answer = monitor.execute_within("stop", json!({}), Duration::from_secs(600));
    assert!(matches!(answer, Err(Error::Silent { .. })) && monitor.has_shut_down());
    assert!(start.elapsed() < Duration::from_secs(300));
}

#[test]
fn a_refusal_is_an_error_with_its_reason() {
    let mut monitor =
        scripted("{\"error\": {\"desc\": \"no such command\"}}\n").expect("a greeting");
    let error = monitor.execute("nonsense", json!({})).expect_err("a refusal");
    assert_eq!(error.to_string(), "QEMU refused `nonsense`: no such command");
}

#[test]
fn a_closed_connection_is_an_error() {
    let mut monitor = scripted("").expect("a greeting");
    assert!(matches!(monitor.stop(), Err(Error::Silent { .. })));
    assert!(matches!(monitor.stop(), Err(Error::Silent { .. })), "and stays one");
}

#[test]
fn something_else_than_a_monitor_is_an_error() {
    let (ours, mut theirs) = UnixStream::pair().expect("a socket pair");
    theirs.write_all(b"{\"hello\": 1}\n").expect("room");
    assert!(matches!(Monitor::new(ours), Err(Error::Unreadable { .. })));
    let (ours, mut theirs) = UnixStream::pair().expect("a socket pair");
    theirs.write_all(b"SSH-2.0-OpenSSH\r\n").expect("room");
    assert!(matches!(Monitor::new(ours), Err(Error::Silent { .. })));
}

#[test]
fn an_answer_to_another_question_is_passed_over() {
    let script = "{\"return\": 7, \"id\": 99}\n{\"return\": 8, \"id\": 2}\n";
    let mut monitor = scripted(script).expect("a greeting");
    assert_eq!(monitor.execute("one", json!({})).expect("an answer"), json!(8));
}

#[test]
fn drops_of_an_answer_do_not_hold_anybody() {
    let (ours, mut theirs) = UnixStream::pair().expect("a socket pair");
    theirs.write_all(b"{\"QMP\": {}}\n{\"return\": {}}\n").expect("room");
    let mut monitor = Monitor::new(ours).expect("a greeting");
    let dripping = std::thread::spawn(move || {
        while theirs.write_all(b" ").is_ok() {
            std::thread::sleep(Duration::from_millis(5));
        }
    });
    let answer = monitor.execute_within("one", json!({}), Duration::from_millis(100));
    assert!(matches!(answer, Err(Error::Silent { .. })));
    drop(monitor);
    dripping.join().expect("an end");
}

#[test]
fn an_answer_without_end_is_not_kept() {
    let (ours, mut theirs) = UnixStream::pair().expect("a socket pair");
    theirs.write_all(b"{\"QMP\": {}}\n{\"return\": {}}\n").expect("room");
    let mut monitor = Monitor::new(ours).expect("a greeting");
    let flood = std::thread::spawn(move || while theirs.write_all(&[b' '; 1 << 16]).is_ok() {});
    assert!(matches!(monitor.stop(), Err(Error::Silent { .. })));
    assert!(monitor.received.len() < LONGEST_ANSWER + (1 << 17));
    drop(monitor);
    flood.join().expect("an end");
}

#[test]
fn a_long_text_is_read_and_a_long_anything_is_not() {
    let (ours, mut theirs) = UnixStream::pair().expect("a socket pair");
    let answers = std::thread::spawn(move || {
        let text = "x".repeat(2 * LONGEST_VALUE);
        let list = "1,".repeat(LONGEST_VALUE);
        let script = format!(
            "{{\"QMP\": {{}}}}\n{{\"return\": {{}}}}\n{{\"return\": \"{text}\"}}\n{{\"return\": [{list}1]}}\n"
        );
        theirs.write_all(script.as_bytes()).expect("a reader");
        theirs
    });
    let mut monitor = Monitor::new(ours).expect("a greeting");
    assert_eq!(monitor.human("info tlb", 0).expect("a text").len(), 2 * LONGEST_VALUE);
    assert!(matches!(monitor.execute("list", json!({})), Err(Error::Silent { .. })));
    answers.join().expect("an end");
}
