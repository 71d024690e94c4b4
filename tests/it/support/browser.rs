//! A real browser: Chromium, told what to do over the pipe that it offers for that (the DevTools protocol).
//!
//! There is no driver in between and no other clock: each command is answered, and what a page becomes is waited for.
//! One process serves all tests that run at a time, each with tabs in a profile of its own: cookies are not shared.

mod pipe;
mod tab;

use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use serde_json::{Value, json};
use tempfile::TempDir;

use pipe::Pipe;
pub(crate) use tab::{Finding, Tab, Theme};

/// A running browser. Ends when nobody holds it any more.
struct Browser {
    pipe: Pipe,
    process: Child,
    /// Where it keeps what it remembers.
    _profile: TempDir,
}

/// One person's browser: with cookies and settings of their own. Its tabs outlive it.
pub(crate) struct Profile {
    context: Arc<Context>,
    runs_scripts: bool,
}

/// What the browser keeps apart. Forgotten with the last who holds it.
struct Context {
    browser: Arc<Browser>,
    id: String,
}

/// The one that runs, if one does.
static RUNNING: Mutex<Weak<Browser>> = Mutex::new(Weak::new());

/// It reads from descriptor 3 and writes to 4. Root has no sandbox to give it.
const LAUNCHER: &str = r#"
exec 3<&0 4>&1 </dev/null >/dev/null 2>&1
[ "$EUID" -ne 0 ] || set -- --no-sandbox "$@"
exec "$(command -v chromium-headless-shell || command -v chromium)" --headless "$@"
"#;

// === impl Profile ===

impl Profile {
    /// Of somebody who has never been here.
    #[track_caller]
    pub(crate) fn new() -> Profile {
        Profile::made(true)
    }

    /// The same of somebody whose browser runs no scripts.
    #[track_caller]
    pub(crate) fn without_scripts() -> Profile {
        Profile::made(false)
    }

    #[track_caller]
    fn made(runs_scripts: bool) -> Profile {
        let browser = Browser::running();
        let made = browser.pipe.call(None, "Target.createBrowserContext", json!({}));
        let context = Arc::new(Context { id: text(&made["browserContextId"]), browser });
        Profile { context, runs_scripts }
    }

    /// A new tab of a site, which is empty until it is told where to go.
    #[track_caller]
    pub(crate) fn tab(&self, site: &str) -> Tab {
        let pipe = &self.context.browser.pipe;
        let new = json!({ "url": "about:blank", "browserContextId": self.context.id });
        let target = text(&pipe.call(None, "Target.createTarget", new)["targetId"]);
        let attach = json!({ "targetId": target, "flatten": true });
        let session = text(&pipe.call(None, "Target.attachToTarget", attach)["sessionId"]);
        Tab::new(self.context.clone(), target, session, site, self.runs_scripts)
    }
}

// === impl Context ===

impl Context {
    fn pipe(&self) -> &Pipe {
        &self.browser.pipe
    }
}

impl Drop for Context {
    fn drop(&mut self) {
        // Others may be at work in the same process.
        let dispose = json!({ "browserContextId": self.id });
        let _ = self.browser.pipe.try_call(None, "Target.disposeBrowserContext", dispose);
    }
}

// === impl Browser ===

impl Browser {
    #[track_caller]
    fn running() -> Arc<Browser> {
        let mut running = RUNNING.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(browser) = running.upgrade() {
            return browser;
        }
        let browser = Arc::new(Browser::start());
        *running = Arc::downgrade(&browser);
        browser
    }

    #[track_caller]
    fn start() -> Browser {
        let profile = tempfile::tempdir().expect("a folder for the browser");
        let mut process = Command::new("/bin/bash")
            .args(["-c", LAUNCHER, "bash", "--remote-debugging-pipe", "--disable-gpu", "--hide-scrollbars"])
            .args(["--disable-background-networking", "--no-first-run", "--lang=en-US"])
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("bash starts");
        let to = process.stdin.take().expect("a pipe");
        let from = process.stdout.take().expect("a pipe");
        let pipe = Pipe::new(to, from);
        let version = pipe.try_call(None, "Browser.getVersion", json!({}));
        version.expect("Chromium starts: run the tests with tests/run, which installs it");
        Browser { pipe, process, _profile: profile }
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[track_caller]
fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("no text: {value}")).to_owned()
}
