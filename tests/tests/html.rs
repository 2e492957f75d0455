//! The HTML page in a real browser: it loads nothing, complains of nothing, shows everything, and its map goes where it
//! is sent. Screenshots are left in `target/ringwall/screenshots`, to be looked at.

use std::fs;
use std::path::PathBuf;
use std::time::Instant;

use ringwall_audit::document::Audit;
use ringwall_cli::html::page;
use ringwall_tests::browser::Browser;
use ringwall_tests::sample_audit as sample;
use serde_json::{Value, json};

/// The map's middle, and its width, in an expression's result.
const MAP: &str = "(() => { const m = document.getElementById('map'); m.scrollIntoView({block: 'center'}); \
                   const b = m.getBoundingClientRect(); return [b.x + b.width / 2, b.y + b.height / 2, b.width]; })()";

/// A page in a file, which goes when this does.
struct Written {
    file: PathBuf,
    bytes: usize,
    _directory: tempfile::TempDir,
}

fn written(audit: &Audit, against: Option<&Audit>) -> Written {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let file = directory.path().join("page.html");
    let text = page(audit, against);
    fs::write(&file, &text).expect("room for a page");
    Written { file, bytes: text.len(), _directory: directory }
}

/// A browser that shows an audit, in a window as on a desk, without motion.
fn shown(audit: &Audit, against: Option<&Audit>) -> (Browser, Written) {
    let mut browser = Browser::start();
    browser.window(1280, 900);
    browser.prefer("light", true);
    let written = written(audit, against);
    browser.open(&written.file);
    (browser, written)
}

fn check_clean(browser: &Browser) {
    assert!(browser.complaints.is_empty(), "the page complains: {:#?}", browser.complaints);
    assert!(browser.requests.is_empty(), "the page asks for {:?}", browser.requests);
}

/// First and last address that the map shows.
fn window(browser: &mut Browser) -> (u64, u64) {
    let mut address = |end: &str| {
        let text = browser.text(&format!("document.getElementById('map').dataset.{end}"));
        u64::from_str_radix(&text, 16).expect("an address")
    };
    (address("from"), address("to"))
}

fn bytes(browser: &mut Browser) -> u64 {
    let (from, to) = window(browser);
    to - from
}

fn middle(browser: &mut Browser) -> (f64, f64, f64) {
    let value = browser.value(MAP);
    let number = |index: usize| value[index].as_f64().expect("a number");
    (number(0), number(1), number(2))
}

#[test]
fn everything_is_there() {
    let audit = sample::with_boots(sample::linux(4));
    let (mut browser, _written) = shown(&audit, None);
    let mut count = |selector: &str| {
        browser.value(&format!("document.querySelectorAll({}).length", json!(selector)))
    };
    let places: usize = audit.findings.iter().map(|finding| finding.places.len().min(6)).sum();
    assert_eq!(count("#findings .finding"), audit.findings.len());
    assert_eq!(count("#findings .place"), places);
    assert_eq!(count("#table tbody tr"), audit.views[0].visible.len());
    assert_eq!(count("#cpus tbody tr"), 4);
    assert_eq!(count("#boots tbody:first-of-type tr"), 3);
    let rows = "document.getElementById('table').dataset.rows";
    assert_eq!(browser.text(rows), audit.views[0].visible.len().to_string());
    browser.click("#lists [data-value=kernel]");
    assert_eq!(browser.text(rows), audit.views[0].kernel.len().to_string());
    let (from, to) = window(&mut browser);
    assert_eq!(
        (from, to),
        (0xffff_8000_0000_0000, u64::MAX),
        "the map begins with the kernel half"
    );
    check_clean(&browser);
}

