//! Headless Chromium: a page as it is seen at some width, and what it did meanwhile.
//!
//! Speaks the `DevTools` protocol over two pipes, so no port is opened. Judges nothing. The browser has a
//! profile of its own, is started here, and is ended by its pid.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use nix::unistd::geteuid;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::picture::decode_base64;
use super::process::{PATIENCE, wait_for};

/// How long a page may go on after it was loaded.
const SETTLING: Duration = Duration::from_millis(250);

/// A page as it was seen.
#[derive(Clone, Debug)]
pub struct Shot {
    /// The whole page, from top to bottom.
    pub png: Vec<u8>,
    /// Errors and warnings on the console, refusals of its policy, exceptions.
    pub console_errors: Vec<String>,
    /// What it asked for beside itself.
    pub requests: Vec<String>,
    /// Pixels that it is wider than the window.
    pub overflow: i64,
    /// What the expression of [`View::ask`] gave.
    pub answer: Value,
}

/// How a page is looked at.
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    /// Width of the window, in pixels.
    pub width: u32,
    /// Whether the reader prefers dark pages.
    pub dark: bool,
    /// Whether scripts run.
    pub scripts: bool,
    /// An expression in JavaScript, asked when all is loaded, before the picture is taken.
    pub ask: &'a str,
}

impl View<'_> {
    /// Light, with scripts.
    pub const fn wide(width: u32) -> Self {
        Self { width, dark: false, scripts: true, ask: "null" }
    }
}

/// Looks at one page in a browser of its own.
///
/// # Errors
/// When there is no browser, or it does not do what it is told.
pub fn shoot(html: &Path, width: u32) -> Result<Shot> {
    Browser::start()?.shoot(html, View::wide(width))
}

/// A browser; ended when dropped.
pub struct Browser {
    child: Child,
    commands: ChildStdin,
    messages: Receiver<Value>,
    /// Events that came before an answer.
    events: VecDeque<Value>,
    next: u64,
    session: String,
    _profile: TempDir,
}

impl Browser {
    /// Starts it, with an empty page.
    ///
    /// # Errors
    /// When it is not installed or does not answer.
    pub fn start() -> Result<Self> {
        let profile = tempfile::tempdir().context("a profile's directory")?;
        // The protocol's pipes are descriptors 3 and 4.
        let mut command = Command::new("sh");
        command.args(["-c", "exec \"$@\" 3<&0 4>&1 </dev/null >/dev/null", "sh", "chromium"]);
        command.args(["--headless=new", "--disable-gpu", "--remote-debugging-pipe"]);
        command.args([
            "--disable-background-networking",
            "--no-first-run",
            "--force-color-profile=srgb",
        ]);
        command.arg(format!("--user-data-dir={}", profile.path().display()));
        if geteuid().is_root() {
            command.arg("--no-sandbox");
        }
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.arg("about:blank").spawn().context("starting chromium by sh")?;
        let commands = child.stdin.take().context("the browser's commands")?;
        let output = BufReader::new(child.stdout.take().context("the browser's messages")?);
        let (sender, messages) = channel();
        std::thread::spawn(move || {
            let parts = output.split(0).map_while(Result::ok);
            for message in parts.filter_map(|part| serde_json::from_slice(&part).ok()) {
                if sender.send(message).is_err() {
                    break;
                }
            }
        });
        let (events, session) = (VecDeque::new(), String::new());
        let mut browser =
            Self { child, commands, messages, events, next: 0, session, _profile: profile };
        browser.attach().context(
            "chromium does not answer; is it installed? `cargo xtask setup` does that, and \
             `chromium --headless --dump-dom about:blank` tells more",
        )?;
        Ok(browser)
    }

    fn attach(&mut self) -> Result<()> {
        let target = self.call("Target.createTarget", &json!({"url": "about:blank"}))?;
        let attach = json!({"targetId": target["targetId"], "flatten": true});
        let attached = self.call("Target.attachToTarget", &attach)?;
        attached["sessionId"].as_str().context("no session")?.clone_into(&mut self.session);
        for domain in ["Page", "Runtime", "Log", "Network"] {
            self.call(&format!("{domain}.enable"), &json!({}))?;
        }
        Ok(())
    }

    /// Looks at a page.
    ///
    /// # Errors
    /// When it cannot be loaded.
    pub fn shoot(&mut self, html: &Path, view: View<'_>) -> Result<Shot> {
        let path = html.canonicalize().with_context(|| html.display().to_string())?;
        let url = format!("file://{}", path.to_str().context("a path in UTF-8")?);
        let plain = |c: char| c.is_ascii_alphanumeric() || "/._-:".contains(c);
        ensure!(url.chars().all(plain), "{url} would have to be escaped");
        self.prepare(view)?;
        self.call("Page.navigate", &json!({"url": "about:blank"}))?;
        self.wait_for("Page.loadEventFired")?;
        self.events.clear();
        let went = self.call("Page.navigate", &json!({"url": url}))?;
        ensure!(went.get("errorText").is_none(), "{url}: {went}");
        let mut seen = self.wait_for("Page.loadEventFired")?;
        std::thread::sleep(SETTLING);
        let wide = "document.documentElement.scrollWidth - window.innerWidth";
        let overflow = self.evaluate(wide)?.as_i64().context("no width")?;
        let answer = self.evaluate(view.ask)?;
        let png = self.picture(view.width)?;
        seen.extend(self.events.drain(..));
        Ok(Shot {
            png,
            console_errors: seen.iter().filter_map(console_error).collect(),
            requests: requests(&seen, &url),
            overflow: overflow.max(0),
            answer,
        })
    }

