//! An audit as one HTML page that needs nothing but itself: no network, no other file.
//!
//! ```text
//!   page.html   the skeleton; /*STYLE*/, /*SCRIPT*/ and {{DATA}} are filled in here
//!   style/*.css colours, layout, map, paper
//!   page/*.js   plain scripts, put together in one function, in the order of SCRIPTS
//!   picture     Audit -> the data that the scripts draw, bounded by `fold`
//!   differences  what `compare` says of two audits, for the same
//!   inert       the data as text that no guest's string can turn into markup
//! ```
//!
//! Guest strings reach the page only inside the data element and from there only as text nodes and canvas text,
//! never as markup. A Content-Security-Policy in the page forbids every load, so that even a mistake could not
//! reach a network.

mod differences;
mod fold;
mod inert;
mod picture;

use ringwall_audit::document::Audit;

const SKELETON: &str = include_str!("page.html");

/// Later sheets override earlier ones.
const STYLES: [&str; 4] = [
    include_str!("style/colours.css"),
    include_str!("style/layout.css"),
    include_str!("style/map.css"),
    include_str!("style/paper.css"),
];

/// Each may use what stands above it; functions may be used anywhere.
const SCRIPTS: [&str; 20] = [
    include_str!("page/elements.js"),
    include_str!("page/numbers.js"),
    include_str!("page/palette.js"),
    include_str!("page/data.js"),
    include_str!("page/axis.js"),
    include_str!("page/state.js"),
    include_str!("page/summary.js"),
    include_str!("page/differences.js"),
    include_str!("page/findings.js"),
    include_str!("page/ruler.js"),
    include_str!("page/rows.js"),
    include_str!("page/map.js"),
    include_str!("page/input.js"),
    include_str!("page/legend.js"),
    include_str!("page/details.js"),
    include_str!("page/table.js"),
    include_str!("page/boots.js"),
    include_str!("page/cpus.js"),
    include_str!("page/controls.js"),
    include_str!("page/main.js"),
];

/// The page for an audit, and beside it for the one that it is compared with.
///
/// Its size is bounded: at most `fold::BUDGET` regions are drawn one by one; more than that are put together by
/// neighbourhood, and the page says so.
pub fn page(audit: &Audit, against: Option<&Audit>) -> String {
    let data = inert::json(&picture::picture(audit, against));
    let script = format!("'use strict';\n(() => {{\n{}\nstart();\n}})();", SCRIPTS.join("\n"));
    // In this order: what is put in last cannot be mistaken for a mark.
    SKELETON
        .replacen("/*STYLE*/", &STYLES.join("\n"), 1)
        .replacen("/*SCRIPT*/", &script, 1)
        .replacen("{{DATA}}", &data, 1)
}
