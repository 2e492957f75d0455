//! The binary `ringwall`, run as a child process on files that the tests write: statuses, words, data.
//!
//! No emulator is involved; the scenarios in `tests/` see to that.

mod made;

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use made::{ENTRY, Guest, IMAGE};
use serde_json::Value;
use tempfile::TempDir;

/// A directory of files to look at.
struct Files(TempDir);

/// What the program did.
struct Ran {
    status: i32,
    out: String,
    err: String,
}

impl Files {
    fn new() -> Files {
        Files(tempfile::tempdir().expect("a directory"))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, contents: impl AsRef<[u8]>) -> &Files {
        fs::write(self.path(name), contents).expect("a file");
        self
    }

    /// Runs `ringwall audit` in the directory.
    fn audit(&self, line: &str) -> Ran {
        self.command(line).output().expect("it runs").into()
    }

    fn command(&self, line: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ringwall"));
        command.arg("audit").args(line.split_whitespace()).current_dir(self.0.path());
        command.stdin(Stdio::null());
        command
    }

    /// Runs it on something that cannot be looked at.
    fn refuses(&self, line: &str, words: &str) {
        let ran = self.audit(line);
        assert!(ran.err.contains(words), "{line}: {}", ran.err);
        assert_eq!((ran.status, &*ran.out), (2, ""), "{line}: {}", ran.err);
    }
}

impl From<Output> for Ran {
    fn from(output: Output) -> Ran {
        let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
        let status = output.status.code().expect("it was not killed");
        Ran { status, out: text(output.stdout), err: text(output.stderr) }
    }
}

impl Ran {
    fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {}", self.err))
    }

    /// The names of the findings.
    fn findings(&self) -> Vec<String> {
        let json = self.json();
        let findings = json["findings"].as_array().expect("a list");
        findings.iter().map(|finding| finding["id"].as_str().expect("a name").into()).collect()
    }
}

#[test]
fn a_sound_guest_is_clean() {
    let files = Files::new();
    files.write("core", Guest::isolated().core());
    for line in ["core", "--core core"] {
        let ran = files.audit(line);
        assert_eq!(ran.status, 0, "{}{}", ran.out, ran.err);
        assert!(ran.out.starts_with("core core: isolated: "), "{}", ran.out);
        assert!(ran.out.contains("16,384 bytes"), "{}", ran.out);
        assert!(ran.err.starts_with("ringwall: looked at core core in "), "{}", ran.err);
    }
}

#[test]
fn a_guest_without_isolation_is_a_finding() {
    let files = Files::new();
    files.write("core", Guest::shared().core());
    let ran = files.audit("core");
    assert_eq!(ran.status, 1, "{}{}", ran.out, ran.err);
    assert!(ran.out.starts_with("core core: not isolated: "), "{}", ran.out);
    let ran = files.audit("core --json");
    assert_eq!(ran.status, 1);
    assert!(ran.findings().contains(&"kernel-mapped-whole".into()), "{:?}", ran.findings());
    assert_eq!(files.audit("core --fail-on never").status, 0);
}

#[test]
fn a_pointer_in_sight_is_a_finding() {
    let files = Files::new();
    files.write("core", Guest::isolated().leave_on_stack(IMAGE + 0x123).core());
    let ran = files.audit("core --json");
    assert_eq!(ran.status, 1, "{}", ran.out);
    assert!(ran.findings().contains(&"kernel-pointer".into()), "{:?}", ran.findings());
    assert!(ran.out.contains("0xffffffff81000123"), "{}", ran.out);
}

#[test]
fn an_image_needs_a_root_only() {
    let files = Files::new();
    let guest = Guest::isolated();
    let (image, cr3) = guest.image();
    files.write("image", image);
    let ran = files.audit(&format!("--raw image --cr3 {cr3:#x} --json"));
    assert_ne!(ran.status, 2, "{}", ran.err);
    assert_eq!(ran.json()["views"][0]["kernel_root"], "0x2000");
    assert_eq!(ran.json()["views"][0]["visible"][0]["address"], format!("{ENTRY:#x}"));
}

