use ringwall_tests::looking::{audit, cpu};
use ringwall_tests::{Boot, Library, program};
use std::time::Duration;
#[test]
fn probe() {
    let cpus: u32 = std::env::var("CPUS").map_or(1, |c| c.parse().unwrap());
    let name = std::env::var("PROG").unwrap_or("spin".into());
    let boot = Boot::new().cpus(cpus).limit(Duration::from_secs(60));
    let boot = match std::env::var("ARGS") {
        Ok(a) => boot.arguments(&a),
        Err(_) => boot,
    };
    let boot = match std::env::var("EXAMPLE") {
        Ok(_) => boot.kernel(ringwall_tests::example()).image([]),
        Err(_) => boot.init(program(Library::Glibc, &name)),
    };
    let boot = if let Ok(b) = std::env::var("BROKEN") { boot.broken(&b) } else { boot };

    let mut running = boot.start();
    if std::env::var("EXAMPLE").is_err() {
        running.wait_for("READY\n", Duration::from_secs(50));
    }
    running.guest.stop_in_user_mode(Duration::from_secs(20)).unwrap().unwrap();
    let cpus: Vec<_> = running.guest.monitor.all_registers().unwrap().iter().map(cpu).collect();
    let start = std::time::Instant::now();
    let audit = audit(&running.guest.memory, &cpus);
    println!("took {:?}", start.elapsed());
    for v in &audit.views {
        println!(
            "VIEW {:#x} {:?} {:?} anomalies {:?}",
            v.user_root, v.kernel_root, v.totals, v.anomalies
        );
        for r in &v.visible {
            println!(
                "{:#x} {:#x} {} g{} p{} rep{:?} {:?}",
                r.address,
                r.bytes,
                r.rights.text(),
                r.rights.global,
                r.pages,
                r.repeats,
                r.name
            );
        }
        println!("filled {:x?}", v.filled);
        println!("kernel runs {}", v.kernel.len());
    }
    for f in &audit.findings {
        println!("{} {:?} {} x{}", f.id, f.severity, f.title, f.count);
        for p in f.places.iter().take(5) {
            println!("   {p:x?}");
        }
    }
}
