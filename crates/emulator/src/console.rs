//! The guest's first serial port.
//!
//! A thread reads QEMU's standard output until it closes and keeps it, so that a test that fails can
//! show the whole log; only a guest that writes without end loses what it wrote first. Readers wait for text or for lines, never longer than they say. Carriage
//! returns, which terminals add to line ends, are dropped.

use std::io::{self, Read, Write};
use std::process::ChildStdin;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread;
use std::time::{Duration, Instant};

/// The most that is kept, in bytes: more than any boot writes.
const MOST: usize = 32 << 20;

/// Everything the guest has written to its serial port, and a way to type to it.
#[derive(Debug)]
pub struct Console {
    record: Arc<Record>,
    input: Option<ChildStdin>,
    /// Where [`Console::next_line`] goes on.
    position: usize,
}

#[derive(Debug, Default)]
struct Record {
    state: Mutex<State>,
    grown: Condvar,
}

#[derive(Debug, Default)]
struct State {
    bytes: Vec<u8>,
    /// How many bytes were written before those. Positions count them, too.
    dropped: usize,
    closed: bool,
}

impl State {
    /// What was written at `position` and after it, as far as it is kept.
    fn after(&self, position: usize) -> &[u8] {
        &self.bytes[position.saturating_sub(self.dropped).min(self.bytes.len())..]
    }

    /// The position after all that was written.
    fn end(&self) -> usize {
        self.dropped + self.bytes.len()
    }
}

impl Console {
    pub(crate) fn new(
        output: impl Read + Send + 'static,
        input: Option<ChildStdin>,
    ) -> io::Result<Console> {
        let record = Arc::new(Record::default());
        let recorder = Arc::clone(&record);
        thread::Builder::new().name("guest console".into()).spawn(move || recorder.fill(output))?;
        Ok(Console { record, input, position: 0 })
    }

    /// The console on a pipe that may not be there; then nothing is ever written.
    pub(crate) fn of(
        output: Option<impl Read + Send + 'static>,
        input: Option<ChildStdin>,
    ) -> io::Result<Console> {
        match output {
            Some(output) => Console::new(output, input),
            None => Console::new(io::empty(), input),
        }
    }

    /// All text so far, with bytes that are no UTF-8 replaced.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.record.lock().bytes).into_owned()
    }

    /// Waits until the guest has written `needle` anywhere; false if the console closed or `limit`
    /// passed before that.
    pub fn wait_for(&self, needle: &str, limit: Duration) -> bool {
        let deadline = Instant::now() + limit;
        let mut searched = 0;
        let mut state = self.record.lock();
        loop {
            if find(state.after(searched), needle.as_bytes()).is_some() {
                return true;
            }
            searched = state.end().saturating_sub(needle.len());
            match self.record.wait(state, deadline) {
                Some(grown) => state = grown,
                None => return false,
            }
        }
    }

    /// The next whole line, without its end; waits for it at most `limit`. The rest without a line
    /// end counts as a line once the console has closed. `None` when there is nothing more.
    pub fn next_line(&mut self, limit: Duration) -> Option<String> {
        let deadline = Instant::now() + limit;
        let mut state = self.record.lock();
        loop {
            self.position = self.position.max(state.dropped);
            let rest = state.after(self.position);
            if let Some(end) = find(rest, b"\n") {
                let line = String::from_utf8_lossy(&rest[..end]).into_owned();
                self.position += end + 1;
                return Some(line);
            }
            if state.closed {
                let line = String::from_utf8_lossy(rest).into_owned();
                self.position = state.end();
                return (!line.is_empty()).then_some(line);
            }
            state = self.record.wait(state, deadline)?;
        }
    }

    /// Whether the guest can write nothing more.
    pub fn closed(&self) -> bool {
        self.record.lock().closed
    }

    /// Waits until the guest can write nothing more; false if `limit` passed before that.
    pub fn wait_for_end(&self, limit: Duration) -> bool {
        let deadline = Instant::now() + limit;
        let mut state = self.record.lock();
        while !state.closed {
            match self.record.wait(state, deadline) {
                Some(grown) => state = grown,
                None => return self.closed(),
            }
        }
        true
    }

    /// Types `text` to the guest.
    ///
    /// # Errors
    ///
    /// When QEMU is gone, or the guest was started without an input.
    pub fn send(&mut self, text: &str) -> io::Result<()> {
        let input = self.input.as_mut().ok_or(io::ErrorKind::NotConnected)?;
        input.write_all(text.as_bytes())?;
        input.flush()
    }
}

