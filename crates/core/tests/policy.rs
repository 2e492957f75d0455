//! Policy: the command line, the CPU rules, and the words that come out.

use proptest::prelude::*;
use ringwall_core::policy::cpu::RDCL_NO;
use ringwall_core::policy::{CpuidFacts, Exposure, Mode, Policy, Source, Vendor, exposure};
use ringwall_core::{CpuFacts, Status};

/// CPUID's answer: the maker's name, and family and model (above 15, extended) as leaf 1 packs them.
fn cpu(name: &[u8; 12], family: u32, model: u32) -> CpuidFacts {
    let word = |at: usize| u32::from_le_bytes(name[at..at + 4].try_into().unwrap());
    let leaf_0 = [0x16, word(0), word(8), word(4)];
    let (base, extended) = if family > 15 { (15, family - 15) } else { (family, 0) };
    let signature = extended << 20 | (model >> 4) << 16 | base << 8 | (model & 15) << 4 | 3;
    CpuidFacts::from_leaves(leaf_0, [signature, 0, 0, 0], [0, 0, 0, 1 << 29])
}

const HASWELL: u32 = 0x3c;

fn intel(model: u32) -> CpuidFacts {
    cpu(b"GenuineIntel", 6, model)
}

fn amd() -> CpuidFacts {
    cpu(b"AuthenticAMD", 0x19, 0x21)
}

fn asked(line: &str) -> (Mode, Source) {
    let policy = Policy::from_command_line(line);
    (policy.mode, policy.source)
}

#[test]
fn the_last_word_wins() {
    use Mode::{Auto, Off, On};
    for (line, mode, source) in [
        ("", Auto, Source::Default),
        ("console=ttyS0 quiet", Auto, Source::Default),
        ("pti=on", On, Source::Pti(On)),
        ("pti=off", Off, Source::Pti(Off)),
        ("pti=auto", Auto, Source::Pti(Auto)),
        ("nopti", Off, Source::NoPti),
        ("pti=off pti=on", On, Source::Pti(On)),
        ("pti=on pti=off", Off, Source::Pti(Off)),
        ("nopti pti=on", On, Source::Pti(On)),
        ("pti=on nopti", Off, Source::NoPti),
        ("mitigations=off", Off, Source::Mitigations),
        ("mitigations=off mitigations=auto", Auto, Source::Default),
        ("mitigations=off mitigations=auto,nosmt", Auto, Source::Default),
        ("mitigations=auto mitigations=off", Off, Source::Mitigations),
        ("mitigations=off mitigations=bogus", Off, Source::Mitigations),
        ("mitigations=off pti=on", On, Source::Pti(On)),
        ("pti=on mitigations=off", On, Source::Pti(On)),
        ("pti=auto mitigations=off", Auto, Source::Pti(Auto)),
        ("\tpti=on\n", On, Source::Pti(On)),
        ("a\x0bpti=on\x0bb", On, Source::Pti(On)),
    ] {
        assert_eq!(asked(line), (mode, source), "{line:?}");
        assert_eq!(Policy::from_command_line(line).warning, None, "{line:?}");
    }
}

#[test]
fn words_that_only_look_like_ours() {
    for line in [
        "xpti=off",
        "pti.x=off",
        "ptix=off",
        "PTI=off",
        "nopti_x",
        "xnopti",
        "pti:off",
        "init=/x -- pti=off",
        "-- nopti",
        "root=\"a pti=off b\"",
        "a=\"pti=off",
        "mitigations=OFF",
        "no_pti",
        "=pti=off",
        "mitigations",
    ] {
        assert_eq!(asked(line), (Mode::Auto, Source::Default), "{line:?}");
        assert_eq!(Policy::from_command_line(line).warning, None, "{line:?}");
    }
}

#[test]
fn quotes_as_linux_reads_them() {
    for line in
        ["pti=\"on\"", "\"pti=on\"", "a=\"b c\" pti=on", "\"a b\"pti=off pti=on", "pti=\"on"]
    {
        assert_eq!(asked(line).0, Mode::On, "{line:?}");
    }
}

