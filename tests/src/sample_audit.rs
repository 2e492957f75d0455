//! Audits made up for the HTML page: shapes that real kernels have, and shapes that only an enemy would make ([`hostile`]).
//!
//! The numbers of [`linux`] are those of Linux 6.1 with `nokaslr` in a guest of 512 MiB; its names are as the audit
//! gives them. What is hidden here is hidden in every real audit too: contents, and symbols that nobody has.

mod hostile;

use ringwall_audit::cpu::{Cpu, Table};
use ringwall_audit::document::{
    Audit, Base, BaseMotion, Boots, Caught, CpuView, Finding, Kind, Motion, Name, Place, Region,
    Rights, SCHEMA, Severity, Totals, Track, View,
};

pub use hostile::{HOSTILE, empty, hostile, many};

const PAGE: u64 = 0x1000;
const HUGE: u64 = 0x20_0000;

/// What Linux's CPU entry area starts at.
pub const CPU_ENTRY_AREA: u64 = 0xffff_fe00_0000_0000;

/// Rights in the form that [`Rights::text`] writes, `g` added for global, `u` for user.
fn rights(text: &str) -> Rights {
    let has = |letter| text.contains(letter);
    Rights { user: has('u'), writable: has('w'), executable: has('x'), global: has('g'), key: 0 }
}

/// A run of pages of one size.
pub fn region(address: u64, page_size: u64, pages: u64, physical: u64, text: &str) -> Region {
    Region {
        address,
        bytes: page_size.wrapping_mul(pages),
        physical,
        contiguous: true,
        page_size,
        pages,
        rights: rights(text),
        ..Region::default()
    }
}

/// The same with a name.
pub fn named(mut region: Region, kind: Kind, text: &str, cpu: Option<u32>) -> Region {
    region.name = Some(Name { kind, text: text.into(), cpu, symbol: None });
    region
}

/// What Linux shows user mode of one CPU's entry area: GDT, entry stack, TSS, four interrupt stacks.
fn entry_area(cpu: u32) -> Vec<Region> {
    let base = CPU_ENTRY_AREA + 0x1000 + u64::from(cpu) * 0x3b000;
    let memory = 0x1f60_0000 + u64::from(cpu) * 0x4_0000;
    let page = |offset: u64, pages: u64, text: &str, kind: Kind, name: &str| {
        let region = region(base + offset, PAGE, pages, memory + offset, text);
        named(region, kind, &format!("{name} of CPU {cpu}"), Some(cpu))
    };
    vec![
        page(0, 1, "r", Kind::Gdt, "GDT"),
        page(0x1000, 1, "rw", Kind::EntryStack, "entry stack"),
        page(0x2000, 5, "r", Kind::Tss, "TSS"),
        page(0x8000, 2, "rw", Kind::InterruptStack, "#DF stack"),
        page(0xb000, 2, "rw", Kind::InterruptStack, "NMI stack"),
        page(0xe000, 2, "rw", Kind::InterruptStack, "#DB stack"),
        page(0x1_1000, 2, "rw", Kind::InterruptStack, "#MC stack"),
    ]
}

/// The program's own memory.
fn user() -> Vec<Region> {
    vec![
        region(0x40_0000, PAGE, 1, 0x1b2_3000, "ru"),
        region(0x40_1000, PAGE, 120, 0x1b2_4000, "rxu"),
        region(0x47_a000, PAGE, 31, 0x1c0_0000, "ru"),
        region(0x49_b000, PAGE, 6, 0x1d0_0000, "rwu"),
        region(0x4c_0000, PAGE, 33, 0x1d1_0000, "rwu"),
        region(0x7fff_f7ff_a000, PAGE, 4, 0x1e0_0000, "ru"),
        region(0x7fff_f7ff_e000, PAGE, 2, 0x1e0_4000, "rxu"),
        region(0x7fff_ffff_d000, PAGE, 3, 0x1e1_0000, "rwu"),
    ]
}

