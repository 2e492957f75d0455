//! Passes the linker script: the image's place is the kernel's own affair.

fn main() {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/link.ld");
    println!("cargo::rustc-link-arg-bins=-T{script}");
    println!("cargo::rustc-link-arg-bins=-zmax-page-size=4096");
    // A list of the words that hold addresses, a bit or two each, for the image that moves itself.
    println!("cargo::rustc-link-arg-bins=-zpack-relative-relocs");
    println!("cargo::rerun-if-changed={script}");
}
