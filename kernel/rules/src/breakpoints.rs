//! A thread's debug registers as a tracer writes them: DR0 to DR3, and DR7, whose fields go with them.
//!
//! ```text
//!   DR7   31 ... 16   length and kind of 3, 2, 1, 0: four bits each
//!          7 ...  0   enabled globally, locally: two bits each
//! ```
//!
//! What Linux takes and refuses: lengths of 1, 2, 4 and 8 with addresses aligned to them, no breakpoint
//! on ports, length 1 for instructions, whether enabled or not. SDM vol. 3, 17.2.

/// Debug registers that hold addresses.
pub const POINTS: usize = 4;

/// DR7 bits that a debugger cannot set.
const RESERVED: u64 = 0xffff_ffff_0000_fc00;
/// DR7's exact-match bit (GE), as Linux sets it.
const EXACT: u64 = 1 << 9;

/// Kind field: on instructions.
const EXECUTE: u64 = 0;
/// Kind field: on stores.
const WRITE: u64 = 1;
/// Kind field: on ports.
const PORT: u64 = 2;

/// A value was refused: a combination that there is not, or an address outside of the program's half.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Refused;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Point {
    address: u64,
    kind: u64,
    /// As DR7 has it: 0, 1, 3, 2 for 1, 2, 4, 8 bytes.
    length: u64,
    enabled: bool,
}

impl Point {
    fn check(self, end: u64) -> Result<Point, Refused> {
        if self.kind == PORT || (self.kind == EXECUTE && self.length != 0) {
            return Err(Refused);
        }
        let last = match self.length {
            0 => 0,
            1 => 1,
            3 => 3,
            _ => 7,
        };
        if self.address & last != 0 {
            return Err(Refused);
        }
        match self.address.checked_add(last) {
            Some(last) if last < end => Ok(self),
            _ => Err(Refused),
        }
    }
}

/// The four breakpoints of a thread.
#[derive(Clone, Copy, Debug)]
pub struct Breakpoints {
    points: [Option<Point>; POINTS],
    /// DR7 as it was written.
    written: u64,
}

impl Default for Breakpoints {
    fn default() -> Self {
        Breakpoints::new()
    }
}

impl Breakpoints {
    /// None.
    pub const fn new() -> Breakpoints {
        Breakpoints { points: [None; POINTS], written: 0 }
    }

    /// Address of breakpoint `number`, 0 to 3.
    pub fn address(&self, number: usize) -> u64 {
        self.points[number].map_or(0, |point| point.address)
    }

    /// DR7 as it was written.
    pub fn control(&self) -> u64 {
        self.written
    }

    /// Sets the address of breakpoint `number`, 0 to 3. `end`: of the program's half.
    ///
    /// # Errors
    /// [`Refused`]; nothing is changed.
    pub fn set_address(&mut self, number: usize, address: u64, end: u64) -> Result<(), Refused> {
        let fresh = Point { address, kind: WRITE, length: 0, enabled: false };
        let point = Point { address, ..self.points[number].unwrap_or(fresh) };
        self.points[number] = Some(point.check(end)?);
        Ok(())
    }

    /// Writes DR7.
    ///
    /// # Errors
    /// [`Refused`]; nothing is changed.
    pub fn set_control(&mut self, value: u64, end: u64) -> Result<(), Refused> {
        let mut points = self.points;
        let control = value & !RESERVED;
        for (number, slot) in points.iter_mut().enumerate() {
            let enabled = control >> (number * 2) & 3 != 0;
            let field = control >> (16 + number * 4);
            if slot.is_none() && !enabled {
                continue;
            }
            let address = slot.map_or(0, |point| point.address);
            let point = Point { address, kind: field & 3, length: field >> 2 & 3, enabled };
            *slot = Some(point.check(end)?);
        }
        self.points = points;
        self.written = value;
        Ok(())
    }

    /// Which are enabled: a bit each.
    pub fn enabled(&self) -> u32 {
        self.which(|point| point.enabled)
    }

    /// Which are enabled and on instructions.
    pub fn on_instructions(&self) -> u32 {
        self.which(|point| point.enabled && point.kind == EXECUTE)
    }

    fn which(&self, wanted: impl Fn(&Point) -> bool) -> u32 {
        let bit = |(number, point): (usize, &Option<Point>)| {
            u32::from(point.as_ref().is_some_and(&wanted)) << number
        };
        self.points.iter().enumerate().map(bit).sum()
    }

    /// DR7 for the CPU.
    pub fn hardware_control(&self) -> u64 {
        let mut control = 0;
        for (number, point) in self.points.iter().enumerate() {
            if let Some(point) = point.filter(|point| point.enabled) {
                let field = point.kind | point.length << 2;
                control |= field << (16 + number * 4) | 2 << (number * 2) | EXACT;
            }
        }
        control
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const END: u64 = 0x7fff_ffff_f000;

    #[test]
    fn a_watchpoint_comes_in_two_writes() {
        let mut points = Breakpoints::new();
        assert_eq!(points.set_address(1, 0x1000, END), Ok(()));
        assert_eq!(points.enabled(), 0);
        // Four bytes, stores, local.
        let control = 0b1101 << 20 | 1 << 2;
        assert_eq!(points.set_control(control, END), Ok(()));
        assert_eq!((points.enabled(), points.on_instructions()), (2, 0));
        assert_eq!(points.control(), control);
        assert_eq!(points.hardware_control(), 0b1101 << 20 | 2 << 2 | EXACT);
    }

    #[test]
    fn kernel_addresses_are_refused_whatever_the_order() {
        let mut points = Breakpoints::new();
        for address in [END, u64::MAX, 0xffff_8000_0000_0000, u64::MAX - 6] {
            assert_eq!(points.set_address(0, address, END), Err(Refused));
        }
        assert_eq!(points.set_address(0, END - 1, END), Ok(()));
        assert_eq!(points.set_control(1, END), Ok(()));
        assert_eq!(points.set_address(0, END, END), Err(Refused));
    }

    #[test]
    fn combinations_that_are_none() {
        let mut points = Breakpoints::new();
        assert_eq!(points.set_address(0, 0x1001, END), Ok(()));
        assert_eq!(points.set_control(2 << 16 | 1, END), Err(Refused), "ports");
        assert_eq!(points.set_control(4 << 16 | 1, END), Err(Refused), "long instructions");
        assert_eq!(points.set_control(0b1101 << 16 | 1, END), Err(Refused), "not aligned");
        assert_eq!(points.control(), 0);
        assert_eq!(points.set_control(1 << 13 | 1, END), Ok(()), "GD is left out");
        assert_eq!(points.hardware_control() & 1 << 13, 0);
        assert_eq!(points.on_instructions(), 1);
    }
}