#[test]
fn an_unknown_value_is_carried_and_changes_nothing() {
    for (line, value, mode) in [
        ("pti=banana", "banana", Mode::Auto),
        ("pti=", "", Mode::Auto),
        ("pti", "", Mode::Auto),
        ("pti=ON", "ON", Mode::Auto),
        ("pti=on,off", "on,off", Mode::Auto),
        ("pti=\"on off\"", "on off", Mode::Auto),
        ("pti=on pti=x", "x", Mode::On),
        ("pti=x pti=off", "x", Mode::Off),
        ("pti=x pti=y", "y", Mode::Auto),
        ("pti=x mitigations=off", "x", Mode::Off),
    ] {
        let policy = Policy::from_command_line(line);
        let warning = policy.warning.unwrap();
        assert_eq!((warning.value, policy.mode), (value.as_bytes(), mode), "{line:?}");
        assert_eq!(warning.mode, mode, "{line:?}");
    }
    assert_eq!(
        Policy::from_command_line("pti=banana").warning.unwrap().to_string(),
        "unknown value pti=banana: expected auto, on or off; going on with auto"
    );
}

#[test]
fn a_warning_prints_clean_and_short() {
    let line = [b"pti=\x1b[2J\xff".to_vec(), vec![b'x'; 5000]].concat();
    let text = Policy::from_command_line(&line).warning.unwrap().to_string();
    assert!(text.starts_with(r"unknown value pti=\x1b[2J\xff"), "{text}");
    assert!(text.len() < 200 && text.contains("x...: expected"), "{text}");
}

#[test]
fn vendors_by_name() {
    for (name, vendor) in [
        (b"GenuineIntel", Vendor::Intel),
        (b"AuthenticAMD", Vendor::Amd),
        (b"HygonGenuine", Vendor::Hygon),
        (b"CentaurHauls", Vendor::Centaur),
        (b"  Shanghai  ", Vendor::Zhaoxin),
        (b"GenuineTMx86", Vendor::Other),
        (b"\0\0\0\0\0\0\0\0\0\0\0\0", Vendor::Other),
    ] {
        assert_eq!(cpu(name, 6, 1).vendor(), vendor);
    }
}

#[test]
fn signatures_of_known_cpus() {
    for (signature, family, model, stepping) in [
        (0x000306c3, 6, 0x3c, 3),
        (0x000906ea, 6, 0x9e, 10),
        (0x00a20f12, 0x19, 0x21, 2),
        (0x00000f4a, 15, 4, 10),
        (0x0000_0543, 5, 4, 3),
        (0x0ff0_0fff, 15 + 255, 15, 15),
    ] {
        let facts = CpuidFacts::from_leaves([1, 0, 0, 0], [signature, 0, 0, 0], [0; 4]);
        let seen = (facts.family(), facts.model(), facts.stepping());
        assert_eq!(seen, (family, model, stepping), "{signature:#x}");
    }
}

#[test]
fn feature_bits() {
    let all =
        CpuidFacts::from_leaves([7, 0, 0, 0], [0, 0, 1 << 17, 1 << 13], [0, 1 << 10 | 1, 0, 0]);
    assert!(all.pcid() && all.global_pages() && all.invpcid() && all.fsgsbase());
    assert!(!all.has_arch_capabilities());
    assert_eq!(all.with_arch_capabilities(1).arch_capabilities(), None, "not announced");
    let none = CpuidFacts::from_leaves([7, 0, 0, 0], [0; 4], [0; 4]);
    assert!(!(none.pcid() || none.global_pages() || none.invpcid() || none.fsgsbase()));
    let old = CpuidFacts::from_leaves([6, 0, 0, 0], [0; 4], [u32::MAX; 4]);
    assert!(
        !(old.invpcid() || old.fsgsbase() || old.has_arch_capabilities()),
        "leaf 7 is not there"
    );
}

