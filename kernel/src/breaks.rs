//! Deliberate breaks of this kernel and of the library, for tests that must notice them.
//!
//! Built in with the feature `breaks` alone; `break=NAME` on the command line turns one on. A break that is the
//! library's goes into the list in `crates/ringwall/src/breaks.rs`, all others here.

ringwall::breaks! {
    /// The task stacks are in every user root.
    TaskStackVisible = "task-stack-visible",
    /// The user view of the entry text is global.
    GlobalSplit = "global-split",
    /// The entry area keeps its distance from the image.
    EntryAreaFollows = "entry-area-follows",
    /// A CPU without work takes any thread from another's queue, whether that may run on it or not.
    AnyCpu = "any-cpu",
    /// Who is woken runs before who woke it. Nothing is broken by that but programs that count on the other order.
    WokenFirst = "woken-first",
    /// Isolation that is switched on again stays off.
    StaysOpen = "stays-open",
    /// Other CPUs are not asked to flush.
    ShootdownHere = "shootdown-here",
    /// Other CPUs say that they have flushed, and have not.
    EmptyAnswer = "empty-answer",
    /// Pages are flushed before they leave the tables, not after.
    FlushBeforeUnmap = "flush-before-unmap",
    /// A copy on write is there before the others have flushed what it is a copy of.
    NewFirst = "new-first",
    /// Now and then the interrupt that asks another CPU gets lost.
    LostIpi = "lost-ipi",
    /// Other CPUs are not told of a changed LDT.
    LdtHere = "ldt-here",
    /// Other CPUs keep what DS and ES had of a changed LDT.
    LdtRegisters = "ldt-registers",
    /// Whoever ends the machine does not stop the other CPUs.
    OthersGoOn = "others-go-on",
}

#[cfg(feature = "breaks")]
mod choice {
    use super::Break;
    use ringwall::breaks::Break as LibraryBreak;

    /// Nothing has this name.
    pub struct Unknown<'a>(&'a [u8]);

    impl core::fmt::Display for Unknown<'_> {
        fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
            write!(f, "unknown value break={}: expected one of", self.0.escape_ascii())?;
            Break::names().chain(LibraryBreak::names()).try_for_each(|name| write!(f, " {name}"))
        }
    }

    /// Turns on what `break=` names: before anything is set up that may be broken.
    ///
    /// # Errors
    /// [`Unknown`].
    pub fn turn_on(command_line: &[u8]) -> Result<(), Unknown<'_>> {
        let words = command_line.split(u8::is_ascii_whitespace);
        for name in words.filter_map(|word| word.strip_prefix(b"break=")) {
            let known = core::str::from_utf8(name)
                .is_ok_and(|name| Break::turn_on(name) || LibraryBreak::turn_on(name));
            if !known {
                return Err(Unknown(name));
            }
            crate::println!("ringwall: broken on purpose: {}", name.escape_ascii());
        }
        Ok(())
    }
}

#[cfg(feature = "breaks")]
pub use choice::turn_on;
