//! What is typed, what is echoed, what a program reads: as Linux's N_TTY does it.

use proptest::prelude::*;
use ringwall_line::{Discipline, Settings};

const ICANON: u32 = 2;
const ECHO: u32 = 8;

/// Types `bytes`; gives what came back on the line and the signals.
fn type_in(discipline: &mut Discipline, bytes: &[u8]) -> (Vec<u8>, Vec<u32>) {
    let mut echo = Vec::new();
    let mut signals = Vec::new();
    for &byte in bytes {
        let effect = discipline.input(byte, &mut |byte| echo.push(byte));
        signals.extend(effect.signal);
    }
    (echo, signals)
}

/// One read of at most `most` bytes; `None` where it would wait.
fn read(discipline: &mut Discipline, most: usize) -> Option<Vec<u8>> {
    let mut into = vec![0; most];
    let (copied, taken, _) = discipline.peek(&mut into);
    if taken == 0 {
        return None;
    }
    discipline.consume(taken);
    into.truncate(copied);
    Some(into)
}

#[test]
fn lines_are_edited() {
    let cases: &[(&[u8], &[u8], &[u8])] = &[
        (b"abc\n", b"abc\r\n", b"abc\n"),
        (b"abc\r", b"abc\r\n", b"abc\n"),
        (b"abd\x7fc\n", b"abd\x08 \x08c\r\n", b"abc\n"),
        (b"\x7f\x15\x17x\n", b"x\r\n", b"x\n"),
        (b"one two\x17six\n", b"one two\x08 \x08\x08 \x08\x08 \x08six\r\n", b"one six\n"),
        (b"junk\x15ok\n", b"junk\x08 \x08\x08 \x08\x08 \x08\x08 \x08ok\r\n", b"ok\n"),
        (b"a\tb\x7f\x7fc\n", b"a\tb\x08 \x08\x08\x08\x08\x08\x08\x08\x08c\r\n", b"ac\n"),
        (b"a\x01\x7fb\n", b"a^A\x08 \x08\x08 \x08b\r\n", b"ab\n"),
        (b"\x16\x03\n", b"^\x08^C\r\n", b"\x03\n"),
        (b"ab\x12c\n", b"ab^R\r\nabc\r\n", b"abc\n"),
    ];
    for (typed, echoed, line) in cases {
        let mut discipline = Discipline::new();
        let (echo, _) = type_in(&mut discipline, typed);
        assert_eq!(echo.escape_ascii().to_string(), echoed.escape_ascii().to_string());
        assert_eq!(read(&mut discipline, 100).as_deref(), Some(*line), "typed {typed:?}");
        assert_eq!(read(&mut discipline, 100), None);
    }
}

#[test]
fn a_read_gets_one_line_and_the_end_of_file_ends_it() {
    let mut discipline = Discipline::new();
    type_in(&mut discipline, b"one\ntwo\npart\x04\x04left");
    assert_eq!(read(&mut discipline, 2).as_deref(), Some(&b"on"[..]));
    assert_eq!(read(&mut discipline, 100).as_deref(), Some(&b"e\n"[..]));
    assert_eq!(read(&mut discipline, 100).as_deref(), Some(&b"two\n"[..]));
    assert_eq!(read(&mut discipline, 100).as_deref(), Some(&b"part"[..]));
    assert_eq!(read(&mut discipline, 100).as_deref(), Some(&b""[..]));
    assert_eq!(read(&mut discipline, 100), None);
}

#[test]
fn signal_characters_drop_what_was_typed() {
    let mut discipline = Discipline::new();
    let (echo, signals) = type_in(&mut discipline, b"abc\x03def\x1cx\x1ay\n");
    assert_eq!(signals, [2, 3, 20]);
    assert_eq!(echo, b"abc^Cdef^\\x^Zy\r\n");
    assert_eq!(read(&mut discipline, 100).as_deref(), Some(&b"y\n"[..]));
}

#[test]
fn stop_and_start_are_swallowed() {
    let mut discipline = Discipline::new();
    let (echo, _) = type_in(&mut discipline, b"a\x13");
    assert!(discipline.stopped);
    assert_eq!(echo, b"a");
    let effect = discipline.input(17, &mut |_| panic!("an echo"));
    assert!(effect.restarted && !discipline.stopped);
}

#[test]
fn without_lines_everything_is_there_at_once() {
    let mut discipline = Discipline::new();
    let mut settings = discipline.settings;
    settings.local &= !(ICANON | ECHO);
    discipline.change(settings);
    let (echo, _) = type_in(&mut discipline, b"a\x7f\x04");
    assert!(echo.is_empty());
    assert_eq!(read(&mut discipline, 100).as_deref(), Some(&b"a\x7f\x04"[..]));
}

#[test]
fn what_was_typed_survives_a_change_of_mode() {
    let mut discipline = Discipline::new();
    let lines = discipline.settings;
    let raw = Settings { local: lines.local & !ICANON, ..lines };
    type_in(&mut discipline, b"typed ");
    discipline.change(raw);
    type_in(&mut discipline, b"ahead");
    discipline.change(lines);
    assert_eq!(read(&mut discipline, 100).as_deref(), Some(&b"typed ahead"[..]));
}

#[test]
fn a_line_without_end_keeps_room_for_its_end() {
    let mut discipline = Discipline::new();
    type_in(&mut discipline, &[b'x'; 10_000]);
    assert_eq!(discipline.available(), 0);
    type_in(&mut discipline, b"\n");
    let line = read(&mut discipline, 10_000).expect("a line");
    assert_eq!((line.len(), line.last()), (4096, Some(&b'\n')));
}

#[test]
fn output_is_processed() {
    let mut discipline = Discipline::new();
    let mut sent = Vec::new();
    let settings = discipline.settings;
    for &byte in b"a\n\tb\r" {
        discipline.output.post(byte, &settings, &mut |byte| sent.push(byte));
    }
    assert_eq!(sent, b"a\r\n\tb\r");
    assert_eq!(discipline.output.column, 0);
}

proptest! {
    /// Plain text comes out as it went in, whatever the sizes of the reads.
    #[test]
    fn plain_lines_come_through(
        lines in prop::collection::vec("[ -~]{0,60}", 1..30),
        sizes in prop::collection::vec(1usize..40, 1..10),
    ) {
        let mut discipline = Discipline::new();
        let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
        type_in(&mut discipline, text.as_bytes());
        let mut got = Vec::new();
        for size in sizes.iter().cycle() {
            match read(&mut discipline, *size) {
                Some(bytes) => got.extend(bytes),
                None => break,
            }
        }
        prop_assert_eq!(got, text.as_bytes());
    }

    /// Nothing that is typed under any settings breaks anything.
    #[test]
    fn any_bytes_under_any_settings(
        steps in prop::collection::vec(
            (any::<[u32; 4]>(), any::<[u8; 19]>(), prop::collection::vec(any::<u8>(), 0..300)),
            1..12,
        ),
        most in 0usize..300,
    ) {
        let mut discipline = Discipline::new();
        for (flags, characters, bytes) in steps {
            let [input, output, control, local] = flags;
            discipline.change(Settings { input, output, control, local, discipline: 0, characters });
            let _ = discipline.settings.speed();
            type_in(&mut discipline, &bytes);
            prop_assert!(discipline.available() <= 4096);
            let before = discipline.available();
            let mut into = vec![0; most];
            let (copied, taken, _) = discipline.peek(&mut into);
            prop_assert!(copied <= most && copied <= taken && taken <= before);
            discipline.consume(taken);
            prop_assert_eq!(discipline.available(), before - taken);
        }
    }
}
