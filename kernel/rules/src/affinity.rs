//! Sets of CPUs, as programs pass and read them, and which CPU a thread gets when it wakes up.
//!
//! [`Cpus`] is a value: copied, cut with others, kept in a word for each thread. What several CPUs change at once, of as many as
//! the entry area has room for, is `ringwall-core`'s `CpuSet`.

use alloc::{format, string::String};
use core::ops::BitAnd;

/// A set of CPUs with numbers below 64.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Cpus(pub u64);

impl Cpus {
    /// All there can be.
    pub const ALL: Cpus = Cpus(u64::MAX);

    /// The set of one, whose number is below 64.
    #[inline(always)]
    pub const fn one(cpu: usize) -> Cpus {
        Cpus(1 << (cpu % 64))
    }

    /// Those with numbers below `count`.
    pub const fn below(count: usize) -> Cpus {
        Cpus(match count {
            0 => 0,
            1..=63 => u64::MAX >> (64 - count),
            _ => u64::MAX,
        })
    }

    /// What sched_setaffinity was given: as many bytes of a bit mask as there are; further ones are for CPUs that
    /// cannot be.
    pub fn from_mask(bytes: &[u8]) -> Cpus {
        let bits = |(place, byte): (usize, &u8)| u64::from(*byte) << (8 * place);
        Cpus(bytes.iter().take(8).enumerate().map(bits).sum())
    }

    /// Whether CPU `cpu` is in it.
    #[inline(always)]
    pub const fn has(self, cpu: usize) -> bool {
        self.0 >> (cpu % 64) & 1 != 0
    }

    /// Whether none is in it.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The lowest number in it.
    pub fn first(self) -> Option<usize> {
        (!self.is_empty()).then(|| self.0.trailing_zeros() as usize)
    }

    /// The numbers in it, from below.
    pub fn iter(self) -> impl Iterator<Item = usize> + Clone {
        (0..64).filter(move |cpu| self.has(*cpu))
    }

    /// As masks of CPUs are written, for `count` CPUs: hexadecimal, 32 of them between two commas.
    pub fn mask(self, count: usize) -> String {
        let digits = |count: usize| count.div_ceil(4).max(1);
        match count {
            0..=32 => format!("{:0width$x}", self.0 as u32, width = digits(count)),
            _ => {
                let high = digits(count.min(64) - 32);
                format!("{:0high$x},{:08x}", self.0 >> 32, self.0 as u32)
            }
        }
    }
}

impl BitAnd for Cpus {
    type Output = Cpus;
    #[inline(always)]
    fn bitand(self, other: Cpus) -> Cpus {
        Cpus(self.0 & other.0)
    }
}

/// What there is to know when a thread wakes up.
pub struct Wakeup {
    /// Where it may run. One of these is among `ready`.
    pub allowed: Cpus,
    /// CPUs that run threads.
    pub ready: Cpus,
    /// Those of them that have nothing to do.
    pub idle: Cpus,
    /// Where it ran last.
    pub last: usize,
    /// The CPU that wakes it up.
    pub here: usize,
}

impl Wakeup {
    /// The CPU that gets it: where it ran last if that idles, else any that idles, else the one of that CPU and this
    /// one where fewer wait, else that of all where fewest do. `waiting`: how many wait for a CPU.
    pub fn choose(&self, waiting: impl Fn(usize) -> u32) -> usize {
        let usable = self.allowed & self.ready;
        let idle = usable & self.idle;
        if idle.has(self.last) {
            return self.last;
        }
        if let Some(cpu) = idle.first() {
            return cpu;
        }
        match (usable.has(self.last), usable.has(self.here)) {
            (true, true) if waiting(self.here) < waiting(self.last) => self.here,
            (true, _) => self.last,
            (false, true) => self.here,
            (false, false) => usable.iter().min_by_key(|cpu| waiting(*cpu)).unwrap_or(self.last),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts() {
        assert_eq!(Cpus::below(4).mask(4), "f");
        assert_eq!((Cpus::below(0), Cpus::below(64)), (Cpus(0), Cpus::ALL));
        assert_eq!(Cpus(1).mask(1), "1");
        assert_eq!(Cpus(1).mask(5), "01");
        assert_eq!(Cpus(3).mask(64), "00000000,00000003");
        assert_eq!(Cpus(1 << 32).mask(33), "1,00000000");
    }

    #[test]
    fn masks() {
        assert_eq!(Cpus::from_mask(&[]), Cpus(0));
        assert_eq!(Cpus::from_mask(&[5, 1]), Cpus(0x105));
        assert_eq!(Cpus::from_mask(&[0xff; 12]), Cpus::ALL);
        assert!(Cpus::from_mask(&[0, 0, 0, 0, 0, 0, 0, 0x80]).has(63));
        assert_eq!(Cpus(0x8001).iter().collect::<alloc::vec::Vec<_>>(), [0, 15]);
    }

    fn choose(allowed: u64, idle: u64, last: usize, here: usize, waiting: [u32; 4]) -> usize {
        let wakeup =
            Wakeup { allowed: Cpus(allowed), ready: Cpus(0xf), idle: Cpus(idle), last, here };
        wakeup.choose(|cpu| waiting[cpu])
    }

    #[test]
    fn an_idle_cpu_first() {
        assert_eq!(choose(!0, 0b1100, 3, 0, [0; 4]), 3);
        assert_eq!(choose(!0, 0b1100, 1, 0, [0; 4]), 2);
        assert_eq!(choose(0b0100, 0b1100, 3, 0, [0; 4]), 2);
    }

    #[test]
    fn without_one_where_fewer_wait() {
        assert_eq!(choose(!0, 0, 2, 1, [0, 1, 1, 0]), 2);
        assert_eq!(choose(!0, 0, 2, 1, [0, 1, 2, 0]), 1);
        assert_eq!(choose(0b0100, 0, 2, 1, [0, 1, 2, 0]), 2);
        assert_eq!(choose(0b0010, 0b1100, 2, 1, [0, 1, 2, 0]), 1);
        assert_eq!(choose(0b1001, 0, 2, 1, [2, 0, 0, 1]), 3);
    }

    #[test]
    fn never_where_it_may_not_run() {
        for allowed in 1..16 {
            for idle in 0..16 {
                for (last, here) in (0..4).flat_map(|last| (0..4).map(move |here| (last, here))) {
                    let chosen = choose(allowed, idle, last, here, [3, 1, 2, 0]);
                    assert!(Cpus(allowed).has(chosen), "{allowed:b} {idle:b} {last} {here}");
                }
            }
        }
    }
}
