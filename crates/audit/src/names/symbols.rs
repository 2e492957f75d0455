//! A kernel's symbols: the symbol table of its ELF file, or the text of System.map or /proc/kallsyms.
//!
//! Only addresses and names are taken. Nothing in the file is believed beyond its own bounds, and there is a most
//! of everything.

use object::{Object, ObjectSymbol, ReadRef, SymbolKind};

/// Most symbols that are kept. Linux has about 150,000.
const SYMBOLS_MOST: usize = 1 << 20;
/// Longest name kept, in bytes. Rust's mangled names are long.
const NAME_MOST: usize = 512;
/// Bytes of names in total.
const NAMES_MOST: usize = 64 << 20;
/// Further than this from its symbol an address has no name: nothing in a kernel is that long.
const REACH: u64 = 16 << 20;

/// Why a file gave no symbols: the file is at fault.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum SymbolError {
    /// An ELF file that cannot be read.
    #[error(
        "the symbols' ELF file cannot be read: {0}; give the kernel that was booted, not stripped"
    )]
    Elf(String),
    /// Neither ELF nor lines of the form `address type name`.
    #[error(
        "line {line} is no symbol: expected an address in hexadecimal, a letter and a name, \
         as in System.map; or an ELF file"
    )]
    Text {
        /// From 1.
        line: usize,
    },
    /// There is nothing in it.
    #[error(
        "there is no symbol with an address in it: give a kernel ELF that is not stripped, or System.map \
         (in /proc/kallsyms all addresses are 0 unless root reads it)"
    )]
    Empty,
}

/// Symbols, by address.
#[derive(Clone, Debug, Default)]
pub struct Symbols {
    /// Address, start and length of the name in `names`.
    places: Vec<(u64, u32, u16)>,
    names: String,
    /// Of those, offsets in per-CPU data, which are no addresses.
    offsets: Vec<(u64, u32, u16)>,
}

impl Symbols {
    /// Reads an ELF file's symbol table, or System.map text.
    ///
    /// # Errors
    ///
    /// [`SymbolError`] if it is neither, or has no symbols.
    pub fn parse(bytes: &[u8]) -> Result<Symbols, SymbolError> {
        if bytes.starts_with(b"\x7fELF") {
            return Symbols::parse_elf(bytes);
        }
        let mut symbols = Symbols::default();
        symbols.read_text(bytes)?;
        symbols.sorted()
    }

    /// Reads the symbol table of an ELF file, of which only the parts that are needed come into memory: a kernel
    /// with debug information has hundreds of MiB.
    ///
    /// # Errors
    ///
    /// As [`Symbols::parse`].
    pub fn parse_elf<'data>(data: impl ReadRef<'data>) -> Result<Symbols, SymbolError> {
        let mut symbols = Symbols::default();
        symbols.read_elf(data)?;
        symbols.sorted()
    }

    fn sorted(self) -> Result<Symbols, SymbolError> {
        let mut symbols = self;
        symbols.places.sort_by_key(|place| place.0);
        symbols.offsets.sort_by_key(|place| place.0);
        if symbols.places.is_empty() { Err(SymbolError::Empty) } else { Ok(symbols) }
    }

    fn read_elf<'data>(&mut self, data: impl ReadRef<'data>) -> Result<(), SymbolError> {
        let file =
            object::File::parse(data).map_err(|error| SymbolError::Elf(error.to_string()))?;
        for symbol in file.symbols() {
            let absolute = symbol.section_index().is_none();
            let nothing = matches!(symbol.kind(), SymbolKind::File | SymbolKind::Section);
            if let (false, Ok(name)) = (nothing, symbol.name()) {
                let kernel_half = (symbol.address() as i64) < 0;
                // Constants of an assembler are absolute too.
                if !absolute || kernel_half {
                    self.add(symbol.address(), name);
                }
            }
        }
        Ok(())
    }

    fn read_text(&mut self, bytes: &[u8]) -> Result<(), SymbolError> {
        for (line, number) in bytes.split(|byte| *byte == b'\n').zip(1..) {
            let line = line.trim_ascii();
            if line.is_empty() {
                continue;
            }
            let symbol = text_line(line).ok_or(SymbolError::Text { line: number })?;
            // Symbols of modules move on their own: `name [module]`.
            if let Some((address, name)) = symbol {
                self.add(address, name);
            }
        }
        Ok(())
    }

    fn add(&mut self, address: u64, name: &str) {
        let full = self.places.len() + self.offsets.len() >= SYMBOLS_MOST
            || self.names.len() + name.len() > NAMES_MOST;
        if full || name.is_empty() || name.len() > NAME_MOST || name.starts_with("__pfx_") {
            return;
        }
        let place = (address, self.names.len() as u32, name.len() as u16);
        self.names.push_str(name);
        if (address as i64) < 0 {
            self.places.push(place);
        } else if address != 0 {
            self.offsets.push(place);
        }
    }

    fn name(&self, place: (u64, u32, u16)) -> &str {
        let start = place.1 as usize;
        &self.names[start..start + usize::from(place.2)]
    }

    /// How many there are with an address in the kernel half.
    pub fn len(&self) -> usize {
        self.places.len()
    }

    /// Whether there is none; never so for what was parsed.
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// Every symbol in the kernel half, by address, as linked.
    pub fn iter(&self) -> impl Iterator<Item = (u64, &str)> {
        self.places.iter().map(|place| (place.0, self.name(*place)))
    }

    /// The address of the first symbol of this name, as linked.
    pub fn address(&self, name: &str) -> Option<u64> {
        self.iter().find(|symbol| symbol.1 == name).map(|symbol| symbol.0)
    }

    /// A per-CPU variable's offset: what System.map gives as an absolute symbol below the kernel half.
    pub fn offset(&self, name: &str) -> Option<u64> {
        self.offsets.iter().find(|place| self.name(**place) == name).map(|place| place.0)
    }

    /// The symbol at or before `address` (as linked) and the distance, if it is near.
    pub fn nearest(&self, address: u64) -> Option<(&str, u64)> {
        let after = self.places.partition_point(|place| place.0 <= address);
        let last = self.places.get(after.checked_sub(1)?)?;
        // Of several at one address the first in the file: aliases come after.
        let first = self.places.partition_point(|place| place.0 < last.0);
        let distance = address - last.0;
        (distance < REACH).then(|| (self.name(self.places[first]), distance))
    }

    /// First and last symbol's address, as linked.
    pub fn span(&self) -> Option<(u64, u64)> {
        Some((self.places.first()?.0, self.places.last()?.0))
    }
}

