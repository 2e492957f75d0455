//! Linux's `struct user_desc`: how programs say which segment they want.
//!
//! ```text
//!   entry_number, base_addr, limit: 32 bits each
//!   seg_32bit:1 contents:2 read_exec_only:1 limit_in_pages:1 seg_not_present:1 useable:1 lm:1
//! ```
//!
//! Two values mean that there is to be no segment: the fields as an empty descriptor has them, and for some
//! calls all zeros. `lm` means nothing: no program gets 64-bit code of its own.

use ringwall_core::segment::{Descriptor, Kind, Segment};

/// `struct user_desc`, its bit fields in one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    /// Which entry.
    pub number: u32,
    base: u32,
    limit: u32,
    flags: u32,
}

/// How modify_ldt was asked to write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// Function 1: base and limit 0 clear the entry; no conforming code; `useable` means nothing.
    Old,
    /// Function 0x11.
    New,
}

/// The request is one that is refused with EINVAL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refused;

const WIDE: u32 = 1 << 0;
const KIND: u32 = 1;
const READ_EXEC_ONLY: u32 = 1 << 3;
const PAGES: u32 = 1 << 4;
const NOT_PRESENT: u32 = 1 << 5;
const USEABLE: u32 = 1 << 6;
const FLAGS: u32 = (1 << 7) - 1;

impl Request {
    /// The structure's four words.
    pub const fn from_words([number, base, limit, flags]: [u32; 4]) -> Request {
        Request { number, base, limit, flags }
    }

    /// The structure's four words.
    pub const fn words(&self) -> [u32; 4] {
        [self.number, self.base, self.limit, self.flags]
    }

    /// What an entry holds, as a program is told of it.
    pub const fn describing(number: u32, descriptor: Descriptor) -> Request {
        let segment = descriptor.segment();
        let mut flags = (segment.kind as u32) << KIND;
        if segment.wide {
            flags |= WIDE;
        }
        if !segment.full {
            flags |= READ_EXEC_ONLY;
        }
        if segment.pages {
            flags |= PAGES;
        }
        if !segment.present {
            flags |= NOT_PRESENT;
        }
        if segment.available {
            flags |= USEABLE;
        }
        Request { number, base: segment.base, limit: segment.limit, flags }
    }

    const fn is(&self, flags: u32) -> bool {
        self.base == 0 && self.limit == 0 && self.flags & FLAGS == flags
    }

    /// Linux's LDT_empty.
    const fn is_empty(&self) -> bool {
        self.is(READ_EXEC_ONLY | NOT_PRESENT)
    }

    /// Linux's LDT_zero.
    const fn is_zero(&self) -> bool {
        self.is(0)
    }

    const fn segment(&self) -> Segment {
        Segment {
            base: self.base,
            limit: self.limit,
            kind: match self.flags >> KIND & 3 {
                0 => Kind::Data,
                1 => Kind::ExpandDown,
                2 => Kind::Code,
                _ => Kind::Conforming,
            },
            full: self.flags & READ_EXEC_ONLY == 0,
            present: self.flags & NOT_PRESENT == 0,
            pages: self.flags & PAGES != 0,
            wide: self.flags & WIDE != 0,
            available: self.flags & USEABLE != 0,
        }
    }

    /// The descriptor for an LDT.
    ///
    /// # Errors
    /// Conforming code that is present, or that is asked for in the old form.
    pub fn for_ldt(&self, form: Form) -> Result<Descriptor, Refused> {
        let segment = self.segment();
        if form == Form::Old && segment.kind == Kind::Conforming {
            return Err(Refused);
        }
        let descriptor = Descriptor::for_ldt(&segment).map_err(|_| Refused)?;
        if self.is_empty() || (form == Form::Old && self.base == 0 && self.limit == 0) {
            return Ok(Descriptor::EMPTY);
        }
        match form {
            Form::New => Ok(descriptor),
            Form::Old => {
                Descriptor::for_ldt(&Segment { available: false, ..segment }).map_err(|_| Refused)
            }
        }
    }

