//! The development loop, both ways: `cargo run -- dev`, with a page that follows it in a real browser, and cargo-watch below
//! systemfd.

use std::path::Path;
use std::time::Duration;

use slackwater_tests::addr::Addr;
use slackwater_tests::browser::Browser;
use slackwater_tests::conn::{Conn, Fate, PATIENCE};
use slackwater_tests::lineage::signal_to;
use slackwater_tests::load::{Load, Pattern};
use slackwater_tests::process::{Process, Signal};
use slackwater_tests::project::{answers, Project, BUILD};
use slackwater_tests::tally::Failure;
use slackwater_tests::tools::{cargo_watch, or_skip, systemfd};
use slackwater_tests::wait;

use crate::help::free_addr;

/// A page with a policy that lets only its own scripts run, a stream that never ends, and a template that is read at
/// start.
const MAIN: &str = r##"use slackwater::prelude::*;

#[derive(serde::Deserialize)]
#[serde(default)]
struct Settings { greeting: String }

impl Default for Settings {
    fn default() -> Self { Settings { greeting: "unset".into() } }
}

#[slackwater::main]
async fn app(settings: Settings) -> slackwater::Result<App> {
    let template = std::fs::read_to_string("templates/page.html")?;
    let page = template.replace("TEXT", "the first").replace("GREETING", &settings.greeting);
    let page = page.replace("PID", &std::process::id().to_string());
    let mut app = App::new();
    app.at("/").get(move |_| {
        let page = page.clone();
        async move {
            let policy = "default-src 'none'; connect-src 'self'; script-src 'nonce-c2xhY2s='";
            let page = tide::Response::builder(200).body(page).content_type(tide::http::mime::HTML);
            Ok(page.header("Content-Security-Policy", policy).build())
        }
    });
    app.at("/events").get(tide::sse::endpoint(|_, sender| async move {
        sender.send("tick", "x", None).await?;
        std::future::pending().await
    }));
    Ok(app)
}
"##;

const TEMPLATE: &str =
    "<!doctype html>\n<title>T</title>\n<body><h1>TEXT</h1><p>GREETING</p><i>PID</i></body>\n";

/// A build that lasts as long as there is the file `hold`.
const HOLD: &str = r#"fn main() {
    println!("cargo:rerun-if-changed=src/main.rs");
    while std::path::Path::new("hold").exists() {
        std::fs::write("held", "").unwrap();
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
}
"#;

fn project(name: &str) -> Project {
    let project = Project::new(name, MAIN);
    project.edit(
        "Cargo.toml",
        "[profile.dev]",
        "serde = { version = \"1\", features = [\"derive\"] }\n\n[profile.dev]",
    );
    project.write("templates/page.html", TEMPLATE);
    project.write("slackwater.toml", "listen = \"127.0.0.1:0\"\n");
    project
}

fn develop(project: &Project) -> (Process, Addr) {
    let mut process = project
        .launch(Path::new("cargo"), &["run", "--quiet", "--", "dev"])
        .start();
    let addr = answers(&mut process);
    (process, addr)
}

/// Waits for a page with this text, and gives it.
fn page_with(process: &Process, addr: &Addr, text: &str) -> String {
    let page = wait::maybe(BUILD, || {
        let answer = Conn::open(addr).and_then(|mut conn| conn.ask("/")).ok()?;
        Some(answer.text()).filter(|page| page.contains(text))
    });
    page.unwrap_or_else(|| panic!("no page has {text:?}; its output:\n{}", process.log()))
}

/// As [`Process::wait_for_log`], for what comes after a build.
fn said(process: &Process, mark: usize, text: &str) -> String {
    let line = || {
        process
            .log_since(mark)
            .lines()
            .find(|line| line.contains(text))
            .map(str::to_owned)
    };
    wait::maybe(BUILD, line)
        .unwrap_or_else(|| panic!("does not say {text:?}; its output:\n{}", process.log()))
}

/// A stream that does not end by itself.
fn event_stream(addr: &Addr) -> Conn {
    let mut events = Conn::open(addr).unwrap();
    events.get("/events").unwrap();
    events.head().unwrap();
    events.chunk().unwrap();
    events
}