#[test]
fn a_cpu_in_the_kernel_is_no_answer() {
    let files = Files::new();
    files.write("core", Guest::in_the_kernel().core());
    let ran = files.audit("core");
    assert_eq!(ran.status, 2, "{}{}", ran.out, ran.err);
    assert!(ran.out.starts_with("core core: not known: "), "{}", ran.out);
    assert!(ran.err.contains("no CPU was seen in ring 3"), "{}", ran.err);
}

#[test]
fn what_was_saved_is_read_and_compared() {
    let files = Files::new();
    files.write("on", Guest::isolated().core()).write("off", Guest::shared().core());
    let saved = files.audit("off --json");
    files.write("off.json", &saved.out);
    let again = files.audit("off.json --json");
    assert_eq!((again.status, again.findings()), (1, saved.findings()));

    let ran = files.audit("on --against off.json");
    assert_eq!(ran.status, 0, "the status is that of the first: {}{}", ran.out, ran.err);
    assert!(ran.out.starts_with("A: core on: isolated"), "{}", ran.out);
    assert!(ran.out.contains("B: core off (off.json): not isolated"), "{}", ran.out);
    assert!(ran.out.contains("kernel-mapped-whole"), "{}", ran.out);
    assert_eq!(files.audit("off --against on").status, 1);

    let ran = files.audit("--core on --against off --json");
    let json = ran.json();
    assert!(json["comparison"]["differences"].as_u64() > Some(0), "{}", ran.out);
    assert_eq!(json["left"]["views"][0]["kernel_root"], "0x2000");
    assert_eq!(json["right"]["views"][0]["kernel_root"], Value::Null);
}

#[test]
fn expectations_decide() {
    let files = Files::new();
    files.write("core", Guest::isolated().core());
    let entries =
        [("idt", "r--"), ("gdt-and-tss", "r--"), ("entry-text", "r-x"), ("entry-stack", "rw-")];
    let declare = |entries: &[(&str, &str)]| {
        let entry = |(kind, rights): &(&str, &str)| {
            format!("[[visible]]\nkind = \"{kind}\"\nrights = \"{rights}\"\npages = 1\n")
        };
        entries.iter().map(entry).collect::<String>()
    };
    files.write("three.toml", declare(&entries[..3])).write("four.toml", declare(&entries));
    let ran = files.audit("core --expect three.toml --json");
    assert_eq!(ran.status, 1, "{}{}", ran.out, ran.err);
    assert!(ran.findings().contains(&"not-declared".into()), "{:?}", ran.findings());
    let ran = files.audit("core --expect four.toml");
    assert_eq!(ran.status, 0, "{}{}", ran.out, ran.err);
}

#[test]
fn the_page_is_written_beside_the_report() {
    let files = Files::new();
    files.write("core", Guest::isolated().core());
    let ran = files.audit("core --html page.html");
    assert_eq!(ran.status, 0, "{}", ran.err);
    assert!(ran.out.starts_with("core core: isolated"), "{}", ran.out);
    let page = fs::read_to_string(files.path("page.html")).expect("a page");
    assert!(page.starts_with("<!"), "{}", &page[..40]);
    files.refuses("core --html nowhere/page.html", "cannot write nowhere/page.html");
}

#[test]
fn nothing_but_text_goes_to_a_pipe() {
    let files = Files::new();
    files.write("core", Guest::shared().core());
    let ran = files.audit("core");
    assert!(!ran.out.contains('\u{1b}') && !ran.err.contains('\u{1b}'), "{}", ran.out);
    let colours = |command: &mut Command| Ran::from(command.output().expect("it runs")).out;
    let forced = colours(files.command("core").env("CLICOLOR_FORCE", "1"));
    assert!(forced.contains("\u{1b}["), "{forced}");
    let refused = colours(files.command("core").env("CLICOLOR_FORCE", "1").env("NO_COLOR", "1"));
    assert!(!refused.contains('\u{1b}'), "{refused}");
}

