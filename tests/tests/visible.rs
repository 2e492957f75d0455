//! What user mode can see of the kernel, read from outside while it runs.

use std::collections::BTreeSet;
use std::time::Duration;

use ringwall::entry::layout::ENTRY_STACK_TOP;
use ringwall_audit::document::{Kind, Place, Region};
use ringwall_tests::looks::undeclared;
use ringwall_tests::{Boot, Library, Sight, expect_broken, other_kernel, program};

/// The entry text, the IDT, the GDT with the TSS, and the stacks: one page each.
const VISIBLE: u64 = 16 * 1024;

/// The top-level slot of the entry area.
const ENTRY_SLOT: usize = 511;

/// The top-level slot that only a process with an LDT has.
const PRIVATE_SLOT: usize = 510;

/// What the program `ldt` needs for its table.
const LDT: u64 = 8 * 1024;

/// The stack page repeats so often for 16-bit stacks, once for each value of bits 16 to 31.
const ALIASES: u64 = 1 << 16;

/// A boot whose process 1 stays in user mode, with these arguments: how many other processes there
/// are, and how many more threads each has.
fn spinning(boot: Boot, arguments: &str) -> Boot {
    let boot = boot.limit(Duration::from_secs(90)).init(program(Library::Glibc, "spin"));
    if arguments.is_empty() { boot } else { boot.arguments(arguments) }
}

fn look(boot: &Boot) -> Sight {
    let mut running = boot.start();
    running.wait_for("READY\n", Duration::from_secs(80));
    running.look()
}

fn shows_four_pages(boot: Boot) {
    let sight = look(&spinning(boot, ""));
    assert!(sight.isolated());
    shows_no_more(&sight);
}

fn shows_no_more(sight: &Sight) {
    let (total, pages) = (sight.total(), &sight.view().visible);
    assert!(total == VISIBLE, "user mode sees {total} bytes of the kernel: {pages:#x?}");
}

fn shows_no_kernel_pointer(boot: Boot) {
    // Calls, faults and ticks leave their traces on the entry stack, if they leave any.
    look(&spinning(boot, "20 4")).no_pointers();
}

fn executes_no_user_page(boot: Boot) {
    let sight = look(&spinning(boot, ""));
    assert!(sight.isolated());
    let pages = sight.places("user-half-executable");
    assert!(pages.is_empty(), "the kernel root would execute user pages: {pages:#x?}");
}

#[test]
fn four_pages() {
    shows_four_pages(Boot::new());
}

#[test]
fn no_kernel_pointer() {
    shows_no_kernel_pointer(Boot::new());
}

#[test]
fn no_executable_user_page_in_the_kernel_root() {
    executes_no_user_page(Boot::new());
}

#[test]
fn many_processes_and_threads_show_no_more() {
    shows_no_more(&look(&spinning(Boot::new(), "200 5")));
}

/// SYSENTER keeps TF, so #DB interrupts the entry code itself, and goes back through its landing stack.
#[test]
fn a_step_into_the_entry_leaves_what_is_declared() {
    let boot = Boot::new().arguments("stay").init(program(Library::Glibc, "sysenter"));
    let mut audit = look(&boot).audit;
    let landing = 0x9d0..0xa00;
    let stepped = |place: &Place| landing.contains(&(place.address % 0x1000));
    let left = audit.findings.iter().flat_map(|finding| &finding.places).any(stepped);
    assert!(left, "nothing was stepped: {:#?}", audit.findings);
    if let Some(told) = undeclared(&mut audit) {
        panic!("{told}");
    }
}

/// How often a root is looked at while threads and processes come and go.
const LOOKS: usize = 20;

/// How often at most, until all has been met that is to be met. On a busy host the guest may hardly get anywhere between two
/// looks, so the pauses get longer.
const MOST_LOOKS: usize = 1000;

const CROWD: &str = "PHASE crowd\n";

fn pause_before(look: usize) {
    std::thread::sleep(Duration::from_millis((look / 10) as u64));
}

