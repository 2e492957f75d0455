//! How Linux writes down sets of CPUs: `0-3,7`, and topology in an APIC identifier.

use core::fmt;

/// CPU numbers, ascending, as a list of ranges. Nothing for the empty set.
#[derive(Clone, Copy, Debug)]
pub struct Ranges<I>(pub I);

impl<I: Iterator<Item = usize> + Clone> fmt::Display for Ranges<I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut numbers = self.0.clone().peekable();
        let mut separator = "";
        while let Some(first) = numbers.next() {
            let mut last = first;
            while numbers.peek() == Some(&(last + 1)) {
                last += 1;
                numbers.next();
            }
            write!(f, "{separator}{first}")?;
            if last != first {
                write!(f, "-{last}")?;
            }
            separator = ",";
        }
        Ok(())
    }
}

/// Which bits of an APIC identifier say what: the thread in its core from bit 0, the core in its package from
/// `core`, the package from `package` (SDM vol. 3, 9.9.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Topology {
    /// First bit of the core's number.
    pub core: u32,
    /// First bit of the package's number.
    pub package: u32,
}

impl Topology {
    /// The package that a CPU is in.
    pub fn package_of(self, apic_id: u32) -> u32 {
        apic_id.checked_shr(self.package).unwrap_or(0)
    }

    /// The number of a CPU's core in its package.
    pub fn core_of(self, apic_id: u32) -> u32 {
        let in_package = apic_id ^ self.package_of(apic_id).checked_shl(self.package).unwrap_or(0);
        in_package.checked_shr(self.core).unwrap_or(0)
    }

    /// How many CPUs and how many different cores share the package of `apic_id`.
    pub fn neighbours(
        self,
        apic_id: u32,
        all: impl Iterator<Item = u32> + Clone,
    ) -> (usize, usize) {
        let package = self.package_of(apic_id);
        let inside = all.filter(|id| self.package_of(*id) == package);
        let cores = inside.clone().enumerate().filter(|(index, id)| {
            let core = self.core_of(*id);
            !inside.clone().take(*index).any(|other| self.core_of(other) == core)
        });
        (inside.clone().count(), cores.count())
    }
}

#[cfg(test)]
mod tests {
    use super::{Ranges, Topology};
    use alloc::format;

    #[test]
    fn ranges_as_linux_writes_them() {
        for (numbers, text) in [
            (&[][..], ""),
            (&[0], "0"),
            (&[0, 1], "0-1"),
            (&[0, 1, 2, 3], "0-3"),
            (&[1, 3], "1,3"),
            (&[0, 2, 3, 4, 9, 62, 63], "0,2-4,9,62-63"),
        ] {
            assert_eq!(format!("{}", Ranges(numbers.iter().copied())), text);
        }
    }

    #[test]
    fn two_packages_of_two_cores_of_two_threads() {
        let topology = Topology { core: 1, package: 2 };
        let all = 0..8;
        assert_eq!((topology.package_of(5), topology.core_of(5)), (1, 0));
        assert_eq!((topology.package_of(6), topology.core_of(6)), (1, 1));
        assert_eq!(topology.neighbours(6, all), (4, 2));
        assert_eq!(topology.neighbours(0, [0, 2, 3, 4].into_iter()), (3, 2));
    }

    #[test]
    fn one_package_per_cpu_and_bits_that_are_not_there() {
        let topology = Topology { core: 0, package: 0 };
        assert_eq!((topology.package_of(3), topology.core_of(3)), (3, 0));
        assert_eq!(topology.neighbours(3, 0..4), (1, 1));
        let wide = Topology { core: 32, package: 32 };
        assert_eq!((wide.package_of(u32::MAX), wide.core_of(u32::MAX)), (0, 0));
    }
}
