//! The first serial port, which is the console.

/// Writes bytes as they are.
pub fn write(_bytes: &[u8]) {
    todo!()
}

/// A received byte, if there is one.
pub fn read() -> Option<u8> {
    todo!()
}

/// Prints a line of the kernel's own.
#[macro_export]
macro_rules! println {
    ($($argument:tt)*) => { $crate::arch::serial::print(format_args!("{}\n", format_args!($($argument)*))) };
}

/// What [`println!`] calls.
pub fn print(_arguments: core::fmt::Arguments<'_>) {
    todo!()
}
