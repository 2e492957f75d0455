//! The entry text as bytes: what is in it, what is not, and a golden file of all of it.
//!
//! `BLESS=1 cargo test -p ringwall` renews the golden files after a change that was meant.

use iced_x86::{
    Code, Decoder, DecoderOptions, Formatter, Instruction, IntelFormatter, Mnemonic, OpKind,
    Register,
};
use ringwall::core::hardening::{Hardening, Measure};
use ringwall::core::policy::CpuidFacts;
use ringwall::entry::layout::{ALIAS, DATA, StackPage};
use ringwall::entry::{Features, Text, Variant};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::mem::offset_of;
use std::path::Path;

const PAGE: usize = 4096;
/// The variants with switches.
const ISOLATED: [Variant; 2] = [Variant::Isolated, Variant::Pcid];

/// As on an AMD CPU with SMAP and FSGSBASE: what the emulator's best one is.
fn features(line: &str) -> Features {
    let leaf_0 = [7, 0x6874_7541, 0x444d_4163, 0x6974_6e65];
    let facts = CpuidFacts::from_leaves(leaf_0, [0; 4], [0, 1 << 7 | 1 << 20, 0, 0]);
    Features::new(&Hardening::decide(line, &facts), true, true)
}

fn kernel_view_with(text: &Text, line: &str) -> [u8; PAGE] {
    let mut page = [0; PAGE];
    text.write_kernel_view(&mut page, features(line));
    page
}

fn kernel_view(text: &Text) -> [u8; PAGE] {
    kernel_view_with(text, "")
}

fn user_view(text: &Text) -> [u8; PAGE] {
    let mut page = [0; PAGE];
    text.write_user_view(&mut page, &kernel_view(text));
    page
}

fn decode(bytes: &[u8], start: u64) -> Vec<Instruction> {
    Decoder::with_ip(64, bytes, start, DecoderOptions::NONE).into_iter().collect()
}

fn touches_cr3(instruction: &Instruction) -> bool {
    (0..instruction.op_count()).any(|operand| {
        instruction.op_kind(operand) == OpKind::Register
            && instruction.op_register(operand) == Register::CR3
    })
}

fn instructions(text: &Text) -> Vec<Instruction> {
    decode(&kernel_view(text)[..text.size()], 0)
}

#[test]
fn each_variant_fits_one_page() {
    for variant in Variant::ALL {
        let size = Text::new(variant).size();
        assert!(size < PAGE, "{size} bytes");
    }
}

#[test]
fn without_isolation_no_switch_instruction_is_left() {
    let switches = instructions(&Text::new(Variant::Plain)).into_iter().filter(touches_cr3).count();
    assert_eq!(switches, 0);
    let switches = instructions(&Text::new(Variant::Open)).into_iter().filter(touches_cr3).count();
    assert_eq!(switches, 0);
    assert!(instructions(&Text::new(Variant::Isolated)).iter().any(touches_cr3));
}

#[test]
fn the_user_view_is_the_windows_and_nothing_else() {
    for variant in ISOLATED {
        let text = Text::new(variant);
        let (kernel, user) = (kernel_view(&text), user_view(&text));
        let mut shown = [false; PAGE];
        for (range, _) in text.windows() {
            for offset in range {
                shown[usize::from(offset)] = true;
            }
        }
        for offset in 0..PAGE {
            let expected = if shown[offset] { kernel[offset] } else { 0xcc };
            assert_eq!(user[offset], expected, "at {offset:#x}");
        }
    }
}

#[test]
fn every_window_has_its_row() {
    for variant in ISOLATED {
        let text = Text::new(variant);
        assert_eq!(text.windows().count(), ringwall::entry::windows::WINDOWS.len());
    }
}

#[test]
fn a_window_that_leads_in_ends_with_the_cr3_write() {
    for variant in ISOLATED {
        let text = Text::new(variant);
        let page = kernel_view(&text);
        for (range, window) in
            text.windows().filter(|(_, window)| window.leaves.contains("CR3 write"))
        {
            let code = &page[usize::from(range.start)..usize::from(range.end)];
            let last = *decode(code, range.start.into()).last().expect("not empty");
            let writes = last.mnemonic() == Mnemonic::Mov && last.op0_register() == Register::CR3;
            assert!(writes, "{}: ends with {last}", window.name);
        }
    }
}

/// Under the user root only the stack page is there, and code in a window may only jump to windows.
#[test]
fn windows_stay_inside_what_the_user_root_maps() {
    for variant in ISOLATED {
        let text = Text::new(variant);
        let page = kernel_view(&text);
        let ranges: Vec<_> = text.windows().map(|(range, _)| range).collect();
        for (range, window) in text.windows() {
            let code = &page[usize::from(range.start)..usize::from(range.end)];
            for instruction in decode(code, range.start.into()) {
                if instruction.segment_prefix() == Register::GS {
                    let offset = instruction.memory_displacement64() as usize;
                    assert!(offset < ALIAS, "{}: {instruction} leaves the stack page", window.name);
                }
                if instruction.is_jmp_short_or_near() || instruction.is_jcc_short_or_near() {
                    let target = instruction.near_branch_target() as u16;
                    let inside = ranges.iter().any(|range| range.contains(&target));
                    assert!(inside, "{}: {instruction} leaves the windows", window.name);
                }
                let calls = instruction.is_call_near() || instruction.is_call_near_indirect();
                assert!(!calls, "{}: {instruction}", window.name);
            }
        }
    }
}