    fn prepare(&mut self, view: View<'_>) -> Result<()> {
        let size =
            json!({"width": view.width, "height": 900, "deviceScaleFactor": 1, "mobile": false});
        self.call("Emulation.setDeviceMetricsOverride", &size)?;
        let scheme = if view.dark { "dark" } else { "light" };
        let features = json!([{"name": "prefers-color-scheme", "value": scheme}]);
        self.call("Emulation.setEmulatedMedia", &json!({"features": features}))?;
        self.call("Emulation.setScriptExecutionDisabled", &json!({"value": !view.scripts}))?;
        Ok(())
    }

    fn picture(&mut self, width: u32) -> Result<Vec<u8>> {
        let metrics = self.call("Page.getLayoutMetrics", &json!({}))?;
        let height = &metrics["cssContentSize"]["height"];
        let clip = json!({"x": 0, "y": 0, "width": width, "height": height, "scale": 1});
        let taken = json!({"format": "png", "captureBeyondViewport": true, "clip": clip});
        let taken = self.call("Page.captureScreenshot", &taken)?;
        decode_base64(taken["data"].as_str().context("no picture")?)
    }

    fn evaluate(&mut self, expression: &str) -> Result<Value> {
        let asked = json!({"expression": expression, "returnByValue": true, "awaitPromise": true});
        let told = self.call("Runtime.evaluate", &asked)?;
        ensure!(told.get("exceptionDetails").is_none(), "{expression}: {told}");
        Ok(told["result"]["value"].clone())
    }

    /// Sends a command and waits for its answer.
    fn call(&mut self, method: &str, parameters: &Value) -> Result<Value> {
        self.next += 1;
        let mut message = json!({"id": self.next, "method": method, "params": parameters});
        if !self.session.is_empty() {
            message["sessionId"] = json!(self.session);
        }
        let mut bytes = serde_json::to_vec(&message)?;
        bytes.push(0);
        self.commands
            .write_all(&bytes)
            .with_context(|| format!("{method}: the browser is gone"))?;
        loop {
            let mut message = self.read(method)?;
            if message["id"] == json!(self.next) {
                ensure!(message.get("error").is_none(), "{method}: {message}");
                return Ok(message["result"].take());
            }
            self.events.push_back(message);
        }
    }

    /// Waits for an event; returns those before it, too.
    fn wait_for(&mut self, method: &str) -> Result<Vec<Value>> {
        let start = Instant::now();
        let mut seen = Vec::new();
        loop {
            let event = match self.events.pop_front() {
                Some(event) => event,
                None => self.read(method)?,
            };
            let is_it = event["method"] == json!(method);
            seen.push(event);
            if is_it {
                return Ok(seen);
            }
            ensure!(start.elapsed() < PATIENCE, "no {method} in {PATIENCE:?}");
        }
    }

    fn read(&mut self, what: &str) -> Result<Value> {
        match self.messages.recv_timeout(PATIENCE) {
            Ok(message) => Ok(message),
            Err(error) => bail!("{what}: the browser says nothing: {error}"),
        }
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        self.session.clear();
        let asked = self.call("Browser.close", &json!({})).is_ok();
        let limit = Duration::from_secs(if asked { 10 } else { 0 });
        let ended = wait_for(limit, || !matches!(self.child.try_wait(), Ok(None)));
        if !ended {
            let _gone = self.child.kill();
            let _reaped = self.child.wait();
        }
    }
}

/// What of an event is an error of the page.
fn console_error(event: &Value) -> Option<String> {
    let told = &event["params"];
    let is_bad = |level: &Value| ["error", "warning", "assert"].iter().any(|bad| level == bad);
    match event["method"].as_str()? {
        "Runtime.consoleAPICalled" if is_bad(&told["type"]) => Some(told["args"].to_string()),
        "Runtime.exceptionThrown" => Some(told["exceptionDetails"].to_string()),
        "Log.entryAdded" if is_bad(&told["entry"]["level"]) => {
            Some(told["entry"]["text"].to_string())
        }
        _ => None,
    }
}

/// What was asked for beside the page.
fn requests(events: &[Value], page: &str) -> Vec<String> {
    let sent = events.iter().filter(|event| event["method"] == "Network.requestWillBeSent");
    let urls = sent.filter_map(|event| event["params"]["request"]["url"].as_str());
    urls.filter(|url| *url != page).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_and_requests_are_told_apart_from_the_rest() {
        let event = |method: &str, params: Value| json!({"method": method, "params": params});
        let called =
            |kind: &str| event("Runtime.consoleAPICalled", json!({"type": kind, "args": ["x"]}));
        assert_eq!(console_error(&called("error")).as_deref(), Some("[\"x\"]"));
        assert_eq!(console_error(&called("log")), None);
        let sent = |url: &str| event("Network.requestWillBeSent", json!({"request": {"url": url}}));
        let events = [sent("file:///a"), called("error"), sent("http://b/")];
        assert_eq!(requests(&events, "file:///a"), ["http://b/"]);
    }
}
