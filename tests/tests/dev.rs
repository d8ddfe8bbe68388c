//! The two development loops: `cargo run -- dev`, whose pages reload in a real browser, and cargo-watch below systemfd.

use std::path::Path;
use std::time::Duration;

use slackwater_tests::addr::Addr;
use slackwater_tests::browser::Browser;
use slackwater_tests::conn::{Conn, SocketState, PATIENCE};
use slackwater_tests::load::{Load, Pattern};
use slackwater_tests::process::{Process, Signal};
use slackwater_tests::process_chain::signal_to;
use slackwater_tests::project::{answers, Project, BUILD};
use slackwater_tests::tally::Failure;
use slackwater_tests::tools::{cargo_watch, or_skip, systemfd};
use slackwater_tests::wait;

use crate::help::free_addr;

/// The program: a page whose Content-Security-Policy allows only scripts with its nonce, an endless stream, and a
/// template that is read at the start.
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

/// A build script that runs as long as the file `hold` exists.
const HOLD: &str = r#"fn main() {
    println!("cargo:rerun-if-changed=src/main.rs");
    while std::path::Path::new("hold").exists() {
        std::fs::write("held", "").unwrap();
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
}
"#;

/// Creates a project with the program and a page template.
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

/// Starts `cargo run -- dev` and waits for the first answer.
fn develop(project: &Project) -> (Process, Addr) {
    let mut process = project
        .launch(Path::new("cargo"), &["run", "--quiet", "--", "dev"])
        .start();
    let addr = answers(&mut process);
    (process, addr)
}

/// Waits until the page contains a text and returns the page.
fn page_with(process: &Process, addr: &Addr, text: &str) -> String {
    let page = wait::maybe(BUILD, || {
        let answer = Conn::open(addr).and_then(|mut conn| conn.fetch("/")).ok()?;
        Some(answer.text()).filter(|page| page.contains(text))
    });
    page.unwrap_or_else(|| panic!("no page contains {text:?}; the output:\n{}", process.log()))
}

/// Waits as [`Process::wait_for_log`] does, but long enough for a build.
fn wait_for_log(process: &Process, mark: usize, text: &str) -> String {
    let line = || {
        process
            .log_since(mark)
            .lines()
            .find(|line| line.contains(text))
            .map(str::to_owned)
    };
    wait::maybe(BUILD, line)
        .unwrap_or_else(|| panic!("no line contains {text:?}; the output:\n{}", process.log()))
}

/// Opens the endless stream and reads its first chunk.
fn event_stream(addr: &Addr) -> Conn {
    let mut events = Conn::open(addr).unwrap();
    events.get("/events").unwrap();
    events.head().unwrap();
    events.chunk().unwrap();
    events
}