#[test]
fn only_the_kernel_view_reads_kernel_data() {
    for variant in ISOLATED {
        let text = Text::new(variant);
        let windows: Vec<_> = text.windows().map(|(range, _)| range).collect();
        for instruction in instructions(&text) {
            let in_window = windows.iter().any(|range| range.contains(&(instruction.ip() as u16)));
            let reads_data = instruction.segment_prefix() == Register::GS
                && instruction.memory_displacement64() as usize >= DATA;
            assert!(!(in_window && reads_data), "{instruction}");
        }
    }
}

#[test]
fn every_stub_pushes_its_vector() {
    for variant in Variant::ALL {
        let text = Text::new(variant);
        let page = kernel_view(&text);
        for vector in (0..=255u8).filter(|vector| ![1, 2, 8, 18].contains(vector)) {
            let stub = usize::from(text.gate(vector));
            assert_eq!(page[stub..stub + 2], [0x6a, vector], "stub of vector {vector}");
        }
    }
}

#[test]
fn one_instruction_returns_to_ring_3_and_may_fault() {
    for variant in ISOLATED {
        let text = Text::new(variant);
        let exit = u64::from(text.points().exit_iretq);
        let at_exit = instructions(&text).into_iter().find(|instruction| instruction.ip() == exit);
        assert_eq!(at_exit.map(|instruction| instruction.code()), Some(Code::Iretq));
    }
}

#[test]
fn after_a_root_leaves_a_register_it_is_overwritten() {
    for variant in ISOLATED {
        let text = Text::new(variant);
        let all: BTreeMap<u64, Instruction> = instructions(&text)
            .into_iter()
            .map(|instruction| (instruction.ip(), instruction))
            .collect();
        let spots = (0..PAGE as u64).filter_map(|offset| text.spot(offset)).collect::<Vec<_>>();
        assert!(!spots.is_empty());
        for spot in spots {
            let resume = all[&u64::from(spot.resume)];
            let writes = match resume.mnemonic() {
                Mnemonic::Mov => resume.op0_kind() == OpKind::Register,
                Mnemonic::Pop => true,
                _ => false,
            };
            assert!(writes, "{resume} does not fetch the register anew");
        }
    }
}

/// Instructions of a system call that are the entry text's, SYSCALL and SYSRETQ included.
fn null_call_instructions(text: &Text) -> usize {
    let entry = u64::from(text.points().syscall_entry);
    let path = instructions(text).into_iter().skip_while(|instruction| instruction.ip() < entry);
    let before_sysret = path.take_while(|step| step.mnemonic() != Mnemonic::Sysretq).count();
    before_sysret + 2
}

/// Each measure changes the text, and taking it away leaves no instruction in a null call.
#[test]
fn every_measure_is_in_the_text_only_if_it_is_on() {
    for variant in Variant::ALL {
        measures_are_in(&Text::new(variant));
    }
}

fn measures_are_in(text: &Text) {
    for measure in Measure::ALL {
        let on = kernel_view_with(text, &format!("ringwall.{}=force", measure.name()));
        let off = kernel_view_with(text, &format!("ringwall.{}=off", measure.name()));
        assert_ne!(on, off, "{}", measure.name());
        for (line, page) in [("on", on), ("off", off)] {
            for instruction in decode(&page[..text.size()], 0) {
                assert!(!instruction.is_invalid(), "{} {line}: {instruction}", measure.name());
            }
        }
    }
    for (measure, mnemonics) in [
        ("clac", &[Mnemonic::Clac][..]),
        ("verw", &[Mnemonic::Verw]),
        ("ibrs", &[Mnemonic::Wrmsr]),
        ("lfence", &[Mnemonic::Lfence]),
    ] {
        let page = kernel_view_with(text, &format!("ringwall.{measure}=off ringwall.rsb=off"));
        let reached = reachable(text, &page);
        let left = reached.iter().find(|instruction| mnemonics.contains(&instruction.mnemonic()));
        assert!(left.is_none(), "{measure} is off and there is {left:?}");
        let page = kernel_view_with(text, &format!("ringwall.{measure}=force ringwall.rsb=off"));
        let reached = reachable(text, &page);
        let there = reached.iter().any(|instruction| mnemonics.contains(&instruction.mnemonic()));
        assert!(there, "{measure} is on and nobody gets there");
    }
}

