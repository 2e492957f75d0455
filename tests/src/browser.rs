//! Chromium without a window, driven over a pipe by its DevTools protocol.
//!
//! Messages are JSON texts that end in a zero byte: ours on the browser's file descriptor 3, its answers and events
//! on 4. A shell puts the pipes there. (<https://chromedevtools.github.io/devtools-protocol/>)

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use base64::prelude::{BASE64_STANDARD, Engine as _};
use serde_json::{Value, json};

use crate::made;

/// The longest wait for an answer or for something to come true.
const LIMIT: Duration = Duration::from_secs(90);

/// A browser with one page.
#[derive(Debug)]
pub struct Browser {
    child: Child,
    commands: ChildStdin,
    messages: Receiver<Value>,
    number: u64,
    session: String,
    /// What the page has complained of: exceptions, and anything written to the console.
    pub complaints: Vec<String>,
    /// Every address that was asked for, except the page's own file.
    pub requests: Vec<String>,
    _profile: tempfile::TempDir,
}

impl Browser {
    /// Starts Chromium.
    ///
    /// # Panics
    ///
    /// When it is not unpacked, or does not answer.
    pub fn start() -> Browser {
        let tree = made::chromium();
        let program = tree.join("usr/lib/chromium/chromium-headless-shell");
        assert!(
            program.is_file(),
            "no Chromium at {}: type `cargo xtask setup`",
            program.display()
        );
        let libraries = [
            "usr/lib/x86_64-linux-gnu",
            "usr/lib/x86_64-linux-gnu/pulseaudio",
            "lib/x86_64-linux-gnu",
        ];
        let libraries = std::env::join_paths(libraries.map(|path| tree.join(path)))
            .expect("no colon in a path");
        let profile = tempfile::tempdir().expect("a temporary directory");
        let mut child = Command::new("sh")
            .args(["-c", r#"exec "$0" "$@" 3<&0 4>&1 </dev/null >/dev/null 2>&1"#])
            .arg(&program)
            // Root, as in a container, cannot have the sandbox; the page is ours.
            .args([
                "--remote-debugging-pipe",
                "--no-sandbox",
                "--disable-gpu",
                "--disable-dev-shm-usage",
                "--no-first-run",
            ])
            .args([
                "--force-device-scale-factor=1",
                "--hide-scrollbars",
                "--disable-background-networking",
            ])
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .env("LD_LIBRARY_PATH", libraries)
            .env("FONTCONFIG_FILE", fonts(&tree, profile.path()))
            .env("HOME", profile.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("a shell");
        let commands = child.stdin.take().expect("a pipe");
        let answers = BufReader::new(child.stdout.take().expect("a pipe"));
        let (sender, messages) = channel();
        std::thread::spawn(move || {
            for text in answers.split(0).map_while(Result::ok) {
                let message = serde_json::from_slice(&text).expect("JSON from the browser");
                if sender.send(message).is_err() {
                    break;
                }
            }
        });
        let mut browser = Browser {
            child,
            commands,
            messages,
            number: 0,
            session: String::new(),
            complaints: Vec::new(),
            requests: Vec::new(),
            _profile: profile,
        };
        let target = browser.command("Target.createTarget", json!({ "url": "about:blank" }));
        let attach = json!({ "targetId": target["targetId"], "flatten": true });
        let session = browser.command("Target.attachToTarget", attach);
        browser.session = session["sessionId"].as_str().expect("a session").into();
        for domain in ["Page", "Runtime", "Network", "Log"] {
            browser.command(&format!("{domain}.enable"), json!({}));
        }
        browser
    }

    /// Sends a command and returns its result. Events that come meanwhile are noted.
    ///
    /// # Panics
    ///
    /// When the browser refuses or does not answer.
    pub fn command(&mut self, method: &str, parameters: Value) -> Value {
        self.number += 1;
        let mut message = json!({ "id": self.number, "method": method, "params": parameters });
        if !self.session.is_empty() {
            message["sessionId"] = json!(self.session);
        }
        self.commands.write_all(format!("{message}\0").as_bytes()).expect("a browser that runs");
        let end = Instant::now() + LIMIT;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            let answer = self.messages.recv_timeout(left);
            let mut answer = answer.unwrap_or_else(|_| panic!("no answer to {method}"));
            if answer["id"] == self.number {
                assert!(answer.get("error").is_none(), "{method}: {}", answer["error"]);
                return answer["result"].take();
            }
            self.note(&answer);
        }
    }

    fn note(&mut self, event: &Value) {
        let parameters = &event["params"];
        match event["method"].as_str() {
            Some("Runtime.exceptionThrown" | "Runtime.consoleAPICalled" | "Log.entryAdded") => {
                self.complaints.push(parameters.to_string());
            }
            Some("Network.requestWillBeSent") => {
                self.requests.push(parameters["request"]["url"].as_str().unwrap_or("?").into());
            }
            _ => {}
        }
    }

    /// Loads a file and waits until the page says that it is ready.
    ///
    /// # Panics
    ///
    /// When it does not.
    pub fn open(&mut self, file: &Path) {
        let address = format!("file://{}", file.display());
        self.command("Page.navigate", json!({ "url": address }));
        self.until("document.readyState === 'complete' && document.documentElement.dataset.ready === 'yes'");
        self.requests.retain(|request| *request != address && !request.starts_with("data:"));
    }

    /// The value of an expression in the page.
    ///
    /// # Panics
    ///
    /// When it throws.
    pub fn value(&mut self, expression: &str) -> Value {
        let parameters =
            json!({ "expression": expression, "returnByValue": true, "awaitPromise": true });
        let mut result = self.command("Runtime.evaluate", parameters);
        assert!(result.get("exceptionDetails").is_none(), "{expression}: {result}");
        result["result"]["value"].take()
    }

    /// A text in the page.
    ///
    /// # Panics
    ///
    /// When the expression is none.
    pub fn text(&mut self, expression: &str) -> String {
        let value = self.value(expression);
        value.as_str().unwrap_or_else(|| panic!("{expression} is {value}, no text")).into()
    }

    /// Waits until an expression is true.
    ///
    /// # Panics
    ///
    /// When it does not become true.
    pub fn until(&mut self, expression: &str) {
        let end = Instant::now() + LIMIT;
        while self.value(expression) != Value::Bool(true) {
            assert!(
                Instant::now() < end,
                "never true: {expression}; complaints: {:?}",
                self.complaints
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Clicks on the middle of the first element that a selector finds, with the mouse.
    ///
    /// # Panics
    ///
    /// When there is none.
    pub fn click(&mut self, selector: &str) {
        let place = self.value(&format!(
            "(() => {{ const e = document.querySelector({}); e.scrollIntoView({{block: 'center'}}); \
             const b = e.getBoundingClientRect(); return [b.x + Math.min(b.width / 2, 30), b.y + b.height / 2]; }})()",
            json!(selector)
        ));
        for kind in ["mousePressed", "mouseReleased"] {
            self.mouse(json!({ "type": kind, "x": place[0], "y": place[1], "button": "left", "clickCount": 1 }));
        }
    }

    /// Sends an event of the mouse.
    pub fn mouse(&mut self, event: Value) {
        self.command("Input.dispatchMouseEvent", event);
    }

    /// Presses a key whose text is its name, or one that has none.
    pub fn key(&mut self, key: &str) {
        let mut event = json!({ "type": "keyDown", "key": key });
        if key.chars().count() == 1 {
            event["text"] = json!(key);
        }
        self.command("Input.dispatchKeyEvent", event);
        self.command("Input.dispatchKeyEvent", json!({ "type": "keyUp", "key": key }));
    }

    /// Makes the window this large, as a phone if it is narrow.
    pub fn window(&mut self, width: u32, height: u32) {
        let mobile = width < 600;
        let screen =
            json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": mobile });
        self.command("Emulation.setDeviceMetricsOverride", screen);
    }

    /// Has the system prefer this theme, and little motion or not.
    pub fn prefer(&mut self, theme: &str, still: bool) {
        let motion = if still { "reduce" } else { "no-preference" };
        let features = json!([
            { "name": "prefers-color-scheme", "value": theme },
            { "name": "prefers-reduced-motion", "value": motion },
        ]);
        self.command("Emulation.setEmulatedMedia", json!({ "features": features }));
    }

    /// Saves a picture of the window, or of the whole page, as `target/ringwall/screenshots/NAME.png`.
    ///
    /// # Panics
    ///
    /// When it cannot be written.
    pub fn screenshot(&mut self, name: &str, whole: bool) -> PathBuf {
        // Two frames: one that draws, one that shows it.
        self.value("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done))).then(() => 1)");
        let parameters = json!({ "format": "png", "captureBeyondViewport": whole });
        let answer = self.command("Page.captureScreenshot", parameters);
        let text = answer["data"].as_str().expect("a picture");
        let bytes = BASE64_STANDARD.decode(text).expect("base 64");
        let directory = made::directory().join("screenshots");
        std::fs::create_dir_all(&directory).expect("a place below target");
        let file = directory.join(format!("{name}.png"));
        std::fs::write(&file, bytes).expect("room for a picture");
        file
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A configuration that knows the unpacked fonts and no others, so that pictures look alike everywhere.
fn fonts(tree: &Path, directory: &Path) -> PathBuf {
    let file = directory.join("fonts.conf");
    let text = format!(
        "<?xml version=\"1.0\"?><fontconfig><dir>{}</dir><cachedir>{}</cachedir></fontconfig>",
        tree.join("usr/share/fonts").display(),
        directory.join("font-cache").display()
    );
    std::fs::write(&file, text).expect("room for a file");
    file
}
