//! Who may switch the isolation of a process, and what then holds: the words of PR_SET_PTI and PR_GET_PTI.
//!
//! ```text
//!   /proc/sys/kernel/pti   the process's own word   its ring 3 runs under
//!   1                      none                     the user root
//!   0                      none                     the kernel root
//!   any                    ENABLE                   the user root
//!   any                    DISABLE                  the kernel root
//! ```
//!
//! Invariants: giving up isolation is for root alone, getting it for everybody. A word of a process's own does not
//! outlive exec unless that was asked for.
//!
//! The bits are those of Linux's PR_SET_SPECULATION_CTRL as far as it has them.

/// prctl's option to ask: no arguments; gives bits of this module.
pub const PR_GET_PTI: u32 = 0x5054_4947;
/// prctl's option to set: the word as second argument, and three zeros.
pub const PR_SET_PTI: u32 = 0x5054_4953;

/// Told only: this kernel can switch.
pub const SWITCHABLE: u32 = 1 << 0;
/// Isolation is on; to set: let it be on, whatever the machine has.
pub const ENABLE: u32 = 1 << 1;
/// Isolation is off; to set: let it be off.
pub const DISABLE: u32 = 1 << 2;
/// Told only: the process has a word of its own, and does not follow the machine.
pub const OWN: u32 = 1 << 3;
/// The word outlives exec.
pub const INHERIT: u32 = 1 << 5;

/// Why a word is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// There is no such word.
    Unknown,
    /// It gives up isolation, or may do so later, and the process is not root's.
    Privilege,
}

/// What a process has said about its isolation. It is its memory's, so threads share it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Setting(u32);

impl Setting {
    /// It follows the machine.
    pub const FOLLOWS: Setting = Setting(0);

    /// What [`Setting::bits`] gave.
    pub const fn from_bits(bits: u32) -> Setting {
        Setting(bits)
    }

    /// For an atomic word.
    pub const fn bits(self) -> u32 {
        self.0
    }

    /// What PR_SET_PTI makes of it: `word` is the argument.
    ///
    /// # Errors
    /// [`Refused`].
    pub fn change(self, word: u64, privileged: bool) -> Result<Setting, Refused> {
        let wanted = u32::try_from(word).map_err(|_| Refused::Unknown)?;
        match wanted & !INHERIT {
            ENABLE | DISABLE => {}
            0 if wanted == 0 => {}
            _ => return Err(Refused::Unknown),
        }
        let enables = wanted & ENABLE != 0;
        // One that has asked for isolation, or was confined to it, must not get rid of it by asking again.
        let keeps = self.0 & INHERIT == 0 || wanted & INHERIT != 0;
        let gives_up = wanted & DISABLE != 0 || self.0 & ENABLE != 0 && !(enables && keeps);
        match gives_up && !privileged {
            true => Err(Refused::Privilege),
            false => Ok(Setting(wanted)),
        }
    }

    /// Whether ring 3 runs under the kernel root.
    #[inline(always)]
    pub const fn is_open(self, machine_is_open: bool) -> bool {
        self.0 & DISABLE != 0 || machine_is_open && self.0 & ENABLE == 0
    }

    /// What is left of it after exec.
    pub const fn after_exec(self) -> Setting {
        if self.0 & INHERIT != 0 { self } else { Setting::FOLLOWS }
    }

    /// What PR_GET_PTI tells.
    pub const fn told(self, machine_is_open: bool) -> u32 {
        let own = if self.0 & (ENABLE | DISABLE) != 0 { OWN } else { 0 };
        let state = if self.is_open(machine_is_open) { DISABLE } else { ENABLE };
        SWITCHABLE | own | state | self.0 & INHERIT
    }
}

/// What is written to /proc/sys/kernel/pti: whether isolation is to be on.
pub fn of_text(text: &[u8]) -> Option<bool> {
    match text.trim_ascii() {
        b"0" => Some(false),
        b"1" => Some(true),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(word: u32) -> Setting {
        Setting::FOLLOWS.change(word.into(), true).expect("root may")
    }

    #[test]
    fn the_own_word_counts_more_than_the_machine() {
        for machine in [false, true] {
            assert_eq!(Setting::FOLLOWS.is_open(machine), machine);
            assert!(set(DISABLE).is_open(machine));
            assert!(!set(ENABLE).is_open(machine));
        }
    }

    #[test]
    fn only_root_gives_up_isolation() {
        let old = [0, ENABLE, ENABLE | INHERIT, DISABLE, DISABLE | INHERIT];
        let words = [0, ENABLE, ENABLE | INHERIT, DISABLE, DISABLE | INHERIT];
        for (old, word) in old.into_iter().flat_map(|old| words.map(|word| (old, word))) {
            let refused = set(old).change(word.into(), false).is_err();
            assert!(set(old).change(word.into(), true).is_ok());
            let opens = |machine| {
                let now = Setting(word);
                let was_closed = !set(old).is_open(machine);
                let loses = now.is_open(machine) && was_closed;
                // What exec would leave counts, too.
                loses
                    || now.after_exec().is_open(machine) && !set(old).after_exec().is_open(machine)
            };
            if opens(false) || opens(true) {
                assert!(refused, "{old:#x} to {word:#x} opens something");
            }
        }
        for word in [ENABLE, ENABLE | INHERIT] {
            assert!(Setting::FOLLOWS.change(word.into(), false).is_ok(), "everybody may close");
        }
    }

    #[test]
    fn words_that_mean_nothing_are_refused() {
        let bad = [INHERIT, SWITCHABLE, ENABLE | DISABLE, ENABLE | OWN, 1 << 4 | DISABLE, 1 << 31];
        for word in bad.map(u64::from).into_iter().chain([u64::from(ENABLE) | 1 << 32, u64::MAX]) {
            assert_eq!(Setting::FOLLOWS.change(word, true), Err(Refused::Unknown), "{word:#x}");
        }
    }

    #[test]
    fn exec_forgets_a_word_unless_asked_not_to() {
        assert_eq!(set(DISABLE).after_exec(), Setting::FOLLOWS);
        assert_eq!(set(ENABLE).after_exec(), Setting::FOLLOWS);
        for word in [DISABLE | INHERIT, ENABLE | INHERIT] {
            assert_eq!(set(word).after_exec(), set(word));
        }
    }

    #[test]
    fn what_holds_is_told() {
        assert_eq!(Setting::FOLLOWS.told(false), SWITCHABLE | ENABLE);
        assert_eq!(Setting::FOLLOWS.told(true), SWITCHABLE | DISABLE);
        assert_eq!(set(ENABLE | INHERIT).told(true), SWITCHABLE | ENABLE | OWN | INHERIT);
        assert_eq!(set(DISABLE).told(false), SWITCHABLE | DISABLE | OWN);
    }

    #[test]
    fn the_setting_is_one_digit() {
        assert_eq!(of_text(b"0\n"), Some(false));
        assert_eq!(of_text(b" 1"), Some(true));
        for text in [&b""[..], b"2", b"01", b"1 1", b"on"] {
            assert_eq!(of_text(text), None);
        }
    }
}
