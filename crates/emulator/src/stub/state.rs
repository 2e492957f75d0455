//! The registers of a CPU as the gdb stub sends them: all in one packet, in the order of a description
//! that the stub gives too (`target.xml` and what it includes).

use crate::Error;

/// The general registers in the stub's order.
pub const GENERAL: [&str; 16] = [
    "rax", "rbx", "rcx", "rdx", "rsi", "rdi", "rbp", "rsp", "r8", "r9", "r10", "r11", "r12", "r13",
    "r14", "r15",
];

/// Index of RSP in [`CpuState::general`].
pub const RSP: usize = 7;

const SELECTORS: [&str; 6] = ["cs", "ss", "ds", "es", "fs", "gs"];

/// The first register of the floating-point and vector state; all that follow it belong to that.
const FIRST_EXTENDED: &str = "st0";

/// Everything that the stub says of one CPU.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct CpuState {
    /// RAX, RBX, RCX, RDX, RSI, RDI, RBP, RSP, R8 to R15.
    pub general: [u64; 16],
    /// The next instruction.
    pub rip: u64,
    /// The flags.
    pub rflags: u64,
    /// CS, SS, DS, ES, FS, GS.
    pub selectors: [u64; 6],
    /// Base of FS.
    pub fs_base: u64,
    /// Base of GS.
    pub gs_base: u64,
    /// What SWAPGS would make the base of GS.
    pub kernel_gs_base: u64,
    /// Control register 0.
    pub cr0: u64,
    /// Control register 2: the last page fault's address.
    pub cr2: u64,
    /// Control register 3: the root of the page tables.
    pub cr3: u64,
    /// Control register 4.
    pub cr4: u64,
    /// Extended features.
    pub efer: u64,
    /// The x87 and SSE registers as they came.
    pub extended: Vec<u8>,
}

impl CpuState {
    /// The stack pointer.
    pub fn rsp(&self) -> u64 {
        self.general[RSP]
    }

    /// The privilege level that the CPU runs at.
    pub fn level(&self) -> u8 {
        // RPL of SS is the level, whatever segments a program loads (SDM vol. 3, 5.5); of CS too.
        (self.selectors[0] & 3) as u8
    }

    /// One sentence for each register that is another in `other`.
    pub fn differences(&self, other: &CpuState) -> Vec<String> {
        let mut result = Vec::new();
        for ((name, before), after) in self.named().zip(other.named().map(|(_, value)| value)) {
            if before != after {
                result.push(format!("{name} was {before:#x} and is {after:#x}"));
            }
        }
        if self.extended != other.extended {
            result.push("the floating-point state is another".into());
        }
        result
    }

    fn named(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let others = [
            ("rip", self.rip),
            ("rflags", self.rflags),
            ("fs base", self.fs_base),
            ("gs base", self.gs_base),
            ("kernel gs base", self.kernel_gs_base),
            ("cr0", self.cr0),
            ("cr2", self.cr2),
            ("cr3", self.cr3),
            ("cr4", self.cr4),
            ("efer", self.efer),
        ];
        let general = GENERAL.into_iter().zip(self.general);
        general.chain(SELECTORS.into_iter().zip(self.selectors)).chain(others)
    }
}

/// Where in the stub's packet each register stands.
#[derive(Clone, Debug)]
pub(super) struct Layout {
    registers: Vec<Place>,
}

#[derive(Clone, Debug)]
struct Place {
    name: String,
    offset: usize,
    size: usize,
}

impl Layout {
    /// Reads a feature description: its `<reg name="..." bitsize="..."/>` elements in order.
    pub fn parse(description: &str) -> Layout {
        let mut offset = 0;
        let place = |element: &str| {
            let size = attribute(element, "bitsize")?.parse::<usize>().ok()? / 8;
            let name = attribute(element, "name")?.to_owned();
            let place = Place { name, offset, size };
            offset = offset.saturating_add(size);
            Some(place)
        };
        // QEMU's has registers in comments.
        let uncommented: String = description
            .split("<!--")
            .enumerate()
            .map(|(index, part)| match index {
                0 => part,
                _ => part.split_once("-->").map_or("", |(_, rest)| rest),
            })
            .collect();
        let elements = uncommented.split("<reg ").skip(1);
        Layout { registers: elements.filter_map(place).collect() }
    }