#[test]
fn changed_code_is_swapped_in_while_the_code_before_serves_and_nobody_waits_for_the_build() {
    let project = project("dev-swap");
    project.write("build.rs", HOLD);
    let (mut process, addr) = develop(&project);
    let load = Load::on(&addr)
        .clients(2, Pattern::NewConnection)
        .clients(2, Pattern::KeepAlive)
        .at_most(BUILD)
        .start();
    load.wait_for(20, PATIENCE);

    // code that does not build, code that does not start, code that is right
    let mark = process.mark();
    project.edit("src/main.rs", "Ok(app)", "Ok(ap)");
    said(&process, mark, "the build failed");
    assert!(
        process.log_since(mark).contains("cannot find value `ap`"),
        "{}",
        process.log()
    );
    let mark = process.mark();
    project.edit("src/main.rs", "Ok(ap)", "Err(\"no database\".into())");
    said(&process, mark, "The new code does not start");
    page_with(&process, &addr, "the first");
    let mark = process.mark();
    let mut events = event_stream(&addr);
    project.write("hold", "");
    project.edit("src/main.rs", "Err(\"no database\".into())", "Ok(app)");
    project.edit("src/main.rs", "the first", "the second");
    wait::until(BUILD, "the build goes on", || {
        project.root().join("held").exists().then_some(())
    });
    load.wait_for(20, PATIENCE);
    page_with(&process, &addr, "the first");
    let fate = events.fate(Duration::ZERO);
    assert!(
        matches!(fate, Fate::KeptOpen | Fate::Sent(_)),
        "{fate:?}\n{}",
        process.log()
    );
    std::fs::remove_file(project.root().join("hold")).unwrap();
    said(&process, mark, "swapped, pid");
    // the very next answer is the new code's
    assert!(Conn::open(&addr)
        .and_then(|mut conn| conn.ask("/"))
        .unwrap()
        .text()
        .contains("the second"));

    load.wait_for(20, PATIENCE);
    load.stop().assert_flawless();
    process.signal(Signal::INT);
    assert_eq!(
        process.wait_exit(PATIENCE).code(),
        Some(0),
        "{}",
        process.log()
    );
}

#[test]
fn settings_are_read_again_without_a_build_and_templates_after_one_that_changes_nothing() {
    let project = project("dev-settings");
    let (process, addr) = develop(&project);
    let first = page_with(&process, &addr, "unset");
    assert!(
        first.contains("nonce=\"c2xhY2s=\"></script></body>"),
        "{first}"
    );

    let mark = process.mark();
    project.write(
        "slackwater.toml",
        "listen = \"127.0.0.1:0\"\n[http]\nidle_timeot = \"1s\"\n",
    );
    let refused = said(&process, mark, "the settings are refused");
    assert!(refused.contains("idle_timeot: unknown key"), "{refused}");
    let mark = process.mark();
    project.write(
        "slackwater.toml",
        "listen = \"127.0.0.1:0\"\n[app]\ngreeting = \"set\"\n",
    );
    page_with(&process, &addr, "<p>set</p>");
    project.write(
        "templates/page.html",
        &TEMPLATE.replace("<h1>", "<h1 id=\"a\">"),
    );
    page_with(&process, &addr, "<h1 id=\"a\">");
    assert!(
        !process.log_since(mark).contains("swapped"),
        "{}",
        process.log()
    );
}

#[test]
fn a_program_that_ended_is_started_again_with_the_next_change_on_the_same_socket() {
    let project = project("dev-crash");
    project.edit(
        "src/main.rs",
        "app.at(\"/events\")",
        "app.at(\"/end\").get(|_| async { if true { std::process::exit(7) } Ok(String::new()) });\n    app.at(\"/events\")",
    );
    project.write(
        "slackwater.toml",
        "listen = \"127.0.0.1:0\"\n[upgrade]\nrollback_window = \"60s\"\n",
    );
    let (mut process, addr) = develop(&project);
    let mark = process.mark();
    let _ = Conn::open(&addr).and_then(|mut conn| conn.ask("/end"));
    said(&process, mark, "the program exited with status 7");
    // nobody is refused: this one waits in the socket
    let mut waits = Conn::open_patient(&addr, BUILD).unwrap();
    waits.get("/").unwrap();
    project.edit("src/main.rs", "the first", "the second");
    assert!(
        waits.answer().unwrap().text().contains("the second"),
        "{}",
        process.log()
    );

    // one that dies while its successor is on trial is not waited for
    let page = page_with(&process, &addr, "the second");
    let before = page
        .split(['<', '>'])
        .skip_while(|piece| *piece != "i")
        .nth(1)
        .unwrap();
    let mark = process.mark();
    project.edit("src/main.rs", "the second", "the third");
    said(&process, mark, "swapped, pid");
    assert!(
        signal_to(before.parse().unwrap(), Signal::KILL),
        "{}",
        process.log()
    );
    project.edit("src/main.rs", "the third", "the fourth");
    page_with(&process, &addr, "the fourth");

    // what is started by a loop that is gone goes too
    process.kill();
    wait::until(PATIENCE, "the program ends with the loop", || {
        Conn::open(&addr).is_err().then_some(())
    });
}

