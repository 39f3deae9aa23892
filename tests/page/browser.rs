//! A headless Chromium, spoken to as WebDriver has it (W3C), through chromedriver.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::skip::skip;

/// Far more than anything here takes.
const PATIENCE: Duration = Duration::from_mins(4);
const ACCESSIBILITY: &str = include_str!("vendor/axe.js");
/// An element's member of its JSON, by the standard.
const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";

/// A browser with one window; it ends with this.
pub(crate) struct Browser {
    driver: Child,
    /// Kept open: the driver goes on writing.
    _output: BufReader<ChildStdout>,
    session: String,
    http: reqwest::Client,
    _profile: TempDir,
}

impl Browser {
    /// A browser, if this machine has one.
    pub(crate) async fn open() -> Option<Self> {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let (http, profile) = (reqwest::Client::new(), tempfile::tempdir().unwrap());
        let driver = Command::new("chromedriver").arg("--port=0").stdout(Stdio::piped()).spawn();
        let Ok(mut driver) = driver else {
            skip("there is no `chromedriver`, of Debian's package chromium-driver, to look at the page with");
            return None;
        };
        let mut output = BufReader::new(driver.stdout.take().unwrap());
        let port = output.by_ref().lines().map_while(Result::ok).find_map(|line| {
            let rest = line.split("successfully on port ").nth(1)?;
            rest.trim_end_matches('.').parse::<u16>().ok()
        });
        let base = format!("http://127.0.0.1:{}/session", port.expect("it says its port"));
        let arguments = [
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--disable-dev-shm-usage",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--hide-scrollbars",
            &format!("--user-data-dir={}", profile.path().display()),
        ];
        let options = json!({ "browserName": "chrome", "goog:chromeOptions": { "args": arguments },
            "goog:loggingPrefs": { "browser": "ALL" } });
        let body = json!({ "capabilities": { "alwaysMatch": options } });
        let mut browser = Self { driver, _output: output, session: base, http, _profile: profile };
        let started = browser.command("", body).await;
        let id = started["sessionId"].as_str().unwrap_or_else(|| panic!("no browser: {started}"));
        browser.session = format!("{}/{id}", browser.session);
        Some(browser)
    }

    async fn command(&self, path: &str, body: Value) -> Value {
        let request = self.http.post(format!("{}{path}", self.session)).json(&body);
        let mut answer: Value = request.send().await.unwrap().json().await.unwrap();
        assert!(answer["value"]["error"].is_null(), "{path} {body}: {answer}");
        answer["value"].take()
    }

    pub(crate) async fn go(&self, url: &str) {
        self.command("/url", json!({ "url": url })).await;
    }

    /// What a function's body returns in the page.
    pub(crate) async fn script(&self, script: &str) -> Value {
        self.command("/execute/sync", json!({ "script": script, "args": [] })).await
    }

    /// Waits until an expression is true.
    pub(crate) async fn until(&self, expression: &str) {
        let started = Instant::now();
        while self.script(&format!("return !!({expression})")).await != true {
            if started.elapsed() > PATIENCE {
                let text = self.script("return location.href + '\\n' + document.body.innerText").await;
                panic!(
                    "`{expression}` does not come true: {}\n{:?}",
                    text.as_str().unwrap(),
                    self.complaints().await
                );
            }
            tokio::time::sleep(Duration::from_millis(30)).await;
        }
    }

    /// Waits until the page shows a text.
    pub(crate) async fn sees(&self, text: &str) {
        self.until(&format!("document.body.innerText.includes({})", json!(text))).await;
    }

    /// The element that a CSS selector finds first, once there is one.
    async fn element(&self, selector: &str) -> String {
        self.until(&format!("document.querySelector({})", json!(selector))).await;
        let found = self.command("/element", json!({ "using": "css selector", "value": selector })).await;
        found[ELEMENT].as_str().unwrap().to_owned()
    }

