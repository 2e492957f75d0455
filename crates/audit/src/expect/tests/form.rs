//! Files of expectations: mistakes in them, hostile ones, and the example.

use super::*;

#[test]
fn mistakes_are_told_with_their_line() {
    let error = |text: &str| Expectations::parse(text).expect_err(text).to_string();
    let told = [
        ("\n[[visible]]\nkind = \"idt\"\nright = \"r--\"", "line 4"),
        ("[[visible]]\nkind = \"ldtt\"\nrights = \"r--\"\npages = 1", "line 2"),
        ("[[visible]]\nkind = \"idt\"\nrights = \"rx-\"\npages = 1", "`r-x`"),
        ("[[visible]]\nkind = \"idt\"\nrights = \"r--\"\npages = -1", "line 4"),
        ("[[visible]]\nkind = \"idt\"\npages = 1", "missing field `rights`"),
        ("\n\n[[visible]]\nrights = \"r--\"\npages = 1", "line 3: this [[visible]] fits anything"),
        (
            "[[visible]]\nkind = \"idt\"\nrights = \"r--\"\npages = 0",
            "line 1: this [[visible]] has 0",
        ),
        ("[[visible]]\nkind=\"idt\"\nrights=\"r--\"\npages=1\ncontents=\"none\"", "line 5"),
        ("[[visible]]\nkind=\"idt\"\nrights=\"r--\"\npages=1\ncontents=[\"0..=4096\"]", "0..=4095"),
        (
            "[[visible]]\nkind=\"idt\"\nrights=\"r--\"\npages=1\ncontents-in-ring-0=\"zero\"",
            "`per = \"cpu\"`",
        ),
        ("[limit]\nbytes = 1", "unknown field `limit`"),
        ("[limits]\nbytes = \"many\"", "line 2"),
        ("[[accept]]\nfinding = \"kernel-pointer\"", "missing field `reason`"),
        (
            "[[accept]]\nfinding = \"kernel-pointer\"\nreason = \" \"",
            "line 1: this [[accept]] has an empty",
        ),
        (
            "#\n[[accept]]\nfinding = \"not-declared\"\nreason = \"x\"",
            "line 2: `not-declared` cannot",
        ),
        ("visible = 3", "line 1"),
        ("[[visible", "line 1"),
    ];
    for (text, expected) in told {
        let said = error(text);
        assert!(said.contains(expected), "{text:?} is told as {said:?}, without {expected:?}");
    }
}

#[test]
fn hostile_text_is_refused_soon() {
    let long = "#".repeat(1 << 20);
    assert!(matches!(Expectations::parse(&long), Err(ExpectError::TooLong { .. })));
    let deep = format!("visible = {}", "[".repeat(200_000));
    assert!(matches!(Expectations::parse(&deep), Err(ExpectError::Toml(_))));
    let many = "[[visible]]\nkind=\"idt\"\nrights=\"r--\"\npages=1\n".repeat(2000);
    let error = Expectations::parse(&many).expect_err("too many");
    assert!(error.to_string().contains("more than 1024 entries"), "{error}");
}

#[test]
fn the_example_for_another_kernel_can_be_read() {
    let expectations =
        expectations(include_str!("../../../../../docs/expectations/linux-6.1.toml"));
    assert!(expectations.visible.len() > 5 && !expectations.accept.is_empty());
}

proptest::proptest! {
    #[test]
    fn no_text_and_no_audit_panics(
        text in "(\\[\\[?(visible|accept|limits)\\]?\\]\n|(kind|name|rights|pages|per|contents) = (\"idt\"|\"r--\"|[0-9]{1,20}|\"zero\"|\"cpu\")\n){0,8}",
        address: u64, bytes in 1..=u64::MAX, from: u64, length: u64,
    ) {
        let bytes = bytes.min(u64::MAX - address).max(1);
        let region = Region { address, bytes, ..region(0, Kind::EntryStack, "x", Some(7)) };
        let mut audit = audit(vec![region]);
        audit.views[0].filled = vec![Filled { address: from, bytes: length }];
        if let Ok(expectations) = Expectations::parse(&text) {
            expectations.apply(&mut audit);
        }
        expectations(SOUND).apply(&mut audit);
    }
}