/// `address type name`; `Some(None)` for a line that is well-formed and of no use.
fn text_line(line: &[u8]) -> Option<Option<(u64, &str)>> {
    let line = std::str::from_utf8(line).ok()?;
    let mut words = line.split_ascii_whitespace();
    let address = u64::from_str_radix(words.next()?, 16).ok()?;
    let kind = words.next()?;
    let name = words.next()?;
    if kind.len() != 1 {
        return None;
    }
    Some(words.next().is_none().then_some((address, name)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAP: &[u8] = b"0000000000001000 A cpu_tss_rw\n\
        ffffffff81000000 T _stext\n\
        ffffffff81000000 T _text\n\
        ffffffff81000040 t helper\n\
        ffffffffc0000000 t of_a_module [ext4]\n";

    #[test]
    fn the_nearest_symbol_before_an_address_names_it() {
        let symbols = Symbols::parse(MAP).expect("symbols");
        assert_eq!(symbols.len(), 3);
        assert_eq!(symbols.nearest(0xffff_ffff_8100_0000), Some(("_stext", 0)));
        assert_eq!(symbols.nearest(0xffff_ffff_8100_003f), Some(("_stext", 0x3f)));
        assert_eq!(symbols.nearest(0xffff_ffff_8100_0048), Some(("helper", 8)));
        assert_eq!(symbols.nearest(0xffff_ffff_80ff_ffff), None);
        assert_eq!(symbols.nearest(0xffff_ffff_c000_0000), None, "a GiB away");
        assert_eq!(symbols.offset("cpu_tss_rw"), Some(0x1000));
    }

    #[test]
    fn what_is_no_symbol_file_is_told_with_its_line() {
        assert_eq!(Symbols::parse(b"").err(), Some(SymbolError::Empty));
        let error = Symbols::parse(b"ffffffff81000000 T _text\nhello\n").err();
        assert_eq!(error, Some(SymbolError::Text { line: 2 }));
        let hidden = Symbols::parse(b"0000000000000000 T _text\n").err();
        assert_eq!(hidden, Some(SymbolError::Empty));
        assert!(matches!(Symbols::parse(b"\x7fELF and no more").err(), Some(SymbolError::Elf(_))));
    }

    proptest::proptest! {
        #[test]
        fn no_file_makes_it_panic(mut bytes: Vec<u8>, elf: bool) {
            if elf {
                bytes.splice(0..0, *b"\x7fELF\x02\x01\x01");
            }
            let _ = Symbols::parse(&bytes);
        }
    }
}
