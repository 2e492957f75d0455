//! Saved audits that no look ever made: each number, string and list of a sound one replaced by what is worst. They are
//! refused, or shown; nothing panics, hangs, or reaches the terminal as a command to it.

use ringwall_audit::compare;
use ringwall_audit::document::Audit;
use ringwall_cli::terminal::{Format, comparison, report};
use ringwall_cli::{html, saved};
use serde_json::{Value, json};

const SOUND: &str = include_str!("data/audit.json");

/// Where every value of a JSON tree is.
fn places(value: &Value, here: &str, found: &mut Vec<String>) {
    found.push(here.into());
    match value {
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                places(item, &format!("{here}/{index}"), found);
            }
        }
        Value::Object(fields) => {
            for (name, field) in fields {
                places(field, &format!("{here}/{name}"), found);
            }
        }
        _ => {}
    }
}

/// What might be put in the place of a value.
fn worst(value: &Value) -> Vec<Value> {
    match value {
        Value::Number(_) => vec![json!(0), json!(255), json!(1_u64 << 32), json!(u64::MAX)],
        Value::String(_) => {
            ["0x0", "0xffffffffffffffff", "0x8000000000000000", "\u{1b}[2J\u{202e}"]
                .map(Value::from)
                .into()
        }
        Value::Array(items) => {
            vec![json!([]), [&items[..], &items[..]].concat().into(), vec![json!(null)].into()]
        }
        Value::Bool(flag) => vec![json!(!flag)],
        _ => vec![json!(null)],
    }
}

/// Shows an audit in every way.
fn show(audit: &Audit, sound: &Audit) {
    let format = Format { width: 60, colour: false, all: true };
    let texts = [
        report(audit, &format),
        comparison(audit, sound, &compare(audit, sound), &format),
        comparison(sound, audit, &compare(sound, audit), &format),
    ];
    assert!(texts.iter().all(|text| !text.contains(['\u{1b}', '\u{202e}'])), "{texts:?}");
    assert!(!html::page(audit, Some(sound)).contains('\u{1b}'));
}

#[test]
fn whatever_is_accepted_can_be_shown() {
    let sound: Audit = saved::read(SOUND.as_bytes()).expect("the golden file");
    let tree: Value = serde_json::from_str(SOUND).expect("JSON");
    let mut found = Vec::new();
    places(&tree, "", &mut found);
    // The second of a kind is like the first.
    found.retain(|place| !place.starts_with("/views/1/") && !place.starts_with("/cpus/1/"));
    let (mut accepted, mut refused) = (0, 0);
    for place in &found {
        for worst in worst(tree.pointer(place).expect(place)) {
            let mut tree = tree.clone();
            *tree.pointer_mut(place).expect(place) = worst;
            match saved::read(tree.to_string().as_bytes()) {
                Ok(audit) => {
                    accepted += 1;
                    show(&audit, &sound);
                }
                Err(_) => refused += 1,
            }
        }
    }
    assert!(accepted > 200 && refused > 200, "{accepted} accepted, {refused} refused");
}