#[test]
fn who_is_affected() {
    let affected = |facts: CpuidFacts| exposure(&facts).affected();
    // In-order Atoms are the only Intel models that are clear by model.
    for model in 0..=255 {
        let in_order = [0x1c, 0x26, 0x27, 0x35, 0x36].contains(&model);
        assert_eq!(affected(intel(model)), !in_order, "model {model:#x}");
        assert!(!affected(intel(model).with_arch_capabilities(RDCL_NO)), "model {model:#x}");
    }
    assert!(affected(intel(HASWELL).with_arch_capabilities(!RDCL_NO)));
    assert!(affected(cpu(b"GenuineIntel", 15, 4)) && affected(cpu(b"GenuineIntel", 19, 1)));
    assert!(!affected(cpu(b"GenuineIntel", 5, 9)));
    for family in [0xf, 0x10, 0x15, 0x17, 0x19, 0x1a, 0x30] {
        assert!(!affected(cpu(b"AuthenticAMD", family, 1)));
        assert!(!affected(cpu(b"HygonGenuine", family, 1)));
    }
    for name in [b"CentaurHauls", b"  Shanghai  "] {
        assert!(affected(cpu(name, 6, 0xf)) && affected(cpu(name, 7, 0x1b)));
        assert!(!affected(cpu(name, 7, 0x1b).with_arch_capabilities(RDCL_NO)));
    }
    assert!(affected(cpu(b"WhoEverIsIt?", 6, 1)));
    assert!(!affected(cpu(b"WhoEverIsIt?", 4, 1)));
}

#[test]
fn the_words_that_users_know() {
    let clear = intel(HASWELL).with_arch_capabilities(RDCL_NO);
    for (line, facts, isolate, status) in [
        ("", intel(HASWELL), true, "Mitigation: PTI"),
        ("pti=on", intel(HASWELL), true, "Mitigation: PTI"),
        ("nopti", intel(HASWELL), false, "Vulnerable"),
        ("mitigations=off", intel(HASWELL), false, "Vulnerable"),
        ("pti=what", intel(HASWELL), true, "Mitigation: PTI"),
        ("", amd(), false, "Not affected"),
        ("pti=on", amd(), true, "Not affected"),
        ("pti=off", amd(), false, "Not affected"),
        ("", clear, false, "Not affected"),
    ] {
        let decision = Policy::from_command_line(line).decide(&facts);
        assert_eq!((decision.isolate, decision.status().to_string().as_str()), (isolate, status));
        let text = decision.to_string();
        assert!(text.starts_with(if isolate { "isolation on: " } else { "isolation off: " }));
    }
}

#[test]
fn reasons_in_full() {
    let text = |line: &str, facts| Policy::from_command_line(line).decide(&facts).to_string();
    assert_eq!(
        text("pti=on", amd()),
        "isolation on: forced on by pti=on on the command line; \
         AMD CPUs are not affected by Meltdown"
    );
    assert_eq!(
        text("", intel(HASWELL)),
        "isolation on: automatic, the default; \
         the Intel CPU (family 0x6, model 0x3c) is affected by Meltdown"
    );
    assert_eq!(
        text("nopti", intel(0x1c)),
        "isolation off: turned off by nopti on the command line; the Intel CPU (family 0x6, \
         model 0x1c) does not speculate, Meltdown does not affect it"
    );
}

#[test]
fn the_facts_can_be_anybodys() {
    struct Made;
    impl CpuFacts for Made {
        fn vendor(&self) -> Vendor {
            Vendor::Intel
        }
        fn family(&self) -> u16 {
            6
        }
        fn model(&self) -> u8 {
            0x55
        }
        fn stepping(&self) -> u8 {
            7
        }
        fn arch_capabilities(&self) -> Option<u64> {
            Some(RDCL_NO)
        }
        fn pcid(&self) -> bool {
            true
        }
        fn invpcid(&self) -> bool {
            true
        }
        fn global_pages(&self) -> bool {
            true
        }
        fn fsgsbase(&self) -> bool {
            true
        }
        fn smep(&self) -> bool {
            true
        }
        fn smap(&self) -> bool {
            true
        }
        fn md_clear(&self) -> bool {
            true
        }
        fn spec_ctrl(&self) -> bool {
            true
        }
    }
    let facts: &dyn CpuFacts = &Made;
    assert_eq!(Policy::default().decide(facts).reason.exposure, Exposure::RdclNo);
}

