//! Every finding that there is: its lasting name, how bad it is as a rule, and what it means.
//!
//! `docs/findings.md` has a heading for each, with the longer story; a test keeps the two together.

use crate::document::{Finding, Place, Severity};

/// A kind of finding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Its lasting name.
    pub id: &'static str,
    /// How bad it is, unless the circumstances say otherwise.
    pub severity: Severity,
    /// What it means, why it matters, what to do.
    pub explanation: &'static str,
}

impl Rule {
    /// The finding of this kind at these places. `title` has the numbers.
    pub fn finding(
        &self,
        title: impl Into<String>,
        places: impl IntoIterator<Item = Place>,
    ) -> Finding {
        let mut all = places.into_iter();
        // What is not listed is counted and not kept: a hostile guest has millions.
        let mut places: Vec<Place> = all.by_ref().take(Finding::PLACES).collect();
        places.shrink_to_fit();
        let count = places.len() as u64 + all.count() as u64;
        Finding {
            id: self.id.into(),
            severity: self.severity,
            title: title.into(),
            explanation: self.explanation.into(),
            reference: format!("docs/findings.md#{}", self.id),
            places,
            count,
        }
    }

    /// The rule of this name.
    pub fn of(id: &str) -> Option<&'static Rule> {
        ALL.iter().find(|rule| rule.id == id)
    }
}

