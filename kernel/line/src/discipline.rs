//! The line discipline: editing, echo, signal characters. Pure: bytes in, bytes and signals out.
//!
//! ```text
//! start ---------- committed ---------- end        positions in a ring; they count for ever
//!   whole lines       |  line being edited
//! ```
//!
//! Without ICANON there are no lines and everything up to `end` can be read. A line's last byte is
//! flagged; an end-of-file character is a flagged 0 that no reader gets to see.

use super::output::{Output, is_continuation, is_control};
use super::settings::{DISABLED, Settings};
use linux_raw_sys::general as abi;

const SIZE: usize = 4096;

/// Terminal state between the line and its readers.
pub struct Discipline {
    /// Settings now.
    pub settings: Settings,
    /// The way out.
    pub output: Output,
    /// Output is held back (^S).
    pub stopped: bool,
    buffer: [u8; SIZE],
    flags: [u64; SIZE / 64],
    start: usize,
    committed: usize,
    end: usize,
    /// The next byte is taken as it is (^V).
    literal: bool,
    /// Column at which the line being edited began.
    line_column: u32,
}

/// What an input byte led to.
#[derive(Default, PartialEq, Eq, Debug)]
pub struct Effect {
    /// A signal for the foreground process group.
    pub signal: Option<u32>,
    /// There is more to read.
    pub readable: bool,
    /// Output goes on.
    pub restarted: bool,
}

#[derive(PartialEq, Eq, Clone, Copy)]
enum Erase {
    Character,
    Word,
    Line,
}

impl Default for Discipline {
    fn default() -> Discipline {
        Discipline::new()
    }
}

impl Discipline {
    /// Nothing typed yet.
    pub const fn new() -> Discipline {
        Discipline {
            settings: Settings::console(),
            output: Output { column: 0 },
            stopped: false,
            buffer: [0; SIZE],
            flags: [0; SIZE / 64],
            start: 0,
            committed: 0,
            end: 0,
            literal: false,
            line_column: 0,
        }
    }

    /// Takes a byte from the line; `emit` sends bytes back.
    pub fn input(&mut self, byte: u8, emit: &mut dyn FnMut(u8)) -> Effect {
        let settings = self.settings;
        let has = |flag| settings.input & flag != 0;
        let mut effect = Effect::default();
        let mut byte = if has(abi::ISTRIP) { byte & 0x7f } else { byte };
        if has(abi::IUCLC) && settings.local(abi::IEXTEN) {
            byte = byte.to_ascii_lowercase();
        }
        if self.literal {
            self.literal = false;
            if settings.local(abi::ECHO) {
                self.echo(byte, emit);
            }
            self.store(byte, &mut effect);
            return effect;
        }
        if has(abi::IXON) {
            if settings.is(byte, abi::VSTART) {
                effect.restarted = self.stopped;
                self.stopped = false;
                return effect;
            }
            if settings.is(byte, abi::VSTOP) {
                self.stopped = true;
                return effect;
            }
        }
        if settings.local(abi::ISIG)
            && let Some(signal) = signal_of(byte, &settings)
        {
            if !settings.local(abi::NOFLSH) {
                self.flush();
            }
            effect.restarted = self.stopped;
            self.stopped = false;
            if settings.local(abi::ECHO) {
                self.echo(byte, emit);
            }
            effect.signal = Some(signal);
            return effect;
        }
        if self.stopped && has(abi::IXON) && has(abi::IXANY) {
            self.stopped = false;
            effect.restarted = true;
        }
        match byte {
            b'\r' if has(abi::IGNCR) => return effect,
            b'\r' if has(abi::ICRNL) => byte = b'\n',
            b'\n' if has(abi::INLCR) => byte = b'\r',
            _ => {}
        }
        if settings.canonical() && self.edit(byte, emit, &mut effect) {
            return effect;
        }
        if settings.local(abi::ECHO) {
            if self.end == self.committed {
                self.line_column = self.output.column;
            }
            if byte == b'\n' {
                self.output.post(byte, &settings, emit);
            } else {
                self.echo(byte, emit);
            }
        }
        self.store(byte, &mut effect);
        effect
    }

