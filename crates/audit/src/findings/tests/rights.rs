//! Findings of pages: what may be written, executed, reached, or is global.

use super::*;

#[test]
fn writable_memory_is_for_stacks_alone() {
    let found = only(|guest, _| map_both(guest, STACKS + 0x2000, 0x2_8000, P | W | NX));
    assert_eq!((found.id.as_str(), found.count), ("writable-supervisor-page", 1));
    assert_eq!(found.places[0].address, STACKS + 0x2000);
    let found = only(|guest, _| map_both(guest, GDT, GDT_AT, P | W | NX));
    assert_eq!(found.places[0].note, "GDT and TSS of CPU 0");
}

#[test]
fn text_that_no_way_in_leads_to_is_told() {
    let found = only(|guest, _| map_both(guest, TEXT + 0x10_0000, 0x2_8000, P));
    assert_eq!(found.id, "executable-supervisor-page");
    // A way in leads to it: then it is entry text.
    let mut guest = guest();
    map_both(&mut guest, TEXT + 0x10_0000, 0x2_8000, P);
    let cpu = Cpu { lstar: Some(TEXT + 0x10_0040), ..cpu() };
    assert_eq!(audit(&guest, &[cpu]).findings, []);
}

/// The sound guest with its entry text at the start of a large page of INT3, and these bytes at its end.
fn large_text(code: &[u8]) -> Audit {
    const LARGE_AT: u64 = 1 << 21;
    let mut guest = guest();
    let text = TEXT + LARGE_AT;
    for root in [KERNEL, USER] {
        let directory = guest.table_of(root, text, 2);
        guest.change(directory, (text >> 21) & 511, |_| LARGE_AT | P | LARGE);
    }
    for vector in 0..32 {
        gate(&mut guest, IDT_AT, vector, text + 16 * vector, 0);
        // The old text stays visible, as nothing that can be executed.
        for root in [KERNEL, USER] {
            guest.map(root, TEXT, TEXT_AT, P | NX);
        }
    }
    let below = guest.memory();
    let memory = |address: u64, buffer: &mut [u8]| {
        if address < LARGE_AT {
            return below.read(address, buffer);
        }
        for (byte, at) in buffer.iter_mut().zip(address - LARGE_AT..) {
            let from_end = (LARGE_AT - 1).wrapping_sub(at) as usize;
            *byte = code.get(from_end).copied().unwrap_or(0xcc);
        }
        true
    };
    audit_of(&memory, &[cpu()], None)
}

#[test]
fn code_behind_entry_text_on_its_own_page_is_worse_than_padding() {
    let padding = large_text(&[0x90, 0]);
    assert_eq!(ids(&padding), ["executable-supervisor-page"]);
    assert_eq!(padding.findings[0].severity, Severity::Note);
    let code = large_text(&[0xc3, 0x08]);
    assert_eq!(code.findings[0].severity, Severity::Warning);
    let place = &code.findings[0].places[1];
    assert_eq!((place.address, place.bytes), (TEXT + (1 << 22) - 2, 2));
}

#[test]
fn writable_text_is_serious() {
    let found = only(|guest, _| map_both(guest, TEXT, TEXT_AT, P | W));
    assert_eq!((found.id.as_str(), found.severity), ("writable-and-executable", Severity::Serious));
}

#[test]
fn the_user_bit_in_the_kernel_half_is_serious_but_for_vsyscall() {
    let found = only(|guest, _| map_both(guest, IDT, IDT_AT, P | U | NX));
    assert_eq!(
        (found.id.as_str(), found.severity),
        ("kernel-half-user-accessible", Severity::Serious)
    );
    let vsyscall = |flags| {
        only(move |guest, _| map_both(guest, 0xffff_ffff_ff60_0000, 0x2_8000, P | U | flags))
    };
    assert_eq!(vsyscall(NX).severity, Severity::Note);
    assert_eq!(vsyscall(0).severity, Severity::Warning);
}

#[test]
fn global_pages_are_as_bad_as_what_they_keep() {
    let mut same = guest();
    map_both(&mut same, IDT, IDT_AT, P | NX | G);
    let mut split = guest();
    split.map(USER, STACKS, STACKS_AT, P | W | NX | G);
    let mut hidden = guest();
    hidden.map(KERNEL, IMAGE, IMAGE_AT, P | G);
    let severity = |guest: &Guest| {
        let audit = audit(guest, &[cpu()]);
        let found = of(&audit, "global-supervisor-page");
        assert_eq!((found.len(), audit.findings.len()), (1, 1), "{:?}", ids(&audit));
        found[0].severity
    };
    assert_eq!(severity(&same), Severity::Note);
    assert_eq!(severity(&split), Severity::Serious);
    assert_eq!(severity(&hidden), Severity::Serious);
    // Without CR4.PGE the bit means nothing.
    let cpu = Cpu { cr4: 0x20, ..cpu() };
    assert_eq!(audit(&hidden, &[cpu]).findings, []);
}

#[test]
fn handlers_all_over_the_text_do_not_make_it_entry_text() {
    // A page between two targets that are far apart.
    let found = only(|guest, _| {
        for page in 1..8 {
            for root in [KERNEL, USER] {
                guest.map(root, TEXT - 0x1_0000 + page * 0x1000, 0x2_8000 + page * 0x1000, P);
            }
        }
        gate(guest, IDT_AT, 3, TEXT - 0xf000, 0);
    });
    assert_eq!((found.id.as_str(), found.count), ("executable-supervisor-page", 1));
    assert_eq!((found.places[0].address, found.places[0].bytes), (TEXT - 0xe000, 0x6000));
}

#[test]
fn entry_text_that_goes_on_and_on_is_told() {
    let found = only(|guest, _| {
        for root in [KERNEL, USER] {
            for page in (0..66).map(|page| page * 0x1000) {
                guest.map(root, TEXT - 0x10_0000 + page, 0x3_4000 + page, P);
            }
            guest.map(root, TEXT, TEXT_AT, P | NX);
        }
        for vector in 0..32 {
            gate(guest, IDT_AT, vector, TEXT - 0x10_0000 + 0x2200 * vector, 0);
        }
    });
    assert_eq!(found.id, "executable-supervisor-page");
    assert!(found.title.starts_with("what looks like entry text"), "{}", found.title);
}