#[test]
fn neither_threads_nor_processes_change_a_user_root() {
    if other_kernel() {
        println!("not our kernel: its roots are its own business");
        return;
    }
    let boot = Boot::new().limit(Duration::from_secs(90)).arguments("40 5");
    let mut running = boot.init(program(Library::Glibc, "churn")).start();
    running.wait_for("PHASE alone\n", Duration::from_secs(30));
    let alone = running.look();
    assert_eq!(used_slots(&alone), [ENTRY_SLOT], "entries of the kernel half of a user root");

    let mut roots = BTreeSet::from([alone.cr3]);
    for phase in ["PHASE storm\n", CROWD] {
        running.type_line("go on");
        running.wait_for(phase, Duration::from_secs(60));
        for number in 0..MOST_LOOKS {
            // The crowd has more than this in ring 3; processes of the storm have each other's roots.
            if number >= LOOKS && (roots.len() > 2 || phase != CROWD) {
                break;
            }
            pause_before(number);
            let sight = running.look();
            assert_eq!(sight.kernel_half, alone.kernel_half, "a user root has changed: {phase}");
            let (now, before) = (&sight.view().visible, &alone.view().visible);
            assert_eq!(now, before, "user mode sees something else: {phase}");
            sight.no_pointers();
            roots.insert(sight.cr3);
        }
    }
    assert!(roots.len() > 2, "only these roots were caught in use: {roots:x?}");
    running.type_line("go on");
    running.finish().powered_off().says("PASS churn\n");
}

fn used_slots(sight: &Sight) -> Vec<usize> {
    let half = &sight.kernel_half;
    (0..half.len()).filter(|index| half[*index] != 0).map(|index| index + half.len()).collect()
}

/// Looks at two processes that take turns, one with an LDT and one without, and says what each shows.
fn an_ldt_shows_to_its_own_process(boot: Boot) {
    let boot = boot.limit(Duration::from_secs(90)).arguments("stay");
    let mut running = boot.init(program(Library::Glibc, "ldt")).start();
    running.wait_for("READY\n", Duration::from_secs(80));
    let (mut with, mut without) = (0, 0);
    for number in 0..MOST_LOOKS {
        pause_before(number);
        let sight = running.look();
        let private = |region: &&Region| (region.address >> 39) as usize % 512 == PRIVATE_SLOT;
        match used_slots(&sight)[..] {
            [ENTRY_SLOT] => {
                shows_no_more(&sight);
                without += 1;
            }
            [PRIVATE_SLOT, ENTRY_SLOT] => {
                let regions: Vec<&Region> = sight.view().visible.iter().filter(private).collect();
                for region in &regions {
                    let (address, rights) = (region.address, region.rights);
                    let text = rights.text();
                    assert!(
                        !rights.writable,
                        "a page for an LDT can be written: {address:#x} {text}"
                    );
                    assert!(
                        !rights.executable,
                        "a page for an LDT can be run: {address:#x} {text}"
                    );
                }
                assert_eq!(sight.total(), VISIBLE + LDT, "bytes, with each page counted once");
                let of = |kind: Kind| {
                    let named = |region: &&&Region| {
                        region.name.as_ref().is_some_and(|name| name.kind == kind)
                    };
                    regions.iter().filter(named).map(|region| region.pages).sum::<u64>()
                };
                assert_eq!(of(Kind::Ldt), LDT / 4096, "pages of the LDT");
                assert_eq!(of(Kind::Espfix), ALIASES, "addresses of the stack page");
                with += 1;
            }
            ref other => panic!("top-level entries of the kernel half of a user root: {other:?}"),
        }
        sight.no_pointers();
        if with > 2 && without > 2 {
            return;
        }
    }
    panic!("with an LDT seen {with} times, without one {without} times");
}

#[test]
fn an_ldt_shows_to_its_own_process_alone_and_cannot_be_written() {
    if other_kernel() {
        println!("not our kernel: its LDTs are elsewhere");
        return;
    }
    an_ldt_shows_to_its_own_process(Boot::new());
}

#[test]
fn nothing_is_left_of_an_ldt_that_is_gone() {
    let boot = Boot::new().limit(Duration::from_secs(90)).arguments("leave");
    look(&boot.init(program(Library::Glibc, "ldt"))).shows(VISIBLE);
}