/// What Linux maps for itself, coarse.
fn kernel(cpus: u32) -> Vec<Region> {
    let direct = |physical: u64, size: u64, pages: u64, text: &str| {
        named(
            region(0xffff_8880_0000_0000 + physical, size, pages, physical, text),
            Kind::DirectMap,
            "direct map",
            None,
        )
    };
    let mut regions = vec![
        direct(0, PAGE, 153, "rw"),
        direct(0x9_9000, PAGE, 7, "r"),
        direct(0x10_0000, PAGE, 256, "rw"),
        direct(0x20_0000, HUGE, 7, "rw"),
        direct(0x100_0000, HUGE, 7, "r"),
        direct(0x1e0_0000, HUGE, 240, "rw"),
    ];
    for index in 0..90 {
        let address = 0xffff_c900_0000_0000 + index * 0x5000;
        regions.push(named(
            region(address, PAGE, 4, 0x400_0000 + index * 0x7000, "rw"),
            Kind::TaskStack,
            "task stack",
            None,
        ));
    }
    regions.push(region(0xffff_ea00_0000_0000, HUGE, 4, 0x1fa0_0000, "rw"));
    let image = |address, size, pages, text, name| {
        named(
            region(address, size, pages, address - 0xffff_ffff_8000_0000, text),
            Kind::Image,
            name,
            None,
        )
    };
    regions.push(named(region(CPU_ENTRY_AREA, PAGE, 1, 0x2c2_6000, "r"), Kind::Idt, "IDT", None));
    regions.extend((0..cpus).flat_map(entry_area));
    regions.push(image(0xffff_ffff_8100_0000, HUGE, 8, "rx", "_text"));
    regions.push(image(0xffff_ffff_8200_0000, HUGE, 3, "r", "__start_rodata"));
    regions.push(image(0xffff_ffff_8280_0000, PAGE, 1000, "rw", "_sdata"));
    regions.push(region(0xffff_ffff_c000_0000, PAGE, 30, 0x600_0000, "rx"));
    regions.push(region(0xffff_ffff_ff57_9000, PAGE, 3, 0xfee0_0000, "rw"));
    regions
}

fn finding(id: &str, severity: Severity, title: &str, places: Vec<Place>) -> Finding {
    Finding {
        id: id.into(),
        severity,
        title: title.into(),
        explanation: "User mode can find this out by page walk alone. What follows from it, and what to do, is on the page \
                      of the documentation."
            .into(),
        reference: format!("docs/findings.md#{id}"),
        count: places.len() as u64,
        places,
    }
}

/// Where a finding is.
pub fn place(address: u64, bytes: u64, value: Option<u64>) -> Place {
    Place { view: 0, address, bytes, value, note: String::new() }
}

fn cpu(index: u32, cr3: u64) -> CpuView {
    let cpu = Cpu {
        index,
        cpl: 3,
        rip: 0x40_1234,
        rsp: 0x7fff_ffff_e000,
        cr0: 0x8005_0033,
        cr3,
        cr4: 0x37_0ef0,
        efer: Some(0xd01),
        lstar: Some(0xffff_ffff_81e0_0010),
        idt: Table { base: CPU_ENTRY_AREA, limit: 0xfff },
        ..Cpu::default()
    };
    CpuView { paging: cpu.paging(), cpu, caught: Caught::Ring3, view: 0 }
}

fn audit(source: &str, cpus: u32, view: View, findings: Vec<Finding>) -> Audit {
    Audit {
        schema: SCHEMA,
        tool: "ringwall 0.1.0".into(),
        source: source.into(),
        cpus: (0..cpus).map(|index| cpu(index, view.user_root)).collect(),
        views: vec![view],
        findings,
        unseen: Vec::new(),
        boots: None,
    }
}

fn totals(visible: &[Region], kernel: &[Region], pointers: u64) -> Totals {
    let bytes = |test: &dyn Fn(&Rights) -> bool| {
        visible
            .iter()
            .filter(|region| region.repeats.is_none() && test(&region.rights))
            .map(|region| region.bytes)
            .fold(0, u64::wrapping_add)
    };
    Totals {
        visible_bytes: bytes(&|_| true),
        visible_pages: visible.iter().map(|region| region.pages).sum(),
        writable_bytes: bytes(&|rights| rights.writable),
        executable_bytes: bytes(&|rights| rights.executable),
        pointers,
        kernel_bytes: kernel.iter().map(|region| region.bytes).fold(0, u64::wrapping_add),
        tables: 412,
    }
}