    /// Clicks the button or link with this text.
    pub(crate) async fn press(&self, text: &str) {
        let find = format!(
            "[...document.querySelectorAll('button, a')].find((one) => one.textContent.trim() === {} && !one.disabled)",
            json!(text)
        );
        self.until(&find).await;
        self.script(&format!("({find}).click()")).await;
    }

    /// Types into a field, as a keyboard does.
    pub(crate) async fn write(&self, selector: &str, text: &str) {
        let element = self.element(selector).await;
        self.command(&format!("/element/{element}/clear"), json!({})).await;
        self.command(&format!("/element/{element}/value"), json!({ "text": text })).await;
    }

    /// Chooses of a list.
    pub(crate) async fn choose(&self, selector: &str, value: &str) {
        self.element(selector).await;
        let (selector, value) = (json!(selector), json!(value));
        self.script(&format!(
            "const list = document.querySelector({selector}); list.value = {value}; \
             list.dispatchEvent(new Event('change', {{ bubbles: true }}))"
        ))
        .await;
    }

    /// What the browser complained of since the last time: errors and warnings.
    pub(crate) async fn complaints(&self) -> Vec<String> {
        let log = self.command("/se/log", json!({ "type": "browser" })).await;
        let lines = log.as_array().cloned().unwrap_or_default();
        let bad = lines.iter().filter(|line| line["level"] == "SEVERE" || line["level"] == "WARNING");
        bad.map(|line| line["message"].as_str().unwrap_or_default().to_owned()).collect()
    }

    /// What axe finds that keeps people out, in words; nothing if all can use the page as it is now.
    pub(crate) async fn barriers(&self) -> Vec<String> {
        self.script(ACCESSIBILITY).await;
        let run = "const done = arguments[arguments.length - 1]; axe.run().then((found) => done(found.violations.map( \
            (one) => `${one.id}: ${one.help}: ${one.nodes.map((node) => node.html.slice(0, 160) + ' ' + node.failureSummary).join(' | ')}`)))";
        let found = self.command("/execute/async", json!({ "script": run, "args": [] })).await;
        found.as_array().unwrap().iter().map(|one| one.as_str().unwrap().to_owned()).collect()
    }

    async fn devtools(&self, command: &str, parameters: Value) -> Value {
        self.command("/goog/cdp/execute", json!({ "cmd": command, "params": parameters })).await
    }

    /// Gives the window another size, and the page another theme.
    pub(crate) async fn looks(&self, width: u32, dark: bool) {
        let size = json!({ "width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500 });
        self.devtools("Emulation.setDeviceMetricsOverride", size).await;
        let theme = json!([{ "name": "prefers-color-scheme", "value": if dark { "dark" } else { "light" } }]);
        self.devtools("Emulation.setEmulatedMedia", json!({ "features": theme })).await;
    }

    /// The page as a PNG file, down to two screens and a half.
    pub(crate) async fn picture(&self, file: &Path) {
        let size = "return [innerWidth, Math.min(document.documentElement.scrollHeight, 2200)]";
        let size = self.script(size).await;
        let clip = json!({ "x": 0, "y": 0, "width": size[0], "height": size[1], "scale": 1 });
        let shot = json!({ "format": "png", "captureBeyondViewport": true, "clip": clip });
        let shot = self.devtools("Page.captureScreenshot", shot).await;
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(file, STANDARD.decode(shot["data"].as_str().unwrap()).unwrap()).unwrap();
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // the driver ends the browser when its session is ended, and not when it is ended itself
        let (address, path) = self.session.trim_start_matches("http://").split_once('/').unwrap();
        if let Ok(mut stream) = TcpStream::connect(address) {
            let _ = stream.set_read_timeout(Some(Duration::from_secs(10)));
            let _ = write!(stream, "DELETE /{path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n");
            let _ = stream.read_to_end(&mut vec![]);
        }
        let _ = self.driver.kill();
        let _ = self.driver.wait();
    }
}