#[test]
fn a_writable_ldt_is_noticed() {
    let symptom = "a page for an LDT can be written";
    expect_broken("ldt-writable", symptom, an_ldt_shows_to_its_own_process);
}

/// What programs ask the kernel to return to leaves nothing behind, whatever it is: enough random signal frames
/// that each kind of selector, address and state meets each other one, then a look from outside.
#[test]
fn random_signal_frames_leave_nothing_behind() {
    leaves_nothing_behind(200_000);
}

#[test]
#[ignore = "a minute and more: part of the campaign"]
fn a_million_random_signal_frames_leave_nothing_behind() {
    leaves_nothing_behind(1_000_000);
}

fn leaves_nothing_behind(frames: u32) {
    if other_kernel() {
        println!("not our kernel: `same` compares what it says of fewer frames");
        return;
    }
    let script = format!(
        "/bin/sigreturnstorm {frames} 2 >/tmp/said\ntail -n 1 /tmp/said\nexec /bin/spin 2 2"
    );
    let boot = Boot::new()
        .limit(Duration::from_secs(1500))
        .file("/bin/sigreturnstorm", 0o755, program(Library::Glibc, "sigreturnstorm"))
        .file("/bin/spin", 0o755, program(Library::Glibc, "spin"))
        .script(&script);
    let mut running = boot.start();
    running.wait_for("PASS sigreturnstorm\n", Duration::from_secs(1400));
    running.wait_for("READY\n", Duration::from_secs(60));
    running.look().shows(VISIBLE);
}

/// Where SYSENTER's way in pushes a word below the eight of every trap, which are scrubbed.
const BELOW: usize = ENTRY_STACK_TOP - 72;
/// Of these, the vector: where an exit leaves it.
const VECTOR: usize = ENTRY_STACK_TOP - 56;

/// That word of the entry stack, after programs have come by SYSENTER.
fn left_by_sysenter(words: &str, offset: usize) -> u64 {
    let boot = Boot::new()
        .limit(Duration::from_secs(90))
        .append(words)
        .file("/bin/sysenter", 0o755, program(Library::Glibc, "sysenter"))
        .file("/bin/spin", 0o755, program(Library::Glibc, "spin"))
        .script("/bin/sysenter >/dev/null\nexec /bin/spin");
    let mut running = boot.start();
    running.wait_for("READY\n", Duration::from_secs(80));
    let visible = running.visible();
    let word = visible.stack()[offset..offset + 8].try_into().expect("eight bytes");
    u64::from_le_bytes(word)
}

#[test]
fn sysenter_leaves_nothing_behind() {
    if other_kernel() {
        println!("not our kernel: its stacks are its own business");
        return;
    }
    assert_eq!(left_by_sysenter("ringwall.scrub=on", BELOW), 0, "a word of SYSENTER's way in");
    assert_eq!(left_by_sysenter("ringwall.scrub=on", VECTOR), 0, "a trap's vector");
}

#[test]
fn what_a_way_in_leaves_without_scrubbing_is_noticed() {
    if other_kernel() {
        println!("not our kernel: its stacks are its own business");
        return;
    }
    assert_ne!(left_by_sysenter("ringwall.scrub=off", VECTOR), 0, "a trap's vector");
}

#[test]
fn without_isolation_the_kernel_shows() {
    let sight = look(&spinning(Boot::new().pti("off"), ""));
    assert!(!sight.isolated());
    assert!(sight.total() > VISIBLE);
    assert!(!sight.places("kernel-mapped-whole").is_empty(), "{:#x?}", sight.audit.findings);
}

#[test]
fn a_task_stack_in_the_user_root_is_noticed() {
    expect_broken("task-stack-visible", "user mode sees", shows_four_pages);
}

#[test]
fn a_kernel_pointer_in_a_visible_page_is_noticed() {
    expect_broken("kernel-pointer", "pointers to kernel memory", shows_no_kernel_pointer);
}

#[test]
fn a_missing_nx_is_noticed() {
    expect_broken("user-half-nx", "would execute user pages", executes_no_user_page);
}
