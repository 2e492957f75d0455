//! Scratch, not committed.
use ringwall_audit::{Subject, Symbols, cpu::Cpu, look};
use std::os::unix::fs::FileExt;
fn main() {
    let args: Vec<String> = std::env::args().collect();
    let ram = std::fs::File::open(format!("{}/ram.bin", args[1])).unwrap();
    let cpus: Vec<Cpu> =
        serde_json::from_str(&std::fs::read_to_string(format!("{}/cpus.json", args[1])).unwrap())
            .unwrap();
    let symbols = args
        .get(2)
        .filter(|s| s.as_str() != "-")
        .map(|f| Symbols::parse(&std::fs::read(f).unwrap()).unwrap());
    let memory = move |a: u64, b: &mut [u8]| ram.read_exact_at(b, a).is_ok();
    let t = std::time::Instant::now();
    let audit = look(&Subject {
        memory: &memory,
        cpus: &cpus,
        source: "x".into(),
        kernel_cr3: None,
        symbols: symbols.as_ref(),
        progress: &|_, _| (),
    })
    .unwrap();
    eprintln!("{:?}", t.elapsed());
    if args.get(3).is_some() {
        println!("{}", serde_json::to_string_pretty(&audit).unwrap());
        return;
    }
    for v in &audit.views {
        println!("view {:#x} {:x?} {:?}", v.user_root, v.kernel_root, v.totals);
        for (t, l) in [("visible", &v.visible), ("kernel", &v.kernel)] {
            println!("-- {t} {}", l.len());
            for r in l.iter().take(70) {
                println!(
                    "{:016x} {:>10x} {:>6} p{:<10x} {} {}{}{} {} {} [{:?}] {}",
                    r.address,
                    r.bytes,
                    r.pages,
                    r.physical,
                    r.rights.text(),
                    if r.rights.global { "G" } else { " " },
                    if r.rights.user { "U" } else { " " },
                    if r.contiguous { "c" } else { " " },
                    r.repeats.map(|x| format!("rep {x:x}")).unwrap_or_default(),
                    r.name.as_ref().map(|n| n.text.clone()).unwrap_or_default(),
                    r.name.as_ref().map(|n| n.kind),
                    r.name.as_ref().and_then(|n| n.symbol.clone()).unwrap_or_default()
                );
            }
        }
        for a in v.anomalies.iter().take(5) {
            println!("{a:x?}");
        }
    }
    for f in &audit.findings {
        println!("** {:?} {}: {} ({})", f.severity, f.id, f.title, f.count);
        for p in f.places.iter().take(8) {
            println!("      {:x} {:x} {:x?} {}", p.address, p.bytes, p.value, p.note);
        }
    }
}
