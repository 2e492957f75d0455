//! What prctl, personality and setpriority keep of a process.

use super::Process;
use core::sync::atomic::Ordering;

impl Process {
    /// Signal it gets when its parent ends; 0 for none.
    pub fn death_signal(&self) -> u32 {
        self.death_signal.load(Ordering::Relaxed)
    }

    /// Sets [`Process::death_signal`].
    pub fn set_death_signal(&self, signal: u32) {
        self.death_signal.store(signal, Ordering::Relaxed);
    }

    /// PR_GET_DUMPABLE.
    pub fn dumpable(&self) -> u32 {
        self.dumpable.load(Ordering::Relaxed)
    }

    /// PR_SET_DUMPABLE.
    pub fn set_dumpable(&self, value: u32) {
        self.dumpable.store(value, Ordering::Relaxed);
    }

    /// PR_SET_NO_NEW_PRIVS; there is no way back.
    pub fn set_no_new_privileges(&self) {
        self.no_new_privileges.store(true, Ordering::Relaxed);
    }

    /// Whether orphans among its descendants become its children.
    pub fn is_subreaper(&self) -> bool {
        self.is_subreaper.load(Ordering::Relaxed)
    }

    /// Sets [`Process::is_subreaper`].
    pub fn set_subreaper(&self, value: bool) {
        self.is_subreaper.store(value, Ordering::Relaxed);
    }

    /// Sets the personality unless `value` only asks; gives the old one.
    pub fn exchange_personality(&self, value: u32) -> u32 {
        const ASK: u32 = u32::MAX;
        match value {
            ASK => self.personality.load(Ordering::Relaxed),
            value => self.personality.swap(value, Ordering::Relaxed),
        }
    }

    /// Sets the nice value, which is kept within -20 to 19.
    pub fn set_nice(&self, value: i32) {
        self.nice.store(value.clamp(-20, 19).cast_unsigned(), Ordering::Relaxed);
    }
}