impl Record {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// Waits for the record to grow or close; `None` past the deadline, or if it had closed.
    fn wait<'a>(
        &self,
        state: MutexGuard<'a, State>,
        deadline: Instant,
    ) -> Option<MutexGuard<'a, State>> {
        let left = deadline.checked_duration_since(Instant::now())?;
        if state.closed {
            return None;
        }
        let waited = self.grown.wait_timeout(state, left);
        Some(waited.unwrap_or_else(|e| e.into_inner()).0)
    }

    fn fill(&self, mut output: impl Read) {
        let mut buffer = [0; 4096];
        loop {
            match output.read(&mut buffer) {
                Ok(0) => break,
                Ok(count) => {
                    let text = buffer[..count].iter().filter(|byte| **byte != b'\r');
                    let mut state = self.lock();
                    state.bytes.extend(text);
                    if state.bytes.len() > MOST {
                        // Half at a time, or every byte would move at every read.
                        state.bytes.drain(..MOST / 2);
                        state.dropped += MOST / 2;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(_) => break,
            }
            self.grown.notify_all();
        }
        self.lock().closed = true;
        self.grown.notify_all();
    }
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    if needle.is_empty() {
        return Some(0);
    }
    haystack.windows(needle.len()).position(|window| window == needle)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn console(text: &str) -> Console {
        let record = Arc::new(Record::default());
        record.fill(text.as_bytes());
        Console { record, input: None, position: 0 }
    }

    #[test]
    fn lines_come_one_by_one_and_the_rest_at_the_end() {
        let mut console = console("one\r\ntwo\nrest");
        let mut line = || console.next_line(Duration::from_secs(1));
        assert_eq!(line().as_deref(), Some("one"));
        assert_eq!(line().as_deref(), Some("two"));
        assert_eq!(line().as_deref(), Some("rest"));
        assert_eq!(line(), None);
    }

    #[test]
    fn a_guest_that_never_stops_writing_loses_its_first_lines() {
        let line = "the same line again and again and again and again and again\n";
        let text = format!("first\n{}last\n", line.repeat(MOST / line.len() + 2));
        let mut console = console(&text);
        assert!(console.text().len() <= MOST);
        assert!(!console.wait_for("first", Duration::from_secs(1)));
        assert!(console.wait_for("last\n", Duration::from_secs(1)));
        let lines = std::iter::from_fn(|| console.next_line(Duration::ZERO));
        assert_eq!(lines.last().as_deref(), Some("last"));
    }

    #[test]
    fn text_is_found_and_absence_does_not_wait_once_closed() {
        let console = console("Mitigation: PTI\r\n");
        assert!(console.wait_for("PTI\n", Duration::from_secs(1)));
        assert!(console.wait_for("", Duration::ZERO));
        let start = Instant::now();
        assert!(!console.wait_for("Vulnerable", Duration::from_secs(60)));
        assert!(start.elapsed() < Duration::from_secs(30));
    }

    #[test]
    fn the_end_is_waited_for_and_no_longer_than_the_limit() {
        assert!(console("text").wait_for_end(Duration::from_secs(60)));
        let open = Console { record: Arc::default(), input: None, position: 0 };
        assert!(!open.wait_for_end(Duration::from_millis(10)));
    }
}