    /// Canonical mode's special characters. Whether `byte` was one.
    fn edit(&mut self, byte: u8, emit: &mut dyn FnMut(u8), effect: &mut Effect) -> bool {
        let settings = self.settings;
        let extended = settings.local(abi::IEXTEN);
        if settings.is(byte, abi::VERASE) {
            self.erase(Erase::Character, emit);
        } else if settings.is(byte, abi::VKILL) {
            self.erase(Erase::Line, emit);
        } else if extended && settings.is(byte, abi::VWERASE) {
            self.erase(Erase::Word, emit);
        } else if extended && settings.is(byte, abi::VLNEXT) {
            self.literal = true;
            if settings.local(abi::ECHO | abi::ECHOCTL) {
                emit(b'^');
                emit(8);
            }
        } else if extended && settings.local(abi::ECHO) && settings.is(byte, abi::VREPRINT) {
            self.echo(byte, emit);
            self.output.post(b'\n', &settings, emit);
            for position in self.committed..self.end {
                self.echo(self.buffer[position % SIZE], emit);
            }
        } else if byte == b'\n' {
            if settings.local(abi::ECHO) || settings.local(abi::ECHONL) {
                self.output.post(b'\n', &settings, emit);
            }
            self.finish(byte, effect);
        } else if settings.is(byte, abi::VEOF) {
            self.finish(DISABLED, effect);
        } else if settings.is(byte, abi::VEOL) || extended && settings.is(byte, abi::VEOL2) {
            if settings.local(abi::ECHO) {
                self.echo(byte, emit);
            }
            self.finish(byte, effect);
        } else {
            return false;
        }
        true
    }

    /// Ends the line with `byte`.
    fn finish(&mut self, byte: u8, effect: &mut Effect) {
        if self.end - self.start >= SIZE {
            return;
        }
        self.put(byte, true);
        self.committed = self.end;
        effect.readable = true;
    }

    /// Adds a plain byte. One place is left for a line's end.
    fn store(&mut self, byte: u8, effect: &mut Effect) {
        if self.end - self.start < SIZE - 1 {
            self.put(byte, false);
        }
        effect.readable = !self.settings.canonical();
    }

    fn put(&mut self, byte: u8, flag: bool) {
        let place = self.end % SIZE;
        self.buffer[place] = byte;
        let bit = 1 << (place % 64);
        if flag {
            self.flags[place / 64] |= bit;
        } else {
            self.flags[place / 64] &= !bit;
        }
        self.end += 1;
    }

    /// Echoes a byte, control characters as ^X.
    fn echo(&mut self, byte: u8, emit: &mut dyn FnMut(u8)) {
        let settings = self.settings;
        if settings.local(abi::ECHOCTL) && is_control(byte) && byte != b'\t' {
            emit(b'^');
            emit(byte ^ 0x40);
            self.output.column += 2;
        } else {
            self.output.post(byte, &settings, emit);
        }
    }

    fn erase(&mut self, what: Erase, emit: &mut dyn FnMut(u8)) {
        let settings = self.settings;
        if self.end == self.committed {
            return;
        }
        if what == Erase::Line {
            if !settings.local(abi::ECHO) {
                self.end = self.committed;
                return;
            }
            if !settings.local(abi::ECHOK | abi::ECHOKE | abi::ECHOE) {
                self.end = self.committed;
                self.echo(settings.characters[abi::VKILL as usize], emit);
                if settings.local(abi::ECHOK) {
                    self.output.post(b'\n', &settings, emit);
                }
                return;
            }
        }
        let mut in_word = false;
        while self.end != self.committed {
            let mut at = self.end - 1;
            while is_continuation(self.buffer[at % SIZE], &settings) && at != self.committed {
                at -= 1;
            }
            let byte = self.buffer[at % SIZE];
            if is_continuation(byte, &settings) {
                break;
            }
            if what == Erase::Word {
                if byte.is_ascii_alphanumeric() || byte == b'_' {
                    in_word = true;
                } else if in_word {
                    break;
                }
            }
            self.end = at;
            if settings.local(abi::ECHO) {
                if what == Erase::Character && !settings.local(abi::ECHOE) {
                    self.echo(settings.characters[abi::VERASE as usize], emit);
                } else {
                    self.wipe(byte, emit);
                }
            }
            if what == Erase::Character {
                break;
            }
        }
    }