#[test]
fn files_that_are_no_core_are_refused_with_words() {
    let files = Files::new();
    let core = Guest::isolated().core();
    let mut object = core.clone();
    object[16] = 1;
    let mut other = core.clone();
    other[18] = 183;
    files
        .write("empty", "")
        .write("text", "hello, this is no core\n")
        .write("kdump", b"KDUMP   \x06\0\0\0".repeat(64))
        .write("head", &core[..100])
        .write("object", object)
        .write("arm", other)
        .write("no-cpu", Guest::isolated().core_without_registers())
        .write("json", "{\"schema\": 1, \"cpus\": []}");
    files.refuses("nothing-here", "nothing-here: No such file");
    files.refuses("empty", "empty: it is empty");
    files.refuses("text", "text: it is no ELF core");
    files.refuses("kdump", "kdump-compressed");
    files.refuses("head", "damaged");
    files.refuses("object", "no core");
    files.refuses("arm", "not 64-bit x86");
    files.refuses("no-cpu", "no CPU registers");
    files.refuses("json", "json: not the JSON that `ringwall audit --json` writes");
    files.refuses(".", "neither a file nor a socket");
    files.refuses("/dev/zero", "neither a file nor a socket");
}

#[test]
fn a_core_that_was_cut_short_is_looked_at_and_said_to_be() {
    let files = Files::new();
    let core = Guest::isolated().core();
    files.write("core", &core[..core.len() - 0x1000]);
    let ran = files.audit("core");
    assert!(ran.err.contains("was cut short: 4096 bytes"), "{}", ran.err);
    assert_eq!(ran.status, 0, "{}", ran.out);
}

/// The shell's limit of data, in KiB, holds for all memory that a program may write.
#[test]
fn a_core_of_16_gib_takes_little_memory() {
    let files = Files::new();
    let (core, length) = made::grown(&Guest::isolated().core(), 16 << 30);
    files.write("core", core);
    let file = fs::OpenOptions::new().write(true).open(files.path("core")).expect("a file");
    file.set_len(length).expect("a sparse file");
    let script = format!("ulimit -d {} && exec \"$0\" audit core --json", 256 << 10);
    let mut command = Command::new("sh");
    command.args(["-c", &script, env!("CARGO_BIN_EXE_ringwall")]).current_dir(files.0.path());
    let ran = Ran::from(command.output().expect("it runs"));
    assert_eq!(ran.status, 0, "{}", ran.err);
    let tables = ran.json()["views"][0]["totals"]["tables"].as_u64();
    assert!(tables < Some(100), "{tables:?} tables");
}

#[test]
fn a_root_that_is_no_root_is_refused() {
    let files = Files::new();
    files.write("image", vec![0; 0x4000]);
    files.refuses("--raw image --cr3 0x100000000", "not in the guest's memory");
    files.refuses("--raw nothing --cr3 0x1000", "nothing: cannot read it");
}

#[test]
fn other_files_are_refused_with_words() {
    let files = Files::new();
    files.write("core", Guest::isolated().core());
    files
        .write("bad.toml", "[[visible]]\nkind = \"teapot\"\n")
        .write("bad.map", "this is no map\n");
    files.write("elf", b"\x7fELF and then nothing");
    files.refuses("core --expect bad.toml", "expectations bad.toml: ");
    files.refuses("core --expect nothing", "expectations nothing: No such file");
    files.refuses("core --symbols bad.map", "symbols bad.map: line 1");
    files.refuses("core --symbols elf", "symbols elf: ");
    files.refuses("core --symbols /dev/zero", "not a regular file");
    files.refuses("core --against text", "text: No such file");
    files.refuses("--qmp nowhere", "cannot connect to nowhere");
}

#[test]
fn bad_combinations_are_refused_with_words() {
    let files = Files::new();
    files.refuses("", "nothing to look at");
    files.refuses("a --core b", "one guest at a time");
    files.refuses("a --boots 2", "only with --run");
    files.refuses("--run", "needs QEMU's arguments");
    files.refuses("--teapot", "unexpected argument '--teapot'");
}

#[test]
fn symbols_give_names() {
    let files = Files::new();
    files.write("core", Guest::isolated().core());
    files.write("map", format!("{IMAGE:x} T _text\n"));
    let ran = files.audit("core --symbols map --json");
    assert_eq!(ran.status, 0, "{}", ran.err);
    assert!(ran.out.contains("\"symbol\": \"_text\""), "{}", ran.out);
}