#[test]
fn dev_serves_the_old_code_during_a_build_and_then_swaps_in_the_new_code() {
    let project = project("dev-swap");
    project.write("build.rs", HOLD);
    let (mut process, addr) = develop(&project);
    let load = Load::on(&addr)
        .clients(2, Pattern::NewConnection)
        .clients(2, Pattern::KeepAlive)
        .at_most(BUILD)
        .start();
    load.wait_for(20, PATIENCE);

    // first code that does not compile, then code that does not start, then correct code
    let mark = process.mark();
    project.edit("src/main.rs", "Ok(app)", "Ok(ap)");
    wait_for_log(&process, mark, "the build failed");
    assert!(
        process.log_since(mark).contains("cannot find value `ap`"),
        "{}",
        process.log()
    );
    let mark = process.mark();
    project.edit("src/main.rs", "Ok(ap)", "Err(\"no database\".into())");
    wait_for_log(&process, mark, "The new code does not start");
    page_with(&process, &addr, "the first");
    let mark = process.mark();
    let mut events = event_stream(&addr);
    project.write("hold", "");
    project.edit("src/main.rs", "Err(\"no database\".into())", "Ok(app)");
    project.edit("src/main.rs", "the first", "the second");
    wait::until(BUILD, "the build script runs", || {
        project.root().join("held").exists().then_some(())
    });
    load.wait_for(20, PATIENCE);
    page_with(&process, &addr, "the first");
    let fate = events.state_after(Duration::ZERO);
    assert!(
        matches!(fate, SocketState::Open | SocketState::Sent(_)),
        "{fate:?}\n{}",
        process.log()
    );
    std::fs::remove_file(project.root().join("hold")).unwrap();
    wait_for_log(&process, mark, "the new build is live as pid");
    // the next answer already comes from the new code
    assert!(Conn::open(&addr)
        .and_then(|mut conn| conn.fetch("/"))
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
fn dev_reloads_settings_without_a_build_and_templates_after_a_build_without_changes() {
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
    let refused = wait_for_log(&process, mark, "the settings are refused");
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
        !process.log_since(mark).contains("the new build is live"),
        "{}",
        process.log()
    );
}

#[test]
fn dev_starts_a_program_that_exited_again_after_the_next_change_on_the_same_socket() {
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
    let _ = Conn::open(&addr).and_then(|mut conn| conn.fetch("/end"));
    wait_for_log(&process, mark, "the program exited with status 7");
    // the connection is not refused: it waits in the accept queue of the socket
    let mut waiting = Conn::open_patient(&addr, BUILD).unwrap();
    waiting.get("/").unwrap();
    project.edit("src/main.rs", "the first", "the second");
    assert!(
        waiting.answer().unwrap().text().contains("the second"),
        "{}",
        process.log()
    );

    // the old process dies before the upgrade is confirmed: the next swap does not wait for it
    let page = page_with(&process, &addr, "the second");
    let old = page
        .split(['<', '>'])
        .skip_while(|piece| *piece != "i")
        .nth(1)
        .unwrap();
    let mark = process.mark();
    project.edit("src/main.rs", "the second", "the third");
    wait_for_log(&process, mark, "the new build is live as pid");
    assert!(
        signal_to(old.parse().unwrap(), Signal::KILL),
        "{}",
        process.log()
    );
    project.edit("src/main.rs", "the third", "the fourth");
    page_with(&process, &addr, "the fourth");

    // the program exits if `dev` is killed
    process.kill();
    wait::until(PATIENCE, "the program exits after `dev`", || {
        Conn::open(&addr).is_err().then_some(())
    });
}

#[test]
fn an_open_page_shows_compiler_errors_and_reloads_after_a_swap() {
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
    let times = wait_for_log(&process, mark, "a page shows the change");
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

/// Requests that may fail when cargo-watch restarts the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Loss {
    Nothing,
    /// The requests in progress: at most one of each client.
    InFlight,
}

/// Runs the program with cargo-watch 8.5.3 below systemfd, and changes its code under load and with an open stream.
fn check_cargo_watch(name: &str, watch_flags: &[&str], loss: Loss) {
    let tools = or_skip(systemfd()).zip(or_skip(cargo_watch()));
    let Some((systemfd, watch)) = tools else {
        return;
    };
    let project = project(name);
    // the `listen` of its settings is not used, because systemfd passes a socket
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
    // after the first answer of the new code, every answer comes from the new code
    assert!(Conn::open(&addr)
        .and_then(|mut conn| conn.fetch("/"))
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
    wait::until(PATIENCE, "the program exits with cargo-watch", || {
        Conn::open(&addr).is_err().then_some(())
    });
}

#[test]
fn cargo_watch_below_systemfd_restarts_the_program_and_refuses_no_connection() {
    // cargo-watch runs the program below a shell. The SIGTERM to both ends the shell at once, and then cargo-watch kills
    // the program, whose requests in progress fail
    check_cargo_watch("dev-watch", &["-x", "run --quiet"], Loss::InFlight);
}

#[test]
fn cargo_watch_waits_for_a_program_that_it_runs_without_a_shell_and_no_request_fails() {
    check_cargo_watch(
        "dev-watch-exec",
        &["-s", "exec cargo run --quiet"],
        Loss::Nothing,
    );
}