#[test]
fn places_lead_to_regions_and_back() {
    let audit = sample::linux(2);
    let (mut browser, _written) = shown(&audit, None);
    let stack = sample::CPU_ENTRY_AREA + 0x2000;
    browser.click("#findings .place");
    let chosen = "document.getElementById('map').dataset.chosen";
    assert_eq!(browser.text(chosen), format!("{stack:016x}"));
    let (from, to) = window(&mut browser);
    assert!(from <= stack && stack + 0xfff <= to, "{from:x} to {to:x}");
    assert!(to - from < 0x10_0000, "{from:x} to {to:x} is no zoom");
    let row = "document.querySelector('#table tr.chosen').dataset.address";
    assert_eq!(browser.text(row), format!("{stack:016x}"));
    assert!(browser.text("document.getElementById('details').innerText").contains("1 finding"));
    // From the region to its finding.
    browser.click("#details .plain button");
    let focused = "document.activeElement.id";
    assert_eq!(browser.text(focused), "finding-a-0");
    // To an address that is typed.
    browser.click("#go");
    browser.command("Input.insertText", json!({ "text": "0xffff_ffff_81e0_1234" }));
    browser.key("Enter");
    assert_eq!(browser.text(chosen), "ffffffff81e00000");
    // From a row of the table, sorted and filtered, to the map.
    browser.click("#table th[data-column=size] button");
    browser.click("#table th[data-column=size] button");
    let first = browser.text("document.querySelector('#table tbody tr').dataset.address");
    assert_eq!(first, "ffffff0000015000", "the espfix stacks are the greatest");
    browser.click("#filter");
    browser.command("Input.insertText", json!({ "text": "vsys" }));
    browser.until("document.querySelectorAll('#table tbody tr').length === 1");
    browser.click("#table tbody tr td");
    assert_eq!(browser.text(chosen), "ffffffffff600000");
    let (from, to) = window(&mut browser);
    assert!(from <= 0xffff_ffff_ff60_0000 && to >= 0xffff_ffff_ff60_0fff && to - from < 1 << 40);
    check_clean(&browser);
}

#[test]
fn the_map_follows_hands() {
    let (mut browser, _written) = shown(&sample::linux(4), None);
    for scale in ["folded", "true"] {
        browser.click(&format!("#scales [data-value={scale}]"));
        let (x, y, width) = middle(&mut browser);
        let whole = bytes(&mut browser);
        let wheel = |delta: i32| json!({ "type": "mouseWheel", "x": x, "y": y, "deltaX": 0, "deltaY": delta });
        browser.mouse(wheel(-240));
        browser.until("(() => { const m = document.getElementById('map').dataset; return m.from !== 'ffff800000000000'; })()");
        let zoomed = bytes(&mut browser);
        assert!(zoomed < whole / 2, "{scale}: the wheel zooms from {whole:x} to {zoomed:x}");
        // Drag to the left: higher addresses.
        let before = window(&mut browser);
        browser.mouse(
            json!({ "type": "mousePressed", "x": x, "y": y, "button": "left", "clickCount": 1 }),
        );
        for step in 1..=4 {
            let at = x - width * 0.05 * f64::from(step);
            browser.mouse(
                json!({ "type": "mouseMoved", "x": at, "y": y, "button": "left", "buttons": 1 }),
            );
        }
        browser.mouse(
            json!({ "type": "mouseReleased", "x": x - width * 0.2, "y": y, "button": "left" }),
        );
        let after = window(&mut browser);
        assert!(
            after.0 > before.0 && after.1 > before.1,
            "{scale}: {before:x?} dragged to {after:x?}"
        );
        // Keys: out, in, next region, to it, everything.
        browser.value("document.getElementById('map').focus()");
        browser.key("+");
        assert!(bytes(&mut browser) < zoomed);
        browser.key("n");
        browser.key("n");
        let chosen = browser.text("document.getElementById('map').dataset.chosen");
        assert!(browser.text("document.getElementById('spoken').textContent").contains(&chosen));
        browser.key("Enter");
        assert!(bytes(&mut browser) < 0x100_0000, "{scale}: Enter zooms to a region");
        for _ in 0..40 {
            browser.key("+");
        }
        let (from, to) = window(&mut browser);
        assert!(to - from < 0x2000, "{scale}: down to a page: {from:x} to {to:x}");
        browser.key("0");
        assert_eq!(bytes(&mut browser), whole, "{scale}: back to the kernel half");
        browser.key("Escape");
    }
    check_clean(&browser);
}

