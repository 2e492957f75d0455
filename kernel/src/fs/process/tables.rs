//! What is in /proc.

use super::{kernel, links, processor, ringwall, state, totals};
use crate::fs::generated::{Content, Entry, Numbers};

/// The root directory.
pub static ROOT: Entry =
    Entry { name: "", mode: 0o555, content: Content::Numbered(TOP, &PROCESSES) };

static TOP: &[Entry] = &[
    Entry::text("cmdline", kernel::command_line),
    Entry::text("cpuinfo", processor::information),
    Entry::text("devices", kernel::devices),
    Entry::text("diskstats", kernel::nothing),
    Entry::text("filesystems", kernel::file_systems),
    Entry::text("interrupts", totals::interrupts),
    Entry::text("loadavg", totals::load),
    Entry::text("meminfo", totals::memory),
    Entry::link("mounts", links::own_mounts),
    Entry::text("partitions", kernel::partitions),
    Entry::text("ringwall", ringwall::counters),
    Entry::link("self", links::own),
    Entry::text("stat", totals::statistics),
    Entry::text("swaps", kernel::swaps),
    Entry::directory("sys", SYSTEM),
    Entry::link("thread-self", links::own_thread),
    Entry::text("uptime", totals::uptime),
    Entry::text("version", kernel::version),
    Entry::text("vmstat", totals::virtual_memory),
];

static PROCESSES: Numbers = Numbers {
    prefix: "",
    template: Entry { name: "", mode: 0o555, content: Content::Directory(PROCESS) },
    list: links::processes,
    find: links::find_process,
};

const fn magic(
    name: &'static str,
    text: fn(&crate::fs::generated::Subject) -> crate::errno::Result<alloc::vec::Vec<u8>>,
    jump: fn(&crate::fs::generated::Subject) -> crate::errno::Result<crate::fs::inode::Jump>,
) -> Entry {
    Entry { name, mode: 0o777, content: Content::Magic(text, jump) }
}

static PROCESS: &[Entry] = &[
    Entry::text("cmdline", state::arguments),
    Entry { name: "comm", mode: 0o644, content: Content::Setting(state::name, state::set_name) },
    magic("cwd", links::working_text, links::working),
    Entry { name: "environ", mode: 0o400, content: Content::Text(state::environment) },
    magic("exe", links::executable_text, links::executable),
    Entry { name: "fd", mode: 0o500, content: Content::Numbered(&[], &DESCRIPTORS) },
    Entry { name: "fdinfo", mode: 0o555, content: Content::Numbered(&[], &DESCRIPTOR_STATES) },
    Entry::text("limits", state::limits),
    Entry::text("maps", state::maps),
    Entry::text("mountinfo", kernel::mount_information),
    Entry::text("mounts", kernel::mounts),
    Entry {
        name: "oom_score_adj",
        mode: 0o644,
        content: Content::Setting(kernel::zero, kernel::accept),
    },
    magic("root", links::root_text, links::root),
    Entry::text("stat", state::statistics),
    Entry::text("statm", state::memory),
    Entry::text("status", state::status),
    Entry { name: "task", mode: 0o555, content: Content::Numbered(&[], &THREADS) },
    Entry::text("wchan", kernel::zero_digit),
];

static THREAD: &[Entry] = &[
    Entry::text("cmdline", state::arguments),
    Entry { name: "comm", mode: 0o644, content: Content::Setting(state::name, state::set_name) },
    magic("cwd", links::working_text, links::working),
    magic("exe", links::executable_text, links::executable),
    Entry { name: "fd", mode: 0o500, content: Content::Numbered(&[], &DESCRIPTORS) },
    Entry::text("maps", state::maps),
    Entry::text("mounts", kernel::mounts),
    magic("root", links::root_text, links::root),
    Entry::text("stat", state::statistics),
    Entry::text("statm", state::memory),
    Entry::text("status", state::status),
];

static THREADS: Numbers = Numbers {
    prefix: "",
    template: Entry { name: "", mode: 0o555, content: Content::Directory(THREAD) },
    list: links::threads,
    find: links::find_thread,
};

static DESCRIPTORS: Numbers = Numbers {
    prefix: "",
    template: magic("", links::descriptor_text, links::descriptor),
    list: links::descriptors,
    find: links::find_descriptor,
};

static DESCRIPTOR_STATES: Numbers = Numbers {
    prefix: "",
    template: Entry { name: "", mode: 0o400, content: Content::Text(links::descriptor_state) },
    list: links::descriptors,
    find: links::find_descriptor,
};

static SYSTEM: &[Entry] = &[
    Entry::directory("fs", SYSTEM_FS),
    Entry::directory("kernel", SYSTEM_KERNEL),
    Entry::directory("vm", SYSTEM_VM),
];

static SYSTEM_FS: &[Entry] = &[
    Entry::text("file-max", kernel::file_max),
    Entry::text("nr_open", kernel::file_open_max),
    Entry::text("pipe-max-size", kernel::pipe_max),
];

static SYSTEM_KERNEL: &[Entry] = &[
    Entry {
        name: "hostname",
        mode: 0o644,
        content: Content::Setting(kernel::host_name, kernel::set_host_name),
    },
    Entry {
        name: "domainname",
        mode: 0o644,
        content: Content::Setting(kernel::domain_name, kernel::accept),
    },
    Entry::text("cap_last_cap", kernel::last_capability),
    Entry::text("ngroups_max", kernel::groups_max),
    Entry::text("osrelease", kernel::release),
    Entry::text("ostype", kernel::system_name),
    Entry { name: "panic", mode: 0o644, content: Content::Setting(kernel::zero, kernel::accept) },
    Entry::text("pid_max", kernel::pid_max),
    Entry {
        name: "printk",
        mode: 0o644,
        content: Content::Setting(kernel::printk, kernel::accept),
    },
    Entry::directory("random", SYSTEM_RANDOM),
    Entry {
        name: "pti",
        mode: 0o644,
        content: Content::Setting(kernel::isolation, kernel::switch_isolation),
    },
    Entry {
        name: "randomize_va_space",
        mode: 0o644,
        content: Content::Setting(kernel::two, kernel::accept),
    },
    Entry::text("threads-max", kernel::pid_max),
    Entry::text("version", kernel::build),
];

static SYSTEM_RANDOM: &[Entry] = &[
    Entry::text("boot_id", kernel::boot_identifier),
    Entry::text("entropy_avail", kernel::entropy),
    Entry::text("poolsize", kernel::entropy),
    Entry::text("uuid", kernel::new_identifier),
];

static SYSTEM_VM: &[Entry] = &[
    Entry {
        name: "drop_caches",
        mode: 0o200,
        content: Content::Setting(kernel::zero, kernel::accept),
    },
    Entry::text("max_map_count", kernel::map_max),
    Entry {
        name: "overcommit_memory",
        mode: 0o644,
        content: Content::Setting(kernel::zero, kernel::accept),
    },
    Entry {
        name: "swappiness",
        mode: 0o644,
        content: Content::Setting(kernel::swappiness, kernel::accept),
    },
];
