//! What several boots give away of the kernel's random address.

use ringwall_audit::document::{Audit, BaseMotion, Boots, Motion};

use super::format::{Format, counted, plain};
use super::table::{number, render, text};

/// The bases and what moves with them; empty text if one boot only was looked at.
pub fn section(audit: &Audit, format: &Format) -> String {
    let Some(boots) = &audit.boots else { return String::new() };
    let mut text = format.heading(&format!(
        "What {} give away of random addresses",
        counted(boots.boots as u64, "boot")
    ));
    text.push_str(&bases(boots, format));
    text.push('\n');
    text.push_str(&tracks(boots, format));
    text
}

fn bases(boots: &Boots, format: &Format) -> String {
    let columns = [
        text("hidden"),
        text("random"),
        number("bits, about").expendable(1),
        text("at, boot by boot"),
    ];
    let rows: Vec<Vec<String>> = boots
        .bases
        .iter()
        .map(|base| {
            let (random, bits) = match base.motion {
                BaseMotion::Random => ("yes", format!("{:.1}", base.bits_estimated)),
                BaseMotion::Fixed => ("no", "-".into()),
                BaseMotion::Undecided => ("not known", "-".into()),
            };
            vec![plain(&base.name).into(), random.into(), bits, addresses(&base.addresses)]
        })
        .collect();
    if rows.is_empty() {
        return "  No place was found that the kernel might choose at random.\n".into();
    }
    render(format, &columns, &rows)
}

fn addresses(addresses: &[Option<String>]) -> String {
    if let [Some(first), rest @ ..] = addresses
        && rest.iter().all(|address| address.as_ref() == Some(first))
    {
        return plain(first).into();
    }
    let words = addresses.iter().map(|address| address.as_deref().unwrap_or("-"));
    plain(&words.collect::<Vec<_>>().join(" ")).into()
}

fn tracks(boots: &Boots, format: &Format) -> String {
    let columns = [
        text("visible"),
        text("moves"),
        number("bits given away"),
        text("at, boot by boot").expendable(1),
    ];
    let rows: Vec<Vec<String>> = boots
        .tracks
        .iter()
        .map(|track| {
            let base = track.moves_with.as_deref().map_or("something".into(), plain);
            let (moves, bits) = match track.motion {
                Motion::Fixed => ("never".into(), String::new()),
                Motion::WithBase => (format!("with {base}"), format!("{:.1}", track.bits)),
                Motion::PartlyWithBase => {
                    (format!("partly with {base}"), format!("{:.1}", track.bits))
                }
                Motion::Independent => ("by itself".into(), String::new()),
                Motion::Undecided => ("not known: too few boots".into(), String::new()),
            };
            vec![plain(&track.name).into(), moves, bits, addresses(&track.addresses)]
        })
        .collect();
    render(format, &columns, &rows)
}
