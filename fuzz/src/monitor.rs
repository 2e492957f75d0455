//! Bytes as what a monitor says, whatever it is asked: attached to, held, read, let go.
//!
//! The other end of a QMP socket may be anything. It hangs up when it has said its bytes, so nothing here may take time.

use std::io::Write;
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use ringwall_emulator::{Attached, Memory, MemoryRange, Monitor, Registers};

/// What a socket takes without a reader.
const LONGEST: usize = 64 << 10;

/// Says the bytes.
///
/// # Panics
///
/// When memory is claimed where the monitor told of none.
pub fn run(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    // The listings themselves, without the JSON around them.
    if let Ok(cpus) = Registers::parse_all(&text) {
        assert!(cpus.iter().all(|cpu| cpu.cpl < 4 && matches!(cpu.levels(), 4 | 5)));
    }
    if let Ok(ranges) = MemoryRange::parse_all(&text) {
        assert!(ranges.windows(2).all(|pair| pair[0].end <= pair[1].start));
    }

    let Ok((ours, mut theirs)) = UnixStream::pair() else { return };
    if theirs.write_all(&bytes[..bytes.len().min(LONGEST)]).is_err() {
        return;
    }
    let _ = theirs.shutdown(Shutdown::Write);
    let Ok(mut guest) = Monitor::new(ours).and_then(Attached::new) else { return };
    let Ok(held) = guest.hold(Duration::ZERO) else { return };
    let memory = held.memory();
    for cpu in &held.registers {
        let mut buffer = [0; 4096];
        assert!(!memory.read(cpu.cr3, &mut buffer) || memory.holds(cpu.cr3, 4096));
    }
    let _ = memory.trouble();
}
