//! Deliberate breaks, for tests that must notice them. Never for use.
//!
//! With the feature `breaks` they are all built in, and the kernel turns one of them on at boot, before it calls
//! [`Isolation::new`](crate::Isolation::new). Without it [`Break::is_on`] is a constant, and nothing of any break is
//! in the kernel: the golden files of the entry text are made without.
//!
//! Invariant: as long as none is turned on, a kernel with all breaks does what a sound one does.

/// Names deliberate breaks: makes the enum `Break` of them, with `is_on`, and with the feature `breaks` of the crate that
/// uses this also `names` and `turn_on`. Without it `is_on` is never true.
///
/// One may be on at a time: the one word of global state that there is, for tests alone.
#[macro_export]
macro_rules! breaks {
    ($($(#[$doc:meta])* $name:ident = $word:literal,)*) => {
        /// A deliberate break.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u16)]
        pub enum Break {
            $($(#[$doc])* $name,)*
        }

        #[cfg(feature = "breaks")]
        static ON: core::sync::atomic::AtomicU16 = core::sync::atomic::AtomicU16::new(u16::MAX);

        impl Break {
            /// Whether this is the one that was turned on.
            #[inline]
            pub fn is_on(self) -> bool {
                Break::number_is_on(self as u16)
            }

            #[cfg(feature = "breaks")]
            pub(crate) fn number_is_on(number: u16) -> bool {
                ON.load(core::sync::atomic::Ordering::Relaxed) == number
            }

            #[cfg(not(feature = "breaks"))]
            #[inline]
            pub(crate) const fn number_is_on(_: u16) -> bool {
                false
            }

            /// Their names.
            #[cfg(feature = "breaks")]
            pub fn names() -> impl Iterator<Item = &'static str> {
                [$($word),*].into_iter()
            }

            /// Turns on the one of this name, if there is one; else the answer is false.
            #[cfg(feature = "breaks")]
            pub fn turn_on(name: &str) -> bool {
                let place = Break::names().position(|word| word == name);
                if let Some(number) = place {
                    ON.store(number as u16, core::sync::atomic::Ordering::Relaxed);
                }
                place.is_some()
            }
        }
    };
}

breaks! {
    /// SYSRETQ under the kernel root.
    Cr3Write = "cr3-write",
    /// R10 is not restored by SYSRETQ.
    Register = "register",
    /// A paranoid exit leaves the GS base that its entry has set.
    ParanoidGs = "paranoid-gs",
    /// A paranoid exit to the user root leaves the kernel root.
    ParanoidCr3 = "paranoid-cr3",
    /// A #DF that is turned back writes to the task stack, which is not mapped then.
    DoubleFaultStack = "double-fault-stack",
    /// An exit to a 16-bit stack segment does not go through the espfix stack.
    Espfix = "espfix",
    /// What interrupted an NMI's code leaves by IRETQ.
    NmiIret = "nmi-iret",
    /// A kernel address among the user-mapped variables.
    KernelPointer = "kernel-pointer",
    /// The pages of an LDT are writable.
    LdtWritable = "ldt-writable",
    /// The kernel root may execute the user half.
    UserHalfNx = "user-half-nx",
    /// The same, once isolation was switched off and on again.
    StaysExecutable = "stays-executable",
}