    /// The descriptor for a thread's GDT entry.
    ///
    /// # Errors
    /// Anything but present 32-bit data.
    pub fn for_thread(&self) -> Result<Descriptor, Refused> {
        if self.is_empty() || self.is_zero() {
            return Ok(Descriptor::EMPTY);
        }
        Descriptor::for_thread(&self.segment()).map_err(|_| Refused)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT_1: [u32; 3] = [5, 0, 1];

    fn request(flags: u32) -> Request {
        let [number, base, limit] = LIMIT_1;
        Request::from_words([number, base, limit, flags])
    }

    const CONFORMING: u32 = 3 << KIND;
    const CODE: u32 = 2 << KIND;

    #[test]
    fn an_empty_request_empties_the_entry() {
        let empty = Request::from_words([1, 0, 0, READ_EXEC_ONLY | NOT_PRESENT]);
        assert_eq!(empty.for_ldt(Form::New), Ok(Descriptor::EMPTY));
        assert_eq!(empty.for_ldt(Form::Old), Ok(Descriptor::EMPTY));
        assert_eq!(empty.for_thread(), Ok(Descriptor::EMPTY));
        let with_lm = Request { flags: empty.flags | 1 << 7, ..empty };
        assert_eq!(with_lm.for_ldt(Form::New), Ok(Descriptor::EMPTY));
    }

    #[test]
    fn zeros_are_a_16_bit_segment_of_one_byte_to_the_new_form_alone() {
        let zeros = Request::from_words([1, 0, 0, 0]);
        assert_eq!(zeros.for_ldt(Form::Old), Ok(Descriptor::EMPTY));
        assert_eq!(zeros.for_thread(), Ok(Descriptor::EMPTY));
        assert_eq!(zeros.for_ldt(Form::New).map(Descriptor::bits), Ok(0x0000_f300_0000_0000));
    }

    #[test]
    fn the_old_form_clears_whenever_base_and_limit_are_0() {
        let code = Request::from_words([1, 0, 0, WIDE | CODE | PAGES]);
        assert_eq!(code.for_ldt(Form::Old), Ok(Descriptor::EMPTY));
        assert_ne!(code.for_ldt(Form::New), Ok(Descriptor::EMPTY));
    }

    #[test]
    fn conforming_code_is_absent_and_new() {
        assert_eq!(request(CONFORMING).for_ldt(Form::New), Err(Refused));
        assert_eq!(request(CONFORMING | NOT_PRESENT).for_ldt(Form::Old), Err(Refused));
        assert!(request(CONFORMING | NOT_PRESENT).for_ldt(Form::New).is_ok());
        let cleared = Request::from_words([1, 0, 0, CONFORMING]);
        assert_eq!(cleared.for_ldt(Form::Old), Err(Refused), "before it is seen to clear");
    }

    #[test]
    fn the_old_form_does_not_know_useable() {
        let available = |form| request(USEABLE).for_ldt(form).map(|made| made.segment().available);
        assert_eq!((available(Form::Old), available(Form::New)), (Ok(false), Ok(true)));
    }

    #[test]
    fn a_thread_gets_present_32_bit_data() {
        assert!(request(WIDE).for_thread().is_ok());
        assert!(request(WIDE | 1 << KIND | PAGES | USEABLE).for_thread().is_ok());
        for refused in [0, WIDE | CODE, WIDE | CONFORMING, WIDE | NOT_PRESENT] {
            assert_eq!(request(refused).for_thread(), Err(Refused), "{refused:#x}");
        }
    }

    #[test]
    fn every_request_is_told_as_it_was_made() {
        for flags in 0..=FLAGS {
            let Ok(made) = request(flags).for_ldt(Form::New) else { continue };
            assert_eq!(Request::describing(5, made).words(), request(flags).words());
        }
        let none = Request::describing(12, Descriptor::EMPTY);
        assert_eq!(none.words(), [12, 0, 0, READ_EXEC_ONLY | NOT_PRESENT]);
    }
}