/// Linux 6.1 with `pti=on`.
pub fn linux(cpus: u32) -> Audit {
    let mut visible =
        vec![named(region(CPU_ENTRY_AREA, PAGE, 1, 0x2c2_6000, "r"), Kind::Idt, "IDT", None)];
    visible.extend((0..cpus).flat_map(entry_area));
    for cpu in 0..cpus {
        let base = 0xffff_ff00_0000_0000 + u64::from(cpu) * 0x1_0000_0000;
        let stack = region(base + 0x5000, PAGE, 1, 0x310_0000 + u64::from(cpu) * PAGE, "r");
        visible.push(named(stack, Kind::Espfix, &format!("espfix stack of CPU {cpu}"), Some(cpu)));
        let mut again =
            region(base + 0x1_5000, PAGE, 65_535, 0x310_0000 + u64::from(cpu) * PAGE, "r");
        again.bytes = 65_534 * 0x1_0000 + PAGE;
        again.contiguous = false;
        again.repeats = Some(base + 0x5000);
        visible.push(named(
            again,
            Kind::Espfix,
            &format!("espfix stack of CPU {cpu}, again"),
            Some(cpu),
        ));
    }
    let text = region(0xffff_ffff_81e0_0000, HUGE, 1, 0x1e0_0000, "rxg");
    visible.push(named(text, Kind::EntryText, "entry text: entry_SYSCALL_64", None));
    visible.push(named(
        region(0xffff_ffff_ff60_0000, PAGE, 1, 0x1c0_8000, "ru"),
        Kind::Vsyscall,
        "vsyscall page",
        None,
    ));
    let stack = CPU_ENTRY_AREA + 0x2000;
    let pointers = (0..40)
        .map(|index| place(stack + 0xf00 + index * 8, 8, Some(0xffff_8880_0123_4000 + index * 64)));
    let findings = vec![
        finding(
            "kernel-pointer",
            Severity::Serious,
            "40 pointers to kernel-only memory on the entry stack of CPU 0",
            pointers.collect(),
        ),
        finding(
            "moves-with-kernel",
            Severity::Warning,
            "The entry text moves with the kernel image",
            vec![place(0xffff_ffff_81e0_0000, HUGE, None)],
        ),
        finding(
            "global-supervisor-page",
            Severity::Note,
            "2 MiB of entry text are global",
            vec![place(0xffff_ffff_81e0_0000, HUGE, None)],
        ),
    ];
    let kernel = kernel(cpus);
    let totals = totals(&visible, &kernel, 40);
    let view = View {
        user_root: 0x1b2_1000,
        kernel_root: Some(0x1b2_0000),
        visible,
        user: user(),
        kernel,
        totals,
        ..View::default()
    };
    audit("QEMU: vmlinuz pti=on", cpus, view, findings)
}

/// The same with `pti=off`: all of the kernel is there.
pub fn linux_open(cpus: u32) -> Audit {
    let visible = kernel(cpus);
    let totals = totals(&visible, &[], 0);
    let whole = vec![
        place(0xffff_8880_0000_0000, 0x2000_0000, None),
        place(0xffff_ffff_8100_0000, 8 * HUGE, None),
    ];
    let findings = vec![finding(
        "kernel-mapped-whole",
        Severity::Critical,
        "The kernel is mapped whole: 512 MiB of direct map, its image and 90 task stacks",
        whole,
    )];
    let view = View {
        user_root: 0x1b2_0000,
        kernel_root: None,
        visible,
        user: user(),
        totals,
        ..View::default()
    };
    audit("QEMU: vmlinuz pti=off", cpus, view, findings)
}

/// With three boots, of which one thing moves as the kernel does.
pub fn with_boots(mut audit: Audit) -> Audit {
    let addresses = |start: u64, slides: [u64; 4]| {
        slides.map(|slide| Some(format!("{:#x}", start + slide))).to_vec()
    };
    let slides = [0, 0x1a20_0000, 0x0b40_0000, 0x2e60_0000];
    let base = |name: &str, start, slides| Base {
        name: name.into(),
        addresses: addresses(start, slides),
        bits_seen: 2.0,
        bits_estimated: 9.0,
        motion: BaseMotion::Random,
    };
    let track = |name: &str, start, slides, moves_with: Option<&str>, bits| Track {
        name: name.into(),
        addresses: addresses(start, slides),
        moves_with: moves_with.map(str::to_owned),
        bits,
        motion: match (moves_with, slides) {
            (Some(_), _) => Motion::WithBase,
            (None, [0, 0, 0, 0]) => Motion::Fixed,
            (None, _) => Motion::Independent,
        },
    };
    audit.boots = Some(Boots {
        boots: 4,
        bases: vec![
            base("kernel image", 0xffff_ffff_8100_0000, slides),
            base(
                "direct map",
                0xffff_8880_0000_0000,
                [0, 0x9c0_0000_0000, 0x3a80_0000_0000, 0x1140_0000_0000],
            ),
        ],
        tracks: vec![
            track("entry text", 0xffff_ffff_81e0_0000, slides, Some("kernel image"), 9.0),
            track("IDT", CPU_ENTRY_AREA, [0; 4], None, 0.0),
            track(
                "GDT of CPU 0",
                CPU_ENTRY_AREA + PAGE,
                [0, 0x7000_3000, 0x1200_9000, 0x4_8000_6000],
                None,
                0.0,
            ),
        ],
    });
    audit
}
