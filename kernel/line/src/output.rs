//! What happens to bytes on their way to the line (OPOST).

use super::settings::Settings;
use linux_raw_sys::general as abi;

/// Knows the column, which tabs need.
pub struct Output {
    /// Where the cursor is.
    pub column: u32,
}

/// Whether `byte` is a control character.
pub fn is_control(byte: u8) -> bool {
    byte < 32 || byte == 127
}

/// Whether `byte` continues a UTF-8 sequence on a terminal that knows them.
pub fn is_continuation(byte: u8, settings: &Settings) -> bool {
    settings.input & abi::IUTF8 != 0 && byte & 0xc0 == 0x80
}

impl Output {
    /// Sends `byte` as `settings` say.
    pub fn post(&mut self, byte: u8, settings: &Settings, emit: &mut dyn FnMut(u8)) {
        let has = |flag| settings.output & flag != 0;
        if !has(abi::OPOST) {
            return emit(byte);
        }
        match byte {
            b'\n' => {
                if has(abi::ONLRET) {
                    self.column = 0;
                }
                if has(abi::ONLCR) {
                    self.column = 0;
                    emit(b'\r');
                }
                emit(b'\n');
            }
            b'\r' if has(abi::ONOCR) && self.column == 0 => {}
            b'\r' if has(abi::OCRNL) => {
                if has(abi::ONLRET) {
                    self.column = 0;
                }
                emit(b'\n');
            }
            b'\r' => {
                self.column = 0;
                emit(b'\r');
            }
            b'\t' => {
                let spaces = 8 - self.column % 8;
                self.column += spaces;
                if settings.output & abi::TABDLY == abi::XTABS {
                    (0..spaces).for_each(|_| emit(b' '));
                } else {
                    emit(b'\t');
                }
            }
            8 => {
                self.column = self.column.saturating_sub(1);
                emit(8);
            }
            _ => {
                let byte = if has(abi::OLCUC) { byte.to_ascii_uppercase() } else { byte };
                if !is_control(byte) && !is_continuation(byte, settings) {
                    self.column = self.column.wrapping_add(1);
                }
                emit(byte);
            }
        }
    }
}