#[test]
fn fingers_pinch() {
    let mut browser = Browser::start();
    browser.window(390, 800);
    browser.prefer("light", true);
    let written = written(&sample::linux(4), None);
    browser.open(&written.file);
    browser.command(
        "Emulation.setTouchEmulationEnabled",
        json!({ "enabled": true, "maxTouchPoints": 2 }),
    );
    assert_eq!(browser.value("document.documentElement.scrollWidth"), 390);
    let wide = "[...document.querySelectorAll('body *')].filter((e) => !e.closest('.scroll, .unseen') && \
                e.getBoundingClientRect().right > 391).map((e) => e.outerHTML.slice(0, 80))";
    assert_eq!(browser.value(wide), json!([]), "nothing is wider than the phone");
    let (x, y, _) = middle(&mut browser);
    let whole = bytes(&mut browser);
    let touch = |apart: f64| json!([{ "x": x - apart, "y": y, "id": 1 }, { "x": x + apart, "y": y, "id": 2 }]);
    let event = |kind: &str, points: Value| json!({ "type": kind, "touchPoints": points });
    browser.command("Input.dispatchTouchEvent", event("touchStart", touch(30.0)));
    for apart in [50.0, 80.0, 120.0] {
        browser.command("Input.dispatchTouchEvent", event("touchMove", touch(apart)));
    }
    browser.command("Input.dispatchTouchEvent", event("touchEnd", json!([])));
    let zoomed = bytes(&mut browser);
    assert!(zoomed < whole / 2, "two fingers zoom from {whole:x} to {zoomed:x}");
    check_clean(&browser);
}

/// Contrast by WCAG 2.2, 1.4.3, of every element that has text of its own, against the nearest background.
const CONTRASTS: &str = "(() => {
  const parse = (text) => { const n = text.match(/[0-9.]+/g).map(Number); return n.length === 3 ? [...n, 1] : n; };
  const light = ([r, g, b]) => [r, g, b].map((v) => v / 255)
    .map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4))
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const ground = (e) => { for (; e; e = e.parentElement) { const c = parse(getComputedStyle(e).backgroundColor); if (c[3] > 0.9) return c; } return [255, 255, 255, 1]; };
  const bad = [];
  for (const e of document.querySelectorAll('body *')) {
    const own = [...e.childNodes].some((n) => n.nodeType === 3 && n.data.trim());
    if (!own || !e.checkVisibility() || e.closest('.unseen, noscript, script, svg')) continue;
    const [a, b] = [light(parse(getComputedStyle(e).color)), light(ground(e))].sort((x, y) => y - x);
    const ratio = (a + 0.05) / (b + 0.05);
    if (ratio < 4.5) bad.push(`${e.tagName}.${e.className} ${e.textContent.slice(0, 30)}: ${ratio.toFixed(2)}`);
  }
  return bad; })()";

#[test]
fn light_and_dark_can_be_read() {
    let audit = sample::with_boots(sample::linux(4));
    let (mut browser, _written) = shown(&audit, None);
    let ground = "getComputedStyle(document.documentElement).backgroundColor";
    let light = browser.text(ground);
    browser.click("#findings .place");
    assert_eq!(browser.value(CONTRASTS), json!([]), "light");
    browser.prefer("dark", true);
    let dark = browser.text(ground);
    assert_ne!(light, dark, "the page follows the system");
    assert_eq!(browser.value(CONTRASTS), json!([]), "dark");
    browser.click("#theme");
    assert_eq!(browser.text(ground), light, "light on a dark system");
    assert_eq!(browser.value(CONTRASTS), json!([]), "light on a dark system");
    browser.click("#theme");
    browser.prefer("light", true);
    assert_eq!(browser.text(ground), dark, "dark on a light system");
    browser.click("#theme");
    assert_eq!(browser.text(ground), light, "as the system");
    check_clean(&browser);
}

/// Buttons and fields without a name that can be read aloud, and images without a text.
const NAMELESS: &str = "[...document.querySelectorAll('button, input, select, canvas, svg')].filter((e) => \
    !(e.textContent.trim() || e.getAttribute('aria-label') || e.closest('label')?.textContent.trim())).map((e) => e.outerHTML)";

#[test]
fn two_guests_stand_side_by_side() {
    let (isolated, open) = (sample::linux(2), sample::linux_open(2));
    let (mut browser, _written) = shown(&isolated, Some(&open));
    let first = browser.text("document.querySelector('#differences tbody').innerText");
    assert!(first.starts_with("Settings") && first.contains("isolation"), "{first}");
    assert!(first.contains("kernel-mapped-whole") && first.contains("not visible"), "{first}");
    let heads = browser.text("document.querySelector('#differences thead').innerText");
    assert!(heads.contains(&isolated.source) && heads.contains(&open.source), "{heads}");
    let verdicts =
        browser.text("[...document.querySelectorAll('h1')].map((e) => e.innerText).join()");
    assert!(verdicts.contains("Isolated, but") && verdicts.contains("Not isolated"), "{verdicts}");
    assert_eq!(browser.value("document.querySelectorAll('#findings .guest').length"), 2);
    browser.click("#findings .guest:nth-child(2) .place");
    let chosen = browser.text("document.getElementById('map').dataset.chosen");
    assert_eq!(chosen, "ffff888000000000");
    assert_eq!(browser.value(NAMELESS), json!([]));
    check_clean(&browser);
}

