//! Names on the sound guest, and on guests that have what it has not.

use crate::cpu::{Cpu, Table};
use crate::document::{Kind, Region};
use crate::names::symbols::Symbols;
use crate::sound::*;
use crate::synthetic::{Guest, NX, P, W};

fn lines(regions: &[Region]) -> Vec<(u64, String)> {
    let text = |region: &Region| region.name.as_ref().map_or("-".into(), |name| name.text.clone());
    regions.iter().map(|region| (region.address, text(region))).collect()
}

fn visible(guest: &Guest, cpus: &[Cpu]) -> Vec<(u64, String)> {
    lines(&audit(guest, cpus).views[0].visible)
}

#[test]
fn the_cpus_own_structures_have_names() {
    let expected = [
        (TEXT, "entry text (32 vectors)"),
        (IDT, "IDT"),
        (GDT, "GDT and TSS of CPU 0"),
        (STACKS, "entry stack, #DF and NMI stacks of CPU 0"),
    ];
    assert_eq!(visible(&guest(), &[cpu()]), expected.map(|(at, text)| (at, text.to_string())));
    let known = Cpu { lstar: Some(TEXT + 0x400), ..cpu() };
    assert_eq!(visible(&guest(), &[known])[0].1, "entry text (SYSCALL and 32 vectors)");
}

#[test]
fn the_kernels_side_is_named_by_distance_and_by_its_stacks_frames() {
    let mut guest = guest();
    let frame = [PROGRAM, 0x33, 0x202, 0x40_0ff0, 0x2b];
    for (word, offset) in frame.iter().zip((0x3fd8..).step_by(8)) {
        guest.write(TASK_STACK_AT + offset, *word);
    }
    let audit = audit(&guest, &[cpu()]);
    let kernel = lines(&audit.views[0].kernel);
    for (address, text) in [
        (DIRECT_MAP, "direct map"),
        (TASK_STACK, "task stack"),
        (IMAGE, "kernel image: text"),
        (IMAGE + 0x2000, "kernel image: data"),
        (STACKS, "entry stack, #DF and NMI stacks of CPU 0"),
    ] {
        assert!(kernel.contains(&(address, text.into())), "{text}: {kernel:x?}");
    }
}

#[test]
fn a_stack_of_a_cpu_in_the_kernel_is_found_by_its_rsp() {
    let other = Cpu { index: 1, cpl: 0, rsp: TASK_STACK + 0x1f00, ..cpu() };
    let audit = audit(&guest(), &[cpu(), other]);
    let kernel = lines(&audit.views[0].kernel);
    assert!(kernel.contains(&(TASK_STACK, "task stack".into())), "{kernel:x?}");
}

#[test]
fn an_ldt_belongs_to_the_root_that_its_cpu_runs_under() {
    let mut guest = guest();
    let ldt = STACKS + 0x4000;
    for root in [KERNEL, USER] {
        guest.map(root, ldt, 0x2_8000, P | NX);
    }
    let with = Cpu { ldt: Table { base: ldt, limit: 0x17 }, ..cpu() };
    assert_eq!(visible(&guest, &[with])[4], (ldt, "LDT of CPU 0".into()));
    assert_eq!(visible(&guest, &[cpu()])[4], (ldt, "-".into()));
}

#[test]
fn the_same_page_in_every_64_kib_is_an_espfix_stack() {
    let mut guest = guest();
    let base = 0xffff_ff00_0000_0000_u64;
    for step in 0..6 {
        guest.map(USER, base + step * 0x1_0000, 0x2_8000, P | NX);
    }
    let audit = audit(&guest, &[cpu()]);
    let espfix: Vec<&Region> = audit.views[0].visible.iter().take(2).collect();
    assert!(espfix.iter().all(|region| region.name.as_ref().expect("named").kind == Kind::Espfix));
    assert_eq!((espfix[0].pages, espfix[1].pages), (1, 5));
    assert_eq!((espfix[1].repeats, espfix[1].bytes), (Some(base), 4 * 0x1_0000 + 0x1000));
    // Of the entry stack, if it is its page.
    for step in 0..6 {
        guest.map(USER, base + step * 0x1_0000, STACKS_AT, P | NX);
    }
    let named = visible(&guest, &[cpu()]);
    assert_eq!(named[0].1, "espfix: entry stack, #DF and NMI stacks of CPU 0 again");
}

#[test]
fn a_structure_in_the_direct_map_is_called_after_itself() {
    let mut guest = guest();
    guest.map(USER, DIRECT_MAP + GDT_AT, GDT_AT, P | W | NX);
    let named = visible(&guest, &[cpu()]);
    assert_eq!(
        named[0],
        (DIRECT_MAP + GDT_AT, "GDT and TSS of CPU 0 again, in the direct map".into())
    );
}

#[test]
fn symbols_are_found_where_the_ways_in_vote_for_them() {
    // The image was linked 4 MiB lower, with a symbol for each handler, at uneven distances.
    const SLIDE: u64 = 4 << 20;
    let mut guest = guest();
    let mut text = String::new();
    for vector in 0..32_u64 {
        let target = IMAGE + 16 * vector + 8 * (vector % 3);
        gate(&mut guest, IDT_AT, vector, target, 0);
        text += &format!("{:x} T handler_{vector}\n", target - SLIDE);
    }
    text += &format!("{:x} D data\n", IMAGE + 0x2000 - SLIDE);
    for root in [KERNEL, USER] {
        guest.map(root, TEXT, TEXT_AT, P | NX);
    }
    guest.map(USER, IMAGE, IMAGE_AT, P);
    let symbols = Symbols::parse(text.as_bytes()).expect("symbols");
    let named = audit_with(&guest, &[cpu()], Some(&symbols));
    let visible = &named.views[0].visible;
    let entry = visible.iter().find(|region| region.address == IMAGE).expect("visible");
    let name = entry.name.as_ref().expect("named");
    assert_eq!((name.kind, name.symbol.as_deref()), (Kind::EntryText, Some("handler_0")));
    // Symbols of another kernel vote for nothing.
    let wrong = (0..32).map(|n| format!("{:x} T other_{n}\n", IMAGE + 5 + 31 * n));
    let symbols = Symbols::parse(wrong.collect::<String>().as_bytes()).expect("symbols");
    let named = audit_with(&guest, &[cpu()], Some(&symbols));
    let entry = named.views[0].visible.iter().find(|region| region.address == IMAGE);
    assert_eq!(entry.and_then(|region| region.name.as_ref()?.symbol.clone()), None);
}
