//! Made-up audits, for tests of everything that is made from one.

use ringwall_audit::cpu::{Cpu, Table};
use ringwall_audit::document::{
    Audit, Base, BaseMotion, Boots, Caught, CpuView, Finding, Kind, Motion, Name, Place, Region,
    Rights, SCHEMA, Severity, Totals, Track, View,
};

const ENTRY: u64 = 0xffff_fe00_0000_0000;
const IMAGE: u64 = 0xffff_ffff_8100_0000;

fn region(address: u64, pages: u64, rights: &str, kind: Kind, text: &str) -> Region {
    Region {
        address,
        bytes: pages * 0x1000,
        physical: 0x10_0000 + (address & 0xf_f000),
        contiguous: true,
        page_size: 0x1000,
        pages,
        rights: Rights {
            writable: rights.contains('w'),
            executable: rights.contains('x'),
            ..Rights::default()
        },
        repeats: None,
        name: Some(Name { kind, text: text.into(), cpu: None, symbol: None }),
    }
}

fn cpu(index: u32, cpl: u8, view: usize, caught: Caught) -> CpuView {
    let cpu = Cpu {
        index,
        cpl,
        rip: 0x40_1234,
        rsp: 0x7fff_0000_0000,
        cr0: 0x8005_0033,
        cr3: 0x1a0_3000 + 0x2000 * view as u64,
        cr4: 0x0031_06f0,
        efer: Some(0xd01),
        idt: Table { base: ENTRY, limit: 0xfff },
        ..Cpu::default()
    };
    let paging = cpu.paging();
    CpuView { cpu, paging, caught, view }
}

/// Two CPUs under two root pairs, 16 KiB visible, nothing wrong. CPU 1 was caught in the kernel.
pub fn isolated() -> Audit {
    let visible = vec![
        region(ENTRY, 1, "r", Kind::Idt, "IDT"),
        region(ENTRY + 0x1000, 1, "rx", Kind::EntryText, "entry text"),
        region(ENTRY + 0x2000, 1, "r", Kind::GdtAndTss, "GDT and TSS of CPU 0"),
        region(ENTRY + 0x4000, 1, "rw", Kind::EntryStack, "entry stack of CPU 0"),
    ];
    let view = |root| View {
        user_root: root | 0x1000,
        kernel_root: Some(root),
        visible: visible.clone(),
        kernel: vec![region(IMAGE, 512, "rx", Kind::Image, "kernel image")],
        totals: Totals {
            visible_bytes: 0x4000,
            visible_pages: 4,
            writable_bytes: 0x1000,
            executable_bytes: 0x1000,
            kernel_bytes: 0x20_0000,
            tables: 11,
            ..Totals::default()
        },
        ..View::default()
    };
    Audit {
        schema: SCHEMA,
        tool: "ringwall 0.1.0".into(),
        source: "a sample".into(),
        cpus: vec![cpu(0, 3, 0, Caught::Ring3), cpu(1, 0, 1, Caught::PairInKernel)],
        views: vec![view(0x1a0_2000), view(0x1a0_4000)],
        ..Audit::default()
    }
}

/// One CPU without isolation that maps this many regions, with the finding that says so.
pub fn shared(regions: u64) -> Audit {
    let mut audit = isolated();
    audit.cpus.truncate(1);
    audit.views.truncate(1);
    let view = &mut audit.views[0];
    view.kernel_root = None;
    view.kernel = Vec::new();
    let place = |number| IMAGE + number * 0x4000;
    view.visible = (0..regions)
        .map(|number| region(place(number), 1 + number % 3, "rw", Kind::Data, "data"))
        .collect();
    audit.findings = vec![finding("kernel-mapped-whole", Severity::Critical, 1)];
    audit
}

/// A finding with so many places.
pub fn finding(id: &str, severity: Severity, places: u64) -> Finding {
    let place = |number| Place {
        view: 0,
        address: ENTRY + 0x2000 + 8 * number,
        bytes: 8,
        value: Some(IMAGE + number),
        note: "kernel image".into(),
    };
    Finding {
        id: id.into(),
        severity,
        title: format!("{places} places in memory that user mode sees are not as they should be."),
        explanation: "Whoever reads these bytes, by Meltdown or by timing, learns where the kernel lies, and a \
                      randomised address is worth no more than the time it takes to read it."
            .into(),
        reference: format!("docs/findings.md#{id}"),
        places: (0..places).map(place).collect(),
        count: places,
    }
}

/// Two boots in which the entry text moves with the kernel image.
pub fn boots() -> Boots {
    let addresses = ["0xffffffff81000000", "0xffffffff9a400000"];
    Boots {
        boots: 2,
        bases: vec![Base {
            name: "kernel image".into(),
            addresses: addresses.map(|address| Some(address.into())).to_vec(),
            bits_seen: 1.0,
            bits_estimated: 9.0,
            motion: BaseMotion::Random,
        }],
        tracks: vec![Track {
            name: "entry text".into(),
            addresses: vec![Some("0xffffffff82000000".into()), None],
            moves_with: Some("kernel image".into()),
            bits: 9.0,
            motion: Motion::WithBase,
        }],
    }
}