#[test]
fn an_enemys_strings_stay_strings() {
    let hostile = sample::hostile();
    let (mut browser, _written) = shown(&sample::empty(), None);
    for (audit, against) in [(&hostile, None), (&hostile, Some(&hostile))] {
        let written = written(audit, against);
        browser.open(&written.file);
        let text = fs::read_to_string(&written.file).expect("the page");
        assert_eq!(text.matches("</script>").count(), 2, "ours");
        assert_eq!(browser.value("document.querySelectorAll('img, [onerror]').length"), 0);
        let shown = browser.text("document.querySelector('#findings h3').textContent");
        assert!(shown.contains("</script><img src=x"), "{shown}");
        assert!(shown.contains("\\u{202e}") && shown.contains("\\u{0}"), "{shown}");
        browser.click("#findings .place");
        browser.value("document.getElementById('map').focus()");
        for key in ["+", "n", "Enter", "-", "v", "p", "0", "ArrowLeft"] {
            browser.key(key);
        }
        check_clean(&browser);
    }
}

/// How long the quickest frame may take to be drawn, in milliseconds: a few times what it takes alone, for slow hosts.
const FRAME: f64 = 250.0;

#[test]
fn a_hundred_thousand_regions_are_smooth() {
    let written = written(&sample::many(100_000), None);
    assert!(written.bytes < 8 << 20, "{} bytes", written.bytes);
    let mut browser = Browser::start();
    browser.window(1280, 900);
    let begin = Instant::now();
    browser.open(&written.file);
    let opened = begin.elapsed();
    let said = browser.text("document.getElementById('pages').innerText");
    assert!(said.contains("100,000 regions"), "{said}");
    // Twenty steps of zoom with everything in sight, painted each. The quickest counts: what others do on this host is
    // in all of them, more or less.
    let milliseconds = browser.value(
        "(async () => { const map = document.getElementById('map'); map.focus(); \
         const frame = () => new Promise((done) => requestAnimationFrame(done)); let least = Infinity; \
         for (let step = 0; step < 20; step += 1) { const begin = performance.now(); \
           map.dispatchEvent(new WheelEvent('wheel', { deltaY: step % 2 ? 40 : -40, clientX: 600, clientY: 400, cancelable: true })); \
           await frame(); least = Math.min(least, performance.now() - begin); } return least; })()",
    );
    let milliseconds = milliseconds.as_f64().expect("a number");
    println!("opened in {opened:?}, {milliseconds:.0} ms a frame, {} bytes", written.bytes);
    assert!(milliseconds < FRAME, "{milliseconds} ms a frame");
    check_clean(&browser);
}

#[test]
fn screenshots() {
    let mut browser = Browser::start();
    let isolated = sample::with_boots(sample::linux(4));
    let open = sample::linux_open(4);
    let desk: &[(&str, u32)] = &[("light", 1280), ("dark", 1280), ("light", 390)];
    for (name, audit, against, looks) in [
        ("linux", &isolated, None, desk),
        ("open", &open, None, &desk[1..2]),
        ("compare", &isolated, Some(&open), &desk[..1]),
    ] {
        let written = written(audit, against);
        for &(theme, width) in looks {
            browser.window(width, 900);
            browser.prefer(theme, true);
            browser.open(&written.file);
            browser.click("#findings .place");
            // A region under the pointer says what it is.
            let (x, y, _) = middle(&mut browser);
            browser.mouse(json!({ "type": "mouseMoved", "x": x, "y": y }));
            browser.until("!document.getElementById('tip').hidden");
            let picture = browser.screenshot(&format!("{name}-{theme}-{width}"), false);
            // A canvas on which nothing is drawn makes a much smaller picture.
            assert!(fs::metadata(picture).expect("a picture").len() > 40_000, "{name} {theme}");
        }
        browser.value("scrollTo(0, 0)");
        browser.window(1280, 900);
        browser.screenshot(&format!("{name}-whole"), true);
        check_clean(&browser);
    }
    browser.command("Emulation.setEmulatedMedia", json!({ "media": "print" }));
    browser.screenshot("compare-paper", true);
}
