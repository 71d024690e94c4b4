//! A tab, used as people do: what is pressed and filled in is found by the name that a screen reader says.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};

use super::{Context, text};
use crate::support::peers::peers;
use crate::support::wait::{pass, until};

/// A page on a screen. Closed when it is dropped.
pub(crate) struct Tab {
    context: Arc<Context>,
    target: String,
    session: String,
    site: String,
}

/// What the person likes better.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Theme {
    Light,
    Dark,
}

/// What axe found wrong with a page.
#[derive(Clone, Debug)]
pub(crate) struct Finding {
    pub rule: String,
    /// `minor`, `moderate`, `serious` or `critical`.
    pub impact: String,
    /// The elements, and why.
    pub places: Vec<String>,
}

/// The height of the screen. Screenshots are as high as their pages.
const HEIGHT: u32 = 900;
/// A page much higher than this is a page without an end.
const SHOT_HEIGHT_MAX: f64 = 8_000.0;
/// What can be pressed, as screen readers call it.
const PRESSABLE: [&str; 5] = ["button", "link", "DisclosureTriangle", "checkbox", "radio"];
/// What can be filled in.
const FILLABLE: [&str; 6] = ["textbox", "searchbox", "spinbutton", "combobox", "Date", "DateTime"];
/// Marks a page, to see that another has come.
const MARK: &str = "(document.querySelector('main') ?? document.body).dataset.seen = ''";
const IS_NEW: &str = "document.readyState === 'complete' && !document.querySelector('[data-seen]')";

// === impl Theme ===

impl Theme {
    pub(crate) const ALL: [Theme; 2] = [Theme::Light, Theme::Dark];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Theme::Light => "light",
            Theme::Dark => "dark",
        }
    }
}

// === impl Tab ===

impl Tab {
    #[track_caller]
    pub(super) fn new(
        context: Arc<Context>,
        target: String,
        session: String,
        site: &str,
        runs_scripts: bool,
    ) -> Tab {
        let tab = Tab { context, target, session, site: site.to_owned() };
        for domain in ["Page.enable", "Runtime.enable", "Log.enable", "DOM.enable"] {
            tab.call(domain, json!({}));
        }
        // Where nobody looks, a page is not painted and takes no keys.
        tab.call("Emulation.setFocusEmulationEnabled", json!({ "enabled": true }));
        if !runs_scripts {
            tab.call("Emulation.setScriptExecutionDisabled", json!({ "value": true }));
        }
        tab.resize(1_440);
        tab
    }

    #[track_caller]
    fn call(&self, method: &str, parameters: Value) -> Value {
        self.context.pipe().call(Some(&self.session), method, parameters)
    }

    // --- where it is ---

    /// Goes to a path of the site, and waits until the page is there.
    #[track_caller]
    pub(crate) fn open(&self, path: &str) {
        self.leading_on(|| {
            let gone = self.call("Page.navigate", json!({ "url": format!("{}{path}", self.site) }));
            assert!(gone.get("errorText").is_none(), "{path}: {gone}");
        });
    }

    /// The path of the page that is shown, with its query.
    #[track_caller]
    pub(crate) fn path(&self) -> String {
        text(&self.tell("location.pathname + location.search"))
    }

    /// Does what leads to another page, and waits until that is there.
    #[track_caller]
    pub(crate) fn leading_on(&self, act: impl FnOnce()) {
        self.tell(MARK);
        act();
        until("another page", || (self.try_tell(IS_NEW).ok()? == json!(true)).then_some(()));
    }

    pub(crate) fn resize(&self, width: u32) {
        let size = json!({ "width": width, "height": HEIGHT, "deviceScaleFactor": 1, "mobile": false });
        self.call("Emulation.setDeviceMetricsOverride", size);
    }

    pub(crate) fn prefer(&self, theme: Theme) {
        let dark = json!({ "name": "prefers-color-scheme", "value": theme.name() });
        let still = json!({ "name": "prefers-reduced-motion", "value": "reduce" });
        self.call("Emulation.setEmulatedMedia", json!({ "features": [dark, still] }));
    }

    // --- what it shows ---

    /// What an expression of JavaScript is worth in the page, also where the page's own scripts do not run.
    #[track_caller]
    pub(crate) fn tell(&self, expression: &str) -> Value {
        self.try_tell(expression).unwrap_or_else(|error| panic!("{expression}: {error}"))
    }

    fn try_tell(&self, expression: &str) -> Result<Value, String> {
        let ask = json!({ "expression": expression, "returnByValue": true, "awaitPromise": true });
        let mut told = self.context.pipe().try_call(Some(&self.session), "Runtime.evaluate", ask)?;
        match told.get("exceptionDetails") {
            Some(thrown) => Err(thrown.to_string()),
            None => Ok(told["result"]["value"].take()),
        }
    }

    /// What is there to read.
    #[track_caller]
    pub(crate) fn text(&self) -> String {
        text(&self.tell("document.body.innerText"))
    }

