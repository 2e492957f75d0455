//! scratch
use std::time::Duration;
use ringwall_emulator::INTEL_CPU;
use ringwall_tests::looking::{audit_with, cpus};
use ringwall_tests::{Boot, Library, linux, program};
use ringwall_audit::Symbols;
#[test]
fn scratch() {
    let arg = std::env::var("SCRATCH").unwrap_or_default();
    let n: u32 = std::env::var("CPUS").unwrap_or("1".into()).parse().unwrap();
    let boot = Boot::new().kernel(linux().unwrap()).limit(Duration::from_secs(200)).append(&format!("cryptomgr.notests {arg}")).cpu(&format!("{INTEL_CPU},-la57")).cpus(n).memory(256)
        .file("/bin/spin", 0o755, program(Library::Glibc, "spin"))
        .file("/bin/ldt", 0o755, program(Library::Glibc, "ldt"))
        .script("mount -t devtmpfs dev /dev\nfor i in 1 2 3; do /bin/spin & done\n/bin/ldt stay &\ncat /proc/uptime\ngrep -E ' (_text|_etext|_stext|_end|__entry_text_(start|end)|entry_.*|asm_.*|idt_table|cpu_tss_rw|gdt_page|__per_cpu_start|__start_rodata|__end_rodata|_sdata|_edata|vsyscall|__vsyscall_page)$' /proc/kallsyms\ncat /proc/uptime\necho ALL READY\nexec /bin/spin");
    let mut running = boot.start();
    running.wait_for("ALL READY\n", Duration::from_secs(150));
    std::thread::sleep(Duration::from_millis(1500));
    let text = running.guest.console.text();
    let symbols: String = text.lines().filter(|l| l.split_whitespace().count() == 3 && l.starts_with("ffff")).map(|l| format!("{l}\n")).collect();
    println!("{}", symbols.lines().count());
    let symbols = Symbols::parse(symbols.as_bytes()).map_err(|e| println!("{e}")).ok();
    for _ in 0..40 {
        running.guest.stop_in_user_mode(Duration::from_secs(20)).unwrap();
        let c = cpus(&mut running.guest, n);
        let found = c.iter().any(|c| c.cpl == 3 && c.ldt.base != 0 && c.ldt.limit != 0);
        if found {
            for s in [None, symbols.as_ref()] {
            let a = audit_with(&running.guest.memory, &c, s);
            for c in &a.cpus { println!("{:x?} {:?} {}", c.cpu, c.caught, c.view); }
            for v in &a.views { println!("VIEW {:x} {:x?} {:?}", v.user_root, v.kernel_root, v.totals);
               let mut k=0; for r in &v.visible { if r.repeats.is_some() { k+=1; continue } println!("{:x} +{:x} p{:x} {} {}{} {:?}", r.address, r.bytes, r.physical, r.page_size, r.rights.text(), if r.rights.global {"g"} else {""}, r.name.as_ref().map(|n| (n.kind, &n.text, n.cpu, &n.symbol))); }
               println!("{k} repeats");
               if v.user_root == a.views[0].user_root { for r in &v.kernel { println!("K {:x} +{:x} p{:x} {} {} {:?}", r.address, r.bytes, r.physical, r.page_size, r.rights.text(), r.name.as_ref().map(|n| (n.kind, &n.text, n.cpu, &n.symbol))); } }
            }
            for f in &a.findings { println!("F {:?} {} {} {} {:x?}", f.severity, f.id, f.title, f.count, &f.places[..f.places.len().min(3)]); }
            }
            return;
        }
        running.guest.monitor.resume().unwrap();
        std::thread::sleep(Duration::from_millis(30));
    }
    panic!("{}", running.guest.console.text());
}
