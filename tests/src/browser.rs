//! A real browser: headless Chromium, controlled over WebDriver (<https://www.w3.org/TR/webdriver2/>).

use std::fs::File;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::{json, Value};

use crate::addr::Addr;
use crate::conn::Conn;
use crate::dir::Dir;
use crate::tools;
use crate::wait;

/// The longest time in which a browser starts on a machine that is busy with other tests.
const START: Duration = Duration::from_secs(60);

/// Chromium's flags: no window, no background network traffic.
const FLAGS: [&str; 8] = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
];

/// A browser with one page. `Drop` ends it.
#[derive(Debug)]
pub struct Browser {
    driver: Child,
    addr: Addr,
    session: String,
    _profile: Dir,
}

impl Browser {
    /// Starts the browser.
    ///
    /// # Errors
    ///
    /// Returns the missing package if Debian's chromium or chromium-driver is not installed.
    ///
    /// # Panics
    ///
    /// Panics if the browser is installed and does not start.
    pub fn start() -> Result<Self, String> {
        let (chromium, driver) = tools::chromium()?;
        let profile = Dir::new();
        let output = File::create(profile.path().join("output")).expect("a file for its output");
        let mut command = Command::new(driver);
        command
            .arg("--port=0")
            .stdin(Stdio::null())
            .stdout(output)
            .stderr(Stdio::null());
        let driver = command.spawn().expect("chromedriver starts");
        let port = wait::until(START, "chromedriver prints its port", || {
            let output = profile.read("output");
            output
                .rsplit_once("on port ")?
                .1
                .split_once('.')?
                .0
                .trim()
                .parse::<u16>()
                .ok()
        });
        let addr = Addr::Tcp(([127, 0, 0, 1], port).into());
        let mut args: Vec<String> = FLAGS.iter().map(|flag| (*flag).to_owned()).collect();
        args.push(format!(
            "--user-data-dir={}",
            profile.path().join("user").display()
        ));
        let options = json!({ "binary": chromium, "args": args });
        let capabilities = json!({ "capabilities": { "alwaysMatch": { "browserName": "chrome", "goog:chromeOptions": options } } });
        let mut browser = Browser {
            driver,
            addr,
            session: String::new(),
            _profile: profile,
        };
        let session = browser.command("POST", "/session", &capabilities);
        browser.session = session["sessionId"].as_str().expect("a session").to_owned();
        Ok(browser)
    }

    /// Opens a page.
    pub fn open(&self, url: &str) {
        self.command("POST", &self.path("url"), &json!({ "url": url }));
    }

    /// Runs the body of a function in the page. Returns its result, or null if the page is being replaced.
    #[must_use]
    pub fn run(&self, script: &str) -> Value {
        self.try_command(
            "POST",
            &self.path("execute/sync"),
            &json!({ "script": script, "args": [] }),
        )
        .unwrap_or_default()
    }

    /// Waits until `script` returns `true` in the page.
    ///
    /// # Panics
    ///
    /// Panics if that takes longer than `within`.
    pub fn until(&self, within: Duration, script: &str) {
        let page = "return document.documentElement.outerHTML";
        wait::maybe(within, || (self.run(script) == true).then_some(())).unwrap_or_else(|| {
            panic!(
                "{script} did not return true within {within:?}; the page:\n{}",
                self.run(page)
            )
        });
    }

    fn path(&self, command: &str) -> String {
        format!("/session/{}/{command}", self.session)
    }

    fn command(&self, method: &str, path: &str, body: &Value) -> Value {
        self.try_command(method, path, body)
            .unwrap_or_else(|error| panic!("{method} {path}: {error}"))
    }

    fn try_command(&self, method: &str, path: &str, body: &Value) -> Result<Value, String> {
        let body = body.to_string();
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        let answer = Conn::open_patient(&self.addr, START)
            .and_then(|mut conn| {
                conn.send(request)?;
                conn.answer()
            })
            .map_err(|failure| format!("{failure:?}"))?;
        match answer.status {
            200 => Ok(answer.json()["value"].clone()),
            _ => Err(answer.text()),
        }
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // the end of the session ends the browser; killing the driver alone would leave it running
        let _ = self.try_command("DELETE", &format!("/session/{}", self.session), &json!({}));
        let _ = self.driver.kill();
        let _ = self.driver.wait();
    }
}