    /// Waits until that is there to read.
    #[track_caller]
    pub(crate) fn sees(&self, wanted: &str) {
        self.becomes(&format!("document.body.innerText.includes({})", json!(wanted)), wanted);
    }

    /// Waits until an expression is true.
    #[track_caller]
    pub(crate) fn becomes(&self, expression: &str, what: &str) {
        let is_so = || (self.try_tell(expression).ok()? == json!(true)).then_some(());
        let seen = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| until(what, is_so)));
        if seen.is_err() {
            panic!("{what:?} is not shown at {}:\n{}", self.path(), self.text());
        }
    }

    /// The text of the first element that matches a selector.
    #[track_caller]
    pub(crate) fn text_of(&self, selector: &str) -> String {
        text(&self.tell(&format!("document.querySelector({}).innerText", json!(selector))))
    }

    /// What the pages since the last time broke: the policy, or a script of their own.
    pub(crate) fn complaints(&self) -> Vec<String> {
        self.context.pipe().complaints(&self.session)
    }

    #[track_caller]
    pub(crate) fn must_not_complain(&self) {
        let complaints = self.complaints();
        assert!(complaints.is_empty(), "{}: {complaints:#?}", self.path());
    }

    // --- what people do ---

    /// The first element of such a role that has exactly that name, as the browser tells it to screen readers.
    fn named(&self, roles: &[&str], name: &str) -> Option<String> {
        let document = self
            .context
            .pipe()
            .try_call(Some(&self.session), "DOM.getDocument", json!({ "depth": 0 }))
            .ok()?;
        let ask = json!({ "nodeId": document["root"]["nodeId"], "accessibleName": name });
        let found =
            self.context.pipe().try_call(Some(&self.session), "Accessibility.queryAXTree", ask).ok()?;
        let is_one = |node: &&Value| {
            roles.iter().any(|role| node["role"]["value"] == *role) && node["ignored"] != json!(true)
        };
        let node = found["nodes"].as_array()?.iter().find(is_one)?;
        let resolve = json!({ "backendNodeId": node["backendDOMNodeId"] });
        let object = self.context.pipe().try_call(Some(&self.session), "DOM.resolveNode", resolve).ok()?;
        object["object"]["objectId"].as_str().map(str::to_owned)
    }

    #[track_caller]
    fn find(&self, roles: &[&str], name: &str) -> String {
        for _ in 0..200 {
            if let Some(found) = self.named(roles, name) {
                return found;
            }
            pass(Duration::from_millis(10));
        }
        panic!("no {} is called {name:?} at {}:\n{}", roles[0], self.path(), self.text());
    }

    #[track_caller]
    fn on(&self, object: &str, function: &str, arguments: &[Value]) -> Value {
        let arguments: Vec<_> = arguments.iter().map(|value| json!({ "value": value })).collect();
        let call = json!({
            "objectId": object, "functionDeclaration": function, "arguments": arguments, "returnByValue": true,
        });
        let mut answer = self.call("Runtime.callFunctionOn", call);
        assert!(answer.get("exceptionDetails").is_none(), "{function}: {answer:#}");
        answer["result"]["value"].take()
    }

    /// Whether something that can be pressed has that name.
    pub(crate) fn offers(&self, name: &str) -> bool {
        self.named(&PRESSABLE, name).is_some()
    }

    /// Clicks on what has that name, with the mouse.
    #[track_caller]
    pub(crate) fn click(&self, name: &str) {
        self.click_on(&self.find(&PRESSABLE, name));
    }

    /// The same on the first element that matches a selector.
    #[track_caller]
    pub(crate) fn click_at(&self, selector: &str) {
        let ask = json!({ "expression": format!("document.querySelector({})", json!(selector)) });
        let found = self.call("Runtime.evaluate", ask);
        let object = found["result"]["objectId"].as_str();
        self.click_on(object.unwrap_or_else(|| panic!("no {selector} at {}", self.path())));
    }

    #[track_caller]
    fn click_on(&self, object: &str) {
        let middle = self.on(
            object,
            "function () { this.scrollIntoView({ block: 'center', behavior: 'instant' });
               const box = this.getClientRects()[0];
               return [box.x + box.width / 2, box.y + box.height / 2]; }",
            &[],
        );
        for kind in ["mousePressed", "mouseReleased"] {
            let button = json!({
                "type": kind, "x": middle[0], "y": middle[1], "button": "left", "clickCount": 1,
            });
            self.call("Input.dispatchMouseEvent", button);
        }
    }

    /// Clicks on what has that name and leads to another page.
    #[track_caller]
    pub(crate) fn press(&self, name: &str) {
        self.leading_on(|| self.click(name));
    }

    /// Writes into the field of that name, instead of what stands there.
    #[track_caller]
    pub(crate) fn fill(&self, name: &str, value: &str) {
        let field = self.find(&FILLABLE, name);
        self.on(&field, "function () { this.focus(); this.select?.(); }", &[]);
        self.type_text(value);
    }

    /// Chooses the entry of that text, or of that value, of the list of that name.
    #[track_caller]
    pub(crate) fn choose(&self, name: &str, entry: &str) {
        let list = self.find(&["combobox", "listbox"], name);
        let is_there = self.on(
            &list,
            "function (entry) {
               const option = [...this.options].find(o => o.value === entry || o.text.trim() === entry);
               if (!option) return false;
               option.selected = true;
               this.dispatchEvent(new Event('change', { bubbles: true }));
               return true; }",
            &[json!(entry)],
        );
        assert_eq!(is_there, json!(true), "{name:?} has no {entry:?}");
    }

    /// What stands in the field of that name.
    #[track_caller]
    pub(crate) fn value(&self, name: &str) -> String {
        text(&self.on(&self.find(&FILLABLE, name), "function () { return this.value; }", &[]))
    }

    /// Types where the focus is.
    pub(crate) fn type_text(&self, value: &str) {
        self.call("Input.insertText", json!({ "text": value }));
    }

    /// Presses a key: `Tab`, `Enter` or ` `.
    #[track_caller]
    pub(crate) fn key(&self, key: &str) {
        let (code, number, typed) = match key {
            "Tab" => ("Tab", 9, ""),
            "Enter" => ("Enter", 13, "\r"),
            " " => ("Space", 32, " "),
            other => panic!("what number has the key {other:?}?"),
        };
        for kind in ["keyDown", "keyUp"] {
            let typed = if kind == "keyDown" { typed } else { "" };
            let pressed = json!({
                "type": kind, "key": key, "code": code, "windowsVirtualKeyCode": number, "text": typed,
            });
            self.call("Input.dispatchKeyEvent", pressed);
        }
    }

    /// Goes by the key Tab to what has that name, as long as it takes.
    #[track_caller]
    pub(crate) fn tab_to(&self, name: &str) {
        for _ in 0..60 {
            self.key("Tab");
            if self.focused().as_deref() == Some(name) {
                return;
            }
        }
        panic!("no key leads to {name:?} at {}:\n{}", self.path(), self.text());
    }

    /// The name of what has the focus.
    fn focused(&self) -> Option<String> {
        let ask = json!({ "expression": "document.activeElement" });
        let element = self.call("Runtime.evaluate", ask);
        let ask = json!({ "objectId": element["result"]["objectId"], "fetchRelatives": false });
        let tree =
            self.context.pipe().try_call(Some(&self.session), "Accessibility.getPartialAXTree", ask).ok()?;
        tree["nodes"][0]["name"]["value"].as_str().map(str::to_owned)
    }

    // --- what becomes of it ---

    /// What axe-core finds wrong with the page.
    #[track_caller]
    pub(crate) fn findings(&self) -> Vec<Finding> {
        let library = peers().join("node_modules/axe-core/axe.min.js");
        let library = fs::read_to_string(&library).unwrap_or_else(|error| panic!("{library:?}: {error}"));
        self.tell(&format!("{library}; true"));
        let report = self.tell("axe.run(document, { resultTypes: ['violations'] }).then(r => r.violations)");
        report.as_array().expect("a list").iter().map(Finding::read).collect()
    }

    /// Keeps a picture of the whole page, below the build's folder: `screenshots/NAME.png`.
    #[track_caller]
    pub(crate) fn photograph(&self, name: &str) {
        let size = self.call("Page.getLayoutMetrics", json!({}))["cssContentSize"].take();
        let height = size["height"].as_f64().expect("a number").min(SHOT_HEIGHT_MAX);
        let clip = json!({ "x": 0, "y": 0, "width": size["width"], "height": height, "scale": 1 });
        let shot = json!({ "format": "png", "captureBeyondViewport": true, "clip": clip });
        let picture = text(&self.call("Page.captureScreenshot", shot)["data"]);
        let picture = BASE64_STANDARD.decode(picture).expect("base64");
        let path = screenshots().join(format!("{name}.png"));
        fs::create_dir_all(screenshots()).and_then(|()| fs::write(&path, picture)).expect("a place to write");
    }

    /// How much wider the page is than the screen, in pixels: more than none is hard to read.
    #[track_caller]
    pub(crate) fn overflow(&self) -> i64 {
        let wide = self.tell("document.documentElement.scrollWidth - document.documentElement.clientWidth");
        wide.as_i64().expect("a number")
    }
}

impl Drop for Tab {
    fn drop(&mut self) {
        // It may have gone with its profile.
        let _ = self.context.pipe().try_call(None, "Target.closeTarget", json!({ "targetId": self.target }));
    }
}

fn screenshots() -> PathBuf {
    let build = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().expect("the build's folder");
    build.join("screenshots")
}

// === impl Finding ===

impl Finding {
    fn read(violation: &Value) -> Finding {
        let places = violation["nodes"].as_array().into_iter().flatten();
        let place = |node: &Value| format!("{} {}", node["target"], node["failureSummary"]);
        Finding {
            rule: text(&violation["id"]),
            impact: violation["impact"].as_str().unwrap_or("minor").to_owned(),
            places: places.map(place).collect(),
        }
    }

    pub(crate) fn is_serious(&self) -> bool {
        self.impact == "serious" || self.impact == "critical"
    }
}
