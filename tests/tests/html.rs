//! The HTML page in a real browser: it loads nothing, complains of nothing, shows everything, and its map goes where it
//! is sent. Screenshots are left in `target/ringwall/screenshots`.

use std::fs;
use std::path::PathBuf;

use ringwall_audit::document::Audit;
use ringwall_cli::html::page;
use ringwall_tests::browser::Browser;
use ringwall_tests::sample_audit as sample;
use serde_json::json;

/// Writes a page to a file that the browser can open.
fn written(name: &str, audit: &Audit, against: Option<&Audit>) -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let file = directory.path().join(format!("{name}.html"));
    fs::write(&file, page(audit, against)).expect("room for a page");
    (directory, file)
}

fn clean(browser: &Browser) {
    assert!(browser.complaints.is_empty(), "the page complains: {:#?}", browser.complaints);
    assert!(browser.requests.is_empty(), "the page asks for {:?}", browser.requests);
}

#[test]
fn shows() {
    let mut browser = Browser::start();
    let isolated = sample::with_boots(sample::linux(4));
    for (name, audit, against) in
        [("linux", &isolated, None), ("compare", &isolated, Some(&sample::linux_open(4)))]
    {
        let (_directory, file) = written(name, audit, against);
        for (theme, width) in [("light", 1280), ("dark", 1280), ("light", 390)] {
            browser.window(width, 900);
            browser.prefer(theme, true);
            browser.open(&file);
            browser.screenshot(&format!("{name}-{theme}-{width}-top"), false);
            browser.screenshot(&format!("{name}-{theme}-{width}"), true);
        }
        clean(&browser);
    }
    browser.value(&json!(1).to_string());
}