    /// The registers in `packet`, the bytes of the stub's answer to `g`.
    ///
    /// # Errors
    ///
    /// [`Error::Unreadable`] names a register that is not there.
    pub fn read(&self, packet: &[u8]) -> Result<CpuState, Error> {
        let word = |name: &str| {
            let bytes =
                self.find(name).and_then(|place| packet.get(place.offset..)?.get(..place.size));
            let bytes = bytes.filter(|bytes| bytes.len() <= 8).ok_or_else(|| missing(name))?;
            let mut word = [0; 8];
            word[..bytes.len()].copy_from_slice(bytes);
            Ok(u64::from_le_bytes(word))
        };
        let mut state = CpuState {
            rip: word("rip")?,
            rflags: word("eflags")?,
            fs_base: word("fs_base")?,
            gs_base: word("gs_base")?,
            kernel_gs_base: word("k_gs_base")?,
            cr0: word("cr0")?,
            cr2: word("cr2")?,
            cr3: word("cr3")?,
            cr4: word("cr4")?,
            efer: word("efer")?,
            ..CpuState::default()
        };
        for (value, name) in state.general.iter_mut().zip(GENERAL) {
            *value = word(name)?;
        }
        for (value, name) in state.selectors.iter_mut().zip(SELECTORS) {
            *value = word(name)?;
        }
        let extended = self.find(FIRST_EXTENDED).and_then(|place| packet.get(place.offset..));
        state.extended = extended.ok_or_else(|| missing(FIRST_EXTENDED))?.to_vec();
        Ok(state)
    }

    /// The number that the stub knows a register by, and its size in bytes.
    pub fn number(&self, name: &str) -> Option<(usize, usize)> {
        let index = self.registers.iter().position(|place| place.name == name)?;
        Some((index, self.registers[index].size))
    }

    fn find(&self, name: &str) -> Option<&Place> {
        self.registers.iter().find(|place| place.name == name)
    }
}

fn missing(name: &str) -> Error {
    Error::Unreadable { command: "g".into(), missing: name.into(), answer: "a gdb packet".into() }
}

fn attribute<'a>(element: &'a str, name: &str) -> Option<&'a str> {
    let end = element.find('>').unwrap_or(element.len());
    let start = element[..end].find(&format!("{name}=\""))? + name.len() + 2;
    element[start..end].split('"').next()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All registers that are asked for, 64 bits each but the flags and selectors.
    fn description() -> String {
        let wide = |name: &&str| format!("<reg name=\"{name}\" bitsize=\"64\" type=\"int64\"/>\n");
        let narrow = |name: &&str| format!("<reg name=\"{name}\" bitsize=\"32\"/>\n");
        let bases = ["fs_base", "gs_base", "k_gs_base", "cr0", "cr2", "cr3", "cr4", "efer", "st0"];
        let comment =
            "<!--reg name=\"one\" bitsize=\"64\"/>\n<reg name=\"two\" bitsize=\"64\"/-->\n";
        comment.to_owned()
            + &GENERAL.iter().chain(&["rip"]).map(wide).collect::<String>()
            + &["eflags"].iter().chain(&SELECTORS).map(narrow).collect::<String>()
            + &bases.iter().map(wide).collect::<String>()
    }

    #[test]
    fn each_register_is_read_from_its_place() {
        let layout = Layout::parse(&description());
        let packet: Vec<u8> = (0..17 * 8 + 7 * 4 + 9 * 8).map(|index| index as u8).collect();
        let state = layout.read(&packet).expect("all registers");
        assert_eq!(state.general[RSP], u64::from_le_bytes([56, 57, 58, 59, 60, 61, 62, 63]));
        assert_eq!(state.selectors[0], u64::from(u32::from_le_bytes([140, 141, 142, 143])));
        assert_eq!(state.extended.len(), 8);
        assert_eq!(layout.number("eflags"), Some((17, 4)));
    }

    #[test]
    fn a_register_that_is_not_there_is_named() {
        let layout = Layout::parse(&description().replace("k_gs_base", "other"));
        let error = layout.read(&[0; 512]).expect_err("no k_gs_base");
        assert!(error.to_string().contains("k_gs_base"), "{error}");
        let error = Layout::parse(&description()).read(&[0; 8]).expect_err("a short packet");
        assert!(error.to_string().contains("rip"), "{error}");
    }

    #[test]
    fn what_differs_is_named() {
        let mut other = CpuState::default();
        assert!(other.differences(&CpuState::default()).is_empty());
        other.general[1] = 5;
        other.cr3 = 1;
        let said = CpuState::default().differences(&other);
        assert_eq!(said, ["rbx was 0x0 and is 0x5", "cr3 was 0x0 and is 0x1"]);
    }
}