/// Words that mean something, words that nearly do, and noise.
fn any_word() -> impl Strategy<Value = String> {
    let known = [
        "pti=on",
        "pti=off",
        "pti=auto",
        "nopti",
        "nopti=1",
        "mitigations=off",
        "mitigations=auto",
        "pti=maybe",
        "pti=",
        "quiet",
        "console=ttyS0",
        "mitigations=auto,nosmt",
        "--",
    ];
    prop_oneof![4 => prop::sample::select(known.to_vec()).prop_map(String::from), 1 => "[a-z_=,-]{1,8}"]
}

/// What the words mean, said the slow way.
fn meaning(words: &[String]) -> (Mode, Option<&str>) {
    let ours = words.iter().take_while(|word| *word != "--").map(String::as_str);
    let (mut explicit, mut mitigations, mut unknown) = (None, Mode::Auto, None);
    for word in ours {
        match word.split_once('=').map_or((word, None), |(name, value)| (name, Some(value))) {
            ("nopti", _) | ("pti", Some("off")) => explicit = Some(Mode::Off),
            ("pti", Some("on")) => explicit = Some(Mode::On),
            ("pti", Some("auto")) => explicit = Some(Mode::Auto),
            ("pti", value) => unknown = Some(value.unwrap_or("")),
            ("mitigations", Some("off")) => mitigations = Mode::Off,
            ("mitigations", Some("auto" | "auto,nosmt")) => mitigations = Mode::Auto,
            _ => {}
        }
    }
    (explicit.unwrap_or(mitigations), unknown)
}

proptest! {
    #[test]
    fn any_bytes_have_a_policy(line: Vec<u8>) {
        let policy = Policy::from_command_line(&line);
        let _ = policy.warning.map(|warning| warning.to_string());
    }

    #[test]
    fn any_soup_of_our_letters_has_a_policy(line in "[-pti=onfa\"_ \t\u{e9}\0]{0,60}") {
        let policy = Policy::from_command_line(&line);
        if let Some(warning) = policy.warning {
            prop_assert!(!matches!(warning.value, b"on" | b"off" | b"auto"));
            prop_assert!(warning.to_string().is_ascii());
        }
    }

    #[test]
    fn words_mean_what_they_say(words in prop::collection::vec(any_word(), 0..8)) {
        let line = words.join(" ");
        let policy = Policy::from_command_line(&line);
        let (mode, unknown) = meaning(&words);
        prop_assert_eq!(policy.mode, mode, "{}", line);
        prop_assert_eq!(policy.warning.map(|w| w.value), unknown.map(str::as_bytes), "{}", line);
    }

    #[test]
    fn every_cpu_gets_a_decision(leaves: [[u32; 4]; 3], capabilities: u64, words in prop::collection::vec(any_word(), 0..4)) {
        let facts = CpuidFacts::from_leaves(leaves[0], leaves[1], leaves[2])
            .with_arch_capabilities(capabilities);
        let line = words.join(" ");
        let policy = Policy::from_command_line(&line);
        let decision = policy.decide(&facts);
        let affected = exposure(&facts).affected();
        prop_assert_eq!(decision.isolate, match policy.mode {
            Mode::On => true,
            Mode::Off => false,
            Mode::Auto => affected,
        });
        prop_assert_eq!(decision.status(), match (affected, decision.isolate) {
            (false, _) => Status::NotAffected,
            (true, true) => Status::Mitigated,
            (true, false) => Status::Vulnerable,
        });
        prop_assert!(decision.to_string().starts_with("isolation o"));
    }
}
