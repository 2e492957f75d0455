//! What several boots give away of the kernel's random address.

use ringwall_audit::document::{Audit, Boots};

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
    let columns = [text("hidden"), number("bits seen"), text("at, boot by boot")];
    let rows: Vec<Vec<String>> = boots
        .bases
        .iter()
        .map(|base| {
            let addresses = base
                .addresses
                .iter()
                .map(|address| address.as_deref().unwrap_or("-"))
                .collect::<Vec<_>>()
                .join(" ");
            vec![
                plain(&base.name).into(),
                format!("{:.1}", base.bits_seen),
                plain(&addresses).into(),
            ]
        })
        .collect();
    if rows.is_empty() {
        return "  No place was found that the kernel chooses at random.\n".into();
    }
    render(format, &columns, &rows)
}

fn tracks(boots: &Boots, format: &Format) -> String {
    let columns = [
        text("visible"),
        text("moves with"),
        number("bits given away"),
        text("at, boot by boot").expendable(1),
    ];
    let rows: Vec<Vec<String>> = boots
        .tracks
        .iter()
        .map(|track| {
            let addresses = track.addresses.iter();
            let addresses = addresses.map(|address| address.as_deref().unwrap_or("-"));
            vec![
                plain(&track.name).into(),
                track.moves_with.as_deref().map_or("nothing".into(), |base| plain(base).into()),
                if track.moves_with.is_some() { format!("{:.1}", track.bits) } else { "-".into() },
                plain(&addresses.collect::<Vec<_>>().join(" ")).into(),
            ]
        })
        .collect();
    render(format, &columns, &rows)
}
