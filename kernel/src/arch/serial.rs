//! The first serial port, which is the console.

use crate::sync::{Lazy, Mutex};
use core::fmt::Write;
use uart_16550::backend::PioBackend;
use uart_16550::spec::registers::IER;
use uart_16550::{Config, Uart16550};

const COM1: u16 = 0x3f8;

/// Times a byte is tried before it is dropped: a port that is not there must not stop the kernel.
const TRIES: usize = 100_000;

static PORT: Lazy<Mutex<Option<Uart16550<PioBackend>>>> = Lazy::new(|| {
    // SAFETY: COM1's registers, which nobody else drives.
    let port = unsafe { Uart16550::new_port(COM1) };
    let config = Config { interrupts: IER::empty(), ..Config::default() };
    Mutex::new(port.ok().and_then(|mut port| port.init(config).is_ok().then_some(port)))
});

/// Writes bytes as they are.
pub fn write(bytes: &[u8]) {
    let mut port = PORT.lock();
    let Some(port) = port.as_mut() else { return };
    for byte in bytes {
        for _ in 0..TRIES {
            if port.try_send_byte(*byte).is_ok() {
                break;
            }
        }
    }
}

/// A received byte, if there is one.
pub fn read() -> Option<u8> {
    PORT.lock().as_mut()?.try_receive_byte().ok()
}

/// Asks for an interrupt when a byte arrives.
pub fn enable_interrupt() {
    if let Some(port) = PORT.lock().as_mut() {
        port.enable_interrupts(IER::DATA_READY);
    }
}

struct Console;

impl Write for Console {
    fn write_str(&mut self, text: &str) -> core::fmt::Result {
        for piece in text.split_inclusive('\n') {
            match piece.strip_suffix('\n') {
                Some(line) => {
                    write(line.as_bytes());
                    write(b"\r\n");
                }
                None => write(piece.as_bytes()),
            }
        }
        Ok(())
    }
}

/// Prints a line of the kernel's own.
#[macro_export]
macro_rules! println {
    ($($argument:tt)*) => {
        $crate::arch::serial::print(format_args!("{}\n", format_args!($($argument)*)))
    };
}

/// What [`println!`] calls.
pub fn print(arguments: core::fmt::Arguments<'_>) {
    // The console never fails: bytes that do not go out are dropped.
    let _ = Console.write_fmt(arguments);
}

/// After a panic the lock may be held by the code that panicked.
///
/// # Safety
/// Nothing else runs any more.
pub unsafe fn force_unlock() {
    // SAFETY: by this function's contract.
    unsafe { PORT.force_unlock() };
}
