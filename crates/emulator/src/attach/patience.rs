//! When to be content with a stop: how many CPUs run user mode, and how many more may be hoped for.
//!
//! All CPUs in ring 3 at the same moment are worth waiting for, but not for ever: a CPU that always waits in HLT has
//! nothing to run, and a busy guest has its share of kernel time.

use std::time::Duration;

use crate::Registers;

/// After the first CPU was seen in ring 3: as many as ever were seen at once are wanted from here on, not all.
const ALL: Duration = Duration::from_millis(400);
/// From here on, any is enough.
const AS_MANY_AS_EVER: Duration = Duration::from_millis(1000);
/// A CPU that was in HLT at so many looks, one after the other, is taken for idle.
const IDLE_LOOKS: u32 = 12;

/// What was seen at the looks so far.
#[derive(Debug, Default)]
pub(super) struct Patience {
    /// When a CPU was in ring 3 for the first time.
    first: Option<Duration>,
    /// Most CPUs in ring 3 at once.
    best: usize,
    /// CPU by CPU: at how many looks it has been in HLT since it was seen in anything else.
    idle: Vec<u32>,
}

impl Patience {
    /// Notes what the CPUs do at this look, `now` after the first, and says whether to stay here.
    pub fn content(&mut self, cpus: &[Registers], now: Duration) -> bool {
        self.idle.resize(self.idle.len().max(cpus.len()), 0);
        for (idle, cpu) in self.idle.iter_mut().zip(cpus) {
            *idle = if cpu.halted { idle.saturating_add(1) } else { 0 };
        }
        let count = cpus.iter().filter(|cpu| cpu.in_ring_3()).count();
        self.best = self.best.max(count);
        if count == 0 {
            return false;
        }
        let since = now - *self.first.get_or_insert(now);
        let others = cpus.iter().zip(&self.idle).filter(|(cpu, _)| !cpu.in_ring_3());
        let others_are_idle = others.map(|(_, looks)| *looks).all(|looks| looks >= IDLE_LOOKS);
        others_are_idle || (since >= ALL && count >= self.best) || since >= AS_MANY_AS_EVER
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cpus(states: &str) -> Vec<Registers> {
        let cpu = |state| Registers {
            cpl: if state == 'u' { 3 } else { 0 },
            halted: state == 'h',
            ..Registers::default()
        };
        states.chars().map(cpu).collect()
    }

    fn at(milliseconds: u64) -> Duration {
        Duration::from_millis(milliseconds)
    }

    #[test]
    fn all_in_user_mode_is_enough_at_once() {
        assert!(Patience::default().content(&cpus("uuuu"), at(0)));
        assert!(!Patience::default().content(&cpus("uuku"), at(0)));
        assert!(!Patience::default().content(&cpus("hhhh"), at(100_000)));
    }

    #[test]
    fn idle_cpus_are_not_waited_for_once_they_are_known() {
        let mut patience = Patience::default();
        for look in 0..11 {
            assert!(!patience.content(&cpus("uhhh"), at(look * 20)), "too early to say");
        }
        assert!(patience.content(&cpus("uhhh"), at(220)));
        assert!(!patience.content(&cpus("uhhk"), at(240)), "the last one has work to do");
        assert!(!patience.content(&cpus("uhhh"), at(260)), "and may have more of it");
    }

    #[test]
    fn hopes_sink_with_time() {
        let mut patience = Patience::default();
        assert!(!patience.content(&cpus("kkkk"), at(5000)));
        assert!(!patience.content(&cpus("uuuk"), at(6000)));
        assert!(!patience.content(&cpus("uukk"), at(6500)));
        assert!(!patience.content(&cpus("kkkk"), at(9000)));
        assert!(patience.content(&cpus("ukkk"), at(9001)));
        let mut patience = Patience::default();
        assert!(!patience.content(&cpus("uuuk"), at(0)));
        assert!(patience.content(&cpus("ukuu"), at(500)));
    }
}