#[test]
fn an_open_page_follows_the_code_and_shows_what_is_wrong_with_it() {
    let Some(browser) = or_skip(Browser::start()) else {
        return;
    };
    let project = project("dev-page");
    let (process, addr) = develop(&project);
    browser.open(&format!("http://{addr}/"));
    browser.until(
        PATIENCE,
        "return document.querySelector('h1').textContent === 'the first'",
    );
    project.edit("src/main.rs", "Ok(app)", "Ok(ap)");
    let shown =
        "const it = document.querySelector('slackwater-dev'); return !!it && it.textContent.includes(";
    browser.until(
        BUILD,
        &format!("{shown}'cannot find value `ap` in this scope')"),
    );
    assert_eq!(
        browser.run("return document.querySelector('h1').textContent"),
        "the first"
    );
    project.edit("src/main.rs", "Ok(ap)", "Ok(app)");
    browser.until(BUILD, "return !document.querySelector('slackwater-dev')");

    let mark = process.mark();
    project.edit("src/main.rs", "the first", "the second");
    browser.until(
        BUILD,
        "return document.querySelector('h1').textContent === 'the second'",
    );
    let times = said(&process, mark, "a page shows it");
    assert!(
        ["build", "start", "swap", "reload"]
            .iter()
            .all(|step| times.contains(step)),
        "{times}"
    );

    project.write(
        "slackwater.toml",
        "listen = \"127.0.0.1:0\"\n[app]\ngreeting = \"set\"\n",
    );
    browser.until(
        BUILD,
        "return document.querySelector('p').textContent === 'set'",
    );
    assert_eq!(
        browser.run("return document.querySelector('slackwater-dev')"),
        serde_json::Value::Null
    );
}

/// What is lost when cargo-watch starts the program anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Loss {
    Nothing,
    /// What was being answered at that moment: one request of each client.
    InFlight,
}

/// Has cargo-watch 8.5.3 below systemfd run the program, and changes it while clients ask and a stream is open.
fn watched(name: &str, watch_flags: &[&str], loss: Loss) {
    let tools = or_skip(systemfd()).zip(or_skip(cargo_watch()));
    let Some((systemfd, watch)) = tools else {
        return;
    };
    let project = project(name);
    // its own settings are for where nobody passes a socket
    let addr = free_addr();
    let path = std::env::var("PATH").unwrap_or_default();
    let tools = format!("{}:{path}", watch.parent().unwrap().display());
    let socket = format!("http::{addr}");
    let command = [
        &["--no-pid", "-s", &socket, "--", "cargo", "watch"],
        watch_flags,
    ]
    .concat();
    let mut process = project
        .launch(&systemfd, &command)
        .env("PATH", tools)
        .start();
    page_with(&process, &addr, "the first");
    let load = Load::on(&addr)
        .clients(2, Pattern::NewConnection)
        .patience(BUILD)
        .at_most(BUILD)
        .start();
    load.wait_for(20, PATIENCE);
    let _events = event_stream(&addr);

    project.edit("src/main.rs", "the first", "the second");
    page_with(&process, &addr, "the second");
    // every answer after the first new one is new
    assert!(Conn::open(&addr)
        .and_then(|mut conn| conn.ask("/"))
        .unwrap()
        .text()
        .contains("the second"));
    load.wait_for(20, PATIENCE);
    let tally = load.stop();
    let cut = tally.count(Failure::Reset)
        + tally.count(Failure::ClosedBeforeAnswer)
        + tally.count(Failure::CutInTheMiddle);
    let most = if loss == Loss::InFlight { 2 } else { 0 };
    assert!(
        tally.failed() == cut && cut <= most,
        "{tally}\n{}",
        process.log()
    );
    process.signal(Signal::TERM);
    process.wait_exit(PATIENCE);
    wait::until(PATIENCE, "the program ends with cargo-watch", || {
        Conn::open(&addr).is_err().then_some(())
    });
}

#[test]
fn systemfd_and_cargo_watch_restart_it_and_nobody_is_refused() {
    // a shell stands between the two, dies of the TERM that is meant for both, and cargo-watch kills what is left
    watched("dev-watch", &["-x", "run --quiet"], Loss::InFlight);
}

#[test]
fn cargo_watch_waits_for_a_program_that_no_shell_stands_before_and_nothing_is_lost() {
    watched(
        "dev-watch-exec",
        &["-s", "exec cargo run --quiet"],
        Loss::Nothing,
    );
}