/// Every instruction that some way in leads to, following jumps.
fn reachable(text: &Text, page: &[u8; PAGE]) -> Vec<Instruction> {
    let points = text.points();
    let mut todo: Vec<u16> = (0..=255).map(|vector| text.gate(vector)).collect();
    todo.extend([points.syscall_entry, points.syscall_compatibility_entry, points.sysenter_entry]);
    todo.push(points.exit_to_user);
    let mut seen = BTreeMap::new();
    while let Some(offset) = todo.pop() {
        if seen.contains_key(&offset) {
            continue;
        }
        let code = &page[usize::from(offset)..text.size()];
        let instruction = Decoder::with_ip(64, code, offset.into(), DecoderOptions::NONE).decode();
        seen.insert(offset, instruction);
        let near = instruction.is_jmp_short_or_near()
            || instruction.is_jcc_short_or_near()
            || instruction.is_call_near();
        if near {
            todo.push(instruction.near_branch_target() as u16);
        }
        let ends = matches!(
            instruction.mnemonic(),
            Mnemonic::Jmp | Mnemonic::Iretq | Mnemonic::Sysret | Mnemonic::Sysretq | Mnemonic::Ret
        );
        if !ends {
            todo.push(instruction.next_ip() as u16);
        }
    }
    seen.into_values().collect()
}

/// IRET unmasks NMIs: the exit's, the NMI's own from both kinds of stack, the one to code with IF set, and
/// nothing else.
#[test]
fn few_instructions_unmask_nmis() {
    let counts = Variant::ALL.into_iter().zip([3, 4, 4, 3]);
    for (variant, expected) in counts {
        let text = Text::new(variant);
        let reached = reachable(&text, &kernel_view(&text));
        let count =
            reached.iter().filter(|instruction| instruction.mnemonic() == Mnemonic::Iretq).count();
        assert_eq!(count, expected);
    }
}

#[test]
fn isolation_costs_five_instructions_a_call() {
    let (on, off) = (Text::new(Variant::Isolated), Text::new(Variant::Plain));
    assert_eq!(null_call_instructions(&on) - null_call_instructions(&off), 5);
    // One more on each way to keep the TLB's entries.
    let pcid = Text::new(Variant::Pcid);
    assert_eq!(null_call_instructions(&pcid) - null_call_instructions(&off), 7);
}

/// Ring 3 of an open process pushes on the stack page of the kernel view: what the user view's has there is old.
#[test]
fn the_open_text_reads_what_its_own_view_was_told() {
    let (open, plain) = (Text::new(Variant::Open), Text::new(Variant::Plain));
    assert_eq!(null_call_instructions(&open), null_call_instructions(&plain));
    for instruction in instructions(&open) {
        let offset = instruction.memory_displacement64() as usize;
        let scratch = offset == ALIAS + offset_of!(StackPage, user_rsp);
        assert!(!scratch || instruction.segment_prefix() != Register::GS, "{instruction}");
    }
    let moves = |text: &Text| {
        let entered = |instruction: &&Instruction| {
            instruction.mnemonic() == Mnemonic::Lea
                && instruction.memory_base() == Register::RSP
                && instruction.memory_displacement64() as usize == ALIAS
        };
        let all = instructions(text);
        let (before, _) = all
            .split_at(all.iter().position(|step| step.mnemonic() == Mnemonic::Iretq).unwrap_or(0));
        before.iter().filter(entered).count()
    };
    assert_eq!((moves(&plain), moves(&open)), (1, 0));
}

fn listing(text: &Text) -> String {
    let mut out = String::new();
    let mut formatter = IntelFormatter::new();
    let starts: BTreeMap<u16, &str> =
        text.windows().map(|(range, window)| (range.start, window.name)).collect();
    let ends: Vec<u16> = text.windows().map(|(range, _)| range.end).collect();
    writeln!(
        out,
        "{} bytes, {} in a SYSCALL round trip",
        text.size(),
        null_call_instructions(text)
    )
    .expect("to a string");
    for instruction in instructions(text) {
        let offset = instruction.ip() as u16;
        if ends.contains(&offset) {
            out.push_str("---- kernel view only\n");
        }
        if let Some(name) = starts.get(&offset) {
            writeln!(out, "---- window: {name}").expect("to a string");
        }
        if instruction.mnemonic() == Mnemonic::Int3 {
            continue;
        }
        let mut line = String::new();
        formatter.format(&instruction, &mut line);
        writeln!(out, "{offset:03x}  {line}").expect("to a string");
    }
    out
}

#[test]
fn the_machine_code_is_the_golden_one() {
    for (variant, name) in [
        (Variant::Isolated, "entry-isolated.txt"),
        (Variant::Pcid, "entry-pcid.txt"),
        (Variant::Plain, "entry-plain.txt"),
        (Variant::Open, "entry-open.txt"),
    ] {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../golden").join(name);
        let now = listing(&Text::new(variant));
        if std::env::var_os("BLESS").is_some() {
            std::fs::write(&path, &now).expect("the golden file can be written");
        }
        let golden = std::fs::read_to_string(&path).unwrap_or_default();
        let first = now.lines().zip(golden.lines()).position(|(now, golden)| now != golden);
        assert!(
            now == golden,
            "{name} differs, first at line {:?}; if that is meant: BLESS=1 cargo test -p ringwall",
            first.map(|line| line + 1)
        );
    }
}