    /// Takes an echoed byte off the screen.
    fn wipe(&mut self, byte: u8, emit: &mut dyn FnMut(u8)) {
        let caret = self.settings.local(abi::ECHOCTL);
        if byte == b'\t' {
            let before = self.column_at_end();
            for _ in 0..8 - before % 8 {
                emit(8);
            }
            self.output.column = before;
            return;
        }
        let width = match (is_control(byte), caret) {
            (true, true) => 2,
            (true, false) => 0,
            (false, _) => 1,
        };
        for _ in 0..width {
            emit(8);
            emit(b' ');
            emit(8);
            self.output.column = self.output.column.saturating_sub(1);
        }
    }

    /// Column behind the line as it is now.
    fn column_at_end(&self) -> u32 {
        let mut column = self.line_column;
        for position in self.committed..self.end {
            let byte = self.buffer[position % SIZE];
            column = match byte {
                b'\t' => column + 8 - column % 8,
                _ if is_continuation(byte, &self.settings) => column,
                _ if !is_control(byte) => column + 1,
                _ if self.settings.local(abi::ECHOCTL) => column + 2,
                _ => column,
            };
        }
        column
    }

    /// Bytes that a read could take now; in canonical mode whole lines only.
    pub fn available(&self) -> usize {
        if self.settings.canonical() { self.committed - self.start } else { self.end - self.start }
    }

    /// Copies what a read gets, at most one line of canonical input. Gives the bytes copied, those
    /// to [`Discipline::consume`] for it, and whether the read is complete.
    pub fn peek(&self, into: &mut [u8]) -> (usize, usize, bool) {
        let available = self.available();
        let mut copied = 0;
        for taken in 0..available {
            let place = (self.start + taken) % SIZE;
            let byte = self.buffer[place];
            let last = self.settings.canonical() && self.flags[place / 64] >> (place % 64) & 1 != 0;
            if last && byte == DISABLED {
                return (copied, taken + 1, true);
            }
            if copied == into.len() {
                return (copied, taken, false);
            }
            into[copied] = byte;
            copied += 1;
            if last {
                return (copied, taken + 1, true);
            }
        }
        (copied, available, false)
    }

    /// Takes bytes out.
    pub fn consume(&mut self, bytes: usize) {
        self.start = (self.start + bytes).min(self.end);
        self.committed = self.committed.max(self.start);
    }

    /// Drops all input.
    pub fn flush(&mut self) {
        self.start = self.end;
        self.committed = self.end;
        self.literal = false;
    }

    /// Changes the settings. What was typed without lines becomes one when lines begin, and the
    /// other way round.
    pub fn change(&mut self, settings: Settings) {
        if settings.canonical() != self.settings.canonical() {
            self.flags = [0; SIZE / 64];
            self.literal = false;
            if settings.canonical() && self.end != self.start {
                let last = (self.end - 1) % SIZE;
                self.flags[last / 64] |= 1 << (last % 64);
            }
            self.committed = self.end;
        }
        self.settings = settings;
    }
}

fn signal_of(byte: u8, settings: &Settings) -> Option<u32> {
    if settings.is(byte, abi::VINTR) {
        Some(abi::SIGINT)
    } else if settings.is(byte, abi::VQUIT) {
        Some(abi::SIGQUIT)
    } else if settings.is(byte, abi::VSUSP) {
        Some(abi::SIGTSTP)
    } else {
        None
    }
}