macro_rules! catalogue {
    ($($(#[$doc:meta])* $name:ident = $id:literal, $severity:ident, $text:literal;)*) => {
        $($(#[$doc])* pub const $name: Rule =
            Rule { id: $id, severity: Severity::$severity, explanation: $text };)*

        /// All of them.
        pub const ALL: &[Rule] = &[$($name),*];
    };
}

catalogue! {
    /// Isolation is off, or does not do anything.
    KERNEL_MAPPED_WHOLE = "kernel-mapped-whole", Critical,
        "User mode runs on page tables that map the kernel whole: even the tables themselves are mapped. On a CPU \
         with Meltdown (CVE-2017-5754) any program can read all of it; on any CPU timing finds the kernel's random \
         address. Switch isolation on (Linux: pti=on; its pti=auto leaves it off on CPUs that say they do not need \
         it), or find out why the user root was filled with all of the kernel.";
    /// A CPU in ring 3 on the wrong root.
    KERNEL_ROOT_IN_RING_3 = "kernel-root-in-ring-3", Critical,
        "A CPU was stopped in ring 3 with the kernel's root of a root pair in CR3. A way out of the kernel forgot the \
         switch: look at the rarer ones, such as the return from an NMI, from a fork, and through IRET to 16-bit or \
         compatibility code.";
    /// A process without isolation beside others that have it.
    PROCESS_OPEN = "process-open", Serious,
        "Isolation is switched off for a process: its ring 3 runs on the kernel's root of a root pair, and the CPU's ways \
         in work there alone. With Meltdown (CVE-2017-5754) this process can read the kernel whole; others that have \
         their isolation cannot. Somebody switched it off: in the reference kernel /proc/sys/kernel/pti says so for the \
         machine and /proc/PID/status for each process, and writing 1 to the former or PR_SET_PTI brings it back.";
    /// Writable supervisor memory that needs not be.
    WRITABLE_SUPERVISOR_PAGE = "writable-supervisor-page", Warning,
        "Supervisor memory that user mode's tables show may be written, and it is no stack of a TSS. Nothing but stacks \
         needs that while user mode's tables are active: map descriptor tables and data read-only and write them \
         through another address.";
    /// Executable supervisor memory beyond entry text.
    EXECUTABLE_SUPERVISOR_PAGE = "executable-supervisor-page", Warning,
        "Executable supervisor memory is shown to which no way in leads: neither SYSCALL nor a gate of the IDT. It is \
         kernel code that can be read with Meltdown and used by speculation with user mode's tables active. Map the \
         pages of the entry text alone, and give it pages of its own.";
    /// Both.
    WRITABLE_AND_EXECUTABLE = "writable-and-executable", Serious,
        "Supervisor memory that user mode's tables show may be written and executed. One stray write turns into kernel \
         code. No kernel needs it: map the text read-only, patch it through another address.";
    /// The U bit in the kernel half.
    KERNEL_HALF_USER_ACCESSIBLE = "kernel-half-user-accessible", Serious,
        "Pages of the kernel half have the user bit at all levels: user mode reads them (and, where they are \
         writable, writes them) without any trick. Clear the bit, at the latest in the leaf.";
    /// Addresses of what is hidden.
    KERNEL_POINTER = "kernel-pointer", Warning,
        "Memory that user mode's tables show holds addresses of memory that only the kernel's tables map. Read with \
         Meltdown, they undo the kernel's address randomisation and tell where to look next. Keep such pointers on \
         pages that only the kernel's root maps, and wipe stacks on the way out.";
    /// The G bit.
    GLOBAL_SUPERVISOR_PAGE = "global-supervisor-page", Note,
        "Supervisor pages are global: their translations stay in the TLB when CR3 is written. For pages that both roots \
         map alike that is a choice. For pages that only the kernel maps, or that both roots map differently, it \
         undoes the switch of tables: clear the G bit there.";
    /// A stack that system calls run on.
    TASK_STACK_VISIBLE = "task-stack-visible", Serious,
        "User mode's tables show a stack that the kernel runs system calls or tasks on. It holds return addresses, \
         pointers and data of other system calls. Enter on a small stack per CPU and go over to the task's stack after \
         the switch of tables. The first KAISER patches mapped every stack; Linux has not done so since 4.15.";
    /// Bytes without an excuse.
    CONTENTS_NOT_DECLARED = "contents-not-declared", Note,
        "Memory that user mode's tables show holds bytes that are not zero, and the CPU needs none of them there: what \
         entries have left on stacks, or data of the kernel's. Whoever can read it with Meltdown learns registers of \
         other programs, or what the data says. Wipe stacks on the way out; move data to the kernel's side.";
    /// Two maps of one program.
    USER_HALVES_DISAGREE = "user-halves-disagree", Warning,
        "The two roots of a pair map user memory differently. A system call then reads other memory than the program \
         sees, or the program faults where the kernel sees memory. Change top-level entries in both roots together, and \
         share every lower table.";
    /// The missing tripwire.
    USER_HALF_EXECUTABLE = "user-half-executable", Warning,
        "The kernel's root leaves user memory executable. With NX in its top-level user entries, a return to ring 3 that \
         forgot the switch of tables would fault at once; without, it runs, unprotected and unnoticed. Linux sets NX \
         there.";
    /// Neighbours.
    OTHER_CPUS_VISIBLE = "other-cpus-visible", Note,
        "The tables that user mode runs under on one CPU show the entry stacks and tables of other CPUs too. That is \
         what nearly every kernel does, because one root serves all CPUs: what an entry leaves on one CPU's stack can \
         be read from another CPU. Roots of each CPU's own would hide it.";
    /// EntryBleed.
    MOVES_WITH_KERNEL = "moves-with-kernel", Warning,
        "From boot to boot something visible keeps its distance from a secret place of the kernel. User mode finds it by \
         timing, whatever its rights, with isolation on (EntryBleed, CVE-2022-4543), and with it the secret: the kernel \
         image, or the direct map, from which all memory can be reached. How many bits are given away is guessed from \
         the places that were seen. Map what must be visible at an address that is fixed, or random on its own.";
    /// Nothing to give away.
    KERNEL_NOT_RANDOMISED = "kernel-not-randomised", Note,
        "The kernel image was at the same address in every boot. Nothing visible can give it away, because everybody knows \
         it. Turn the kernel's address-space randomisation on, if it has any; in an emulator it may want random numbers \
         of the CPU (RDRAND).";
    /// Too few boots.
    MOVEMENT_UNDECIDED = "movement-undecided", Note,
        "Whether what is visible moves with the kernel cannot be told for all of it: something was at one address only, in \
         too few boots to say that it always is; or it was not found; or there is more than is followed. Look at more \
         boots.";
    /// Garbage.
    MALFORMED_TABLES = "malformed-tables", Warning,
        "The page tables hold entries that no kernel should write: tables or pages outside of memory, reserved bits, \
         loops. What they would translate was not followed, so there may be more visible memory than is listed here.";
    /// A recursive entry.
    PAGE_TABLES_VISIBLE = "page-tables-visible", Warning,
        "User mode's page tables are among the memory that they map for the kernel. Their contents are physical addresses: \
         of the program's own memory, and of the kernel's tables. Map them in the kernel's root alone.";
    /// The user root alone is known.
    KERNEL_ROOT_UNKNOWN = "kernel-root-unknown", Warning,
        "User mode's tables do not map the kernel, but the kernel's own root was not found: it is no pair that \
         differs in bit 12 of CR3. Pointers to kernel-only memory could not be told from numbers. Give the kernel's \
         CR3 with --kernel-cr3.";
    /// Not seen in ring 3.
    NOT_SEEN_IN_RING_3 = "not-seen-in-ring-3", Note,
        "This root was found on a CPU that was in the kernel, and no other half of a pair was found. It need not be the \
         root that user mode runs under. Look again while a program runs.";
    /// More than a search can do.
    NOT_SEARCHED = "not-searched", Warning,
        "So much memory is visible that its contents were searched only in part. Pointers and bytes beyond are not \
         counted.";
    /// `--expect`: something else is there.
    NOT_DECLARED = "not-declared", Serious,
        "User mode's tables show something that the expectations do not declare. Either it must not be there, or it \
         belongs into the file, with the reason.";
    /// `--expect`: something is not there.
    MISSING_DECLARED = "missing-declared", Warning,
        "The expectations declare something that user mode's tables do not show. Either the kernel has changed, or the \
         look did not recognise it: a declaration that matches nothing guards nothing.";
    /// `--expect`: too much of it.
    LIMIT_EXCEEDED = "limit-exceeded", Serious,
        "There is more of something than the expectations allow. Either it grew by mistake, or the limit has to be \
         raised, with the reason.";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_beyond_the_list_are_counted() {
        let place =
            |address| Place { view: 0, address, bytes: 1, value: None, note: String::new() };
        let more = Finding::PLACES as u64 + 5;
        let finding = KERNEL_POINTER.finding("many", (0..more).map(place));
        assert_eq!((finding.places.len(), finding.count), (Finding::PLACES, more));
    }
}
