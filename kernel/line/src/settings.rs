//! A terminal's settings: Linux's termios.

use linux_raw_sys::general as abi;
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// As TCGETS copies it.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
pub struct Settings {
    /// How input is changed.
    pub input: u32,
    /// How output is changed.
    pub output: u32,
    /// The line.
    pub control: u32,
    /// Echo, editing, signals.
    pub local: u32,
    /// Line discipline: 0.
    pub discipline: u8,
    /// Special characters, by `V` constants.
    pub characters: [u8; 19],
}

/// As TCGETS2 copies it.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
pub struct WithSpeeds {
    /// All but the speeds.
    pub settings: Settings,
    /// Baud, in and out.
    pub speeds: [u32; 2],
}

const _: () = assert!(size_of::<Settings>() == 36 && size_of::<WithSpeeds>() == 44);

/// A character position that is switched off.
pub const DISABLED: u8 = 0;

impl Settings {
    /// What a serial console has after boot.
    pub const fn console() -> Settings {
        let mut characters = [0; 19];
        characters[abi::VINTR as usize] = 3;
        characters[abi::VQUIT as usize] = 28;
        characters[abi::VERASE as usize] = 127;
        characters[abi::VKILL as usize] = 21;
        characters[abi::VEOF as usize] = 4;
        characters[abi::VMIN as usize] = 1;
        characters[abi::VSTART as usize] = 17;
        characters[abi::VSTOP as usize] = 19;
        characters[abi::VSUSP as usize] = 26;
        characters[abi::VREPRINT as usize] = 18;
        characters[abi::VDISCARD as usize] = 15;
        characters[abi::VWERASE as usize] = 23;
        characters[abi::VLNEXT as usize] = 22;
        Settings {
            input: abi::ICRNL | abi::IXON,
            output: abi::OPOST | abi::ONLCR,
            control: abi::B9600 | abi::CS8 | abi::CREAD | abi::HUPCL | abi::CLOCAL,
            local: abi::ISIG
                | abi::ICANON
                | abi::ECHO
                | abi::ECHOE
                | abi::ECHOK
                | abi::ECHOCTL
                | abi::ECHOKE
                | abi::IEXTEN,
            discipline: 0,
            characters,
        }
    }

    /// Whether `byte` is the special character at `index`.
    pub fn is(&self, byte: u8, index: u32) -> bool {
        let character = self.characters[index as usize];
        character != DISABLED && character == byte
    }

    /// Whether all of the local flags are set.
    pub fn local(&self, flags: u32) -> bool {
        self.local & flags == flags
    }

    /// Lines are edited and read whole.
    pub fn canonical(&self) -> bool {
        self.local & abi::ICANON != 0
    }

    /// The speed in baud.
    pub fn speed(&self) -> u32 {
        const LOW: [u32; 16] =
            [0, 50, 75, 110, 134, 150, 200, 300, 600, 1200, 1800, 2400, 4800, 9600, 19200, 38400];
        const HIGH: [u32; 15] = [
            57600, 115_200, 230_400, 460_800, 500_000, 576_000, 921_600, 1_000_000, 1_152_000,
            1_500_000, 2_000_000, 2_500_000, 3_000_000, 3_500_000, 4_000_000,
        ];
        let code = self.control & abi::CBAUD;
        if code & abi::CBAUDEX != 0 {
            let index = (code & !abi::CBAUDEX).wrapping_sub(1) as usize;
            HIGH.get(index).copied().unwrap_or(9600)
        } else {
            LOW[code as usize & 15]
        }
    }
}
