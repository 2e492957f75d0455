//! The machine's battery-backed clock (MC146818 and its heirs), read once at boot.
//!
//! The chip counts seconds to years in registers of one byte each, in BCD or binary as register B
//! says. While it moves on, its registers are not to be trusted: they are read twice until both
//! readings agree and no update was in progress.

use ringwall_rules::calendar::days_since_1970;
use x86_64::instructions::port::Port;

const SECONDS: u8 = 0x00;
const MINUTES: u8 = 0x02;
const HOURS: u8 = 0x04;
const DAY: u8 = 0x07;
const MONTH: u8 = 0x08;
const YEAR: u8 = 0x09;
const STATUS_A: u8 = 0x0a;
const STATUS_B: u8 = 0x0b;

const UPDATE_IN_PROGRESS: u8 = 0x80;
const BINARY: u8 = 0x04;
const HOURS_TO_24: u8 = 0x02;
const AFTERNOON: u8 = 0x80;

/// One reading: seconds, minutes, hours, day, month, year, as the chip has them.
type Reading = [u8; 6];

/// Seconds since 1970, or 0 if there is no clock that makes sense.
pub fn read() -> u64 {
    // A missing chip reads as all ones for ever: give up after a while.
    for _ in 0..1000 {
        if register(STATUS_A) & UPDATE_IN_PROGRESS != 0 {
            continue;
        }
        let first = reading();
        if register(STATUS_A) & UPDATE_IN_PROGRESS == 0 && first == reading() {
            return seconds(first, register(STATUS_B));
        }
    }
    0
}

fn reading() -> Reading {
    [SECONDS, MINUTES, HOURS, DAY, MONTH, YEAR].map(register)
}

fn register(index: u8) -> u8 {
    // Bit 7 of the index port would mask NMIs; it stays clear.
    // SAFETY: ports 0x70 and 0x71 are the clock's index and data on every PC; reading a clock
    // register changes nothing.
    unsafe { Port::<u8>::new(0x70).write(index) };
    // SAFETY: as above.
    unsafe { Port::<u8>::new(0x71).read() }
}

fn seconds(reading: Reading, format: u8) -> u64 {
    let plain = |value: u8| {
        u64::from(if format & BINARY == 0 { (value >> 4) * 10 + (value & 15) } else { value })
    };
    let [second, minute, raw_hour, day, month, year] = reading;
    let mut hour = plain(raw_hour & !AFTERNOON);
    if format & HOURS_TO_24 == 0 {
        hour = hour % 12 + if raw_hour & AFTERNOON != 0 { 12 } else { 0 };
    }
    // Two digits of the year: the chip's century register is not everywhere.
    let year = plain(year) + if plain(year) < 70 { 2000 } else { 1900 };
    if !(1..=12).contains(&plain(month)) || !(1..=31).contains(&plain(day)) {
        return 0;
    }
    days_since_1970(year, plain(month), plain(day)) * 86_400
        + hour * 3600
        + plain(minute) * 60
        + plain(second)
}
