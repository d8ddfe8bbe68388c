//! Time from saving a line to the page showing it: `cargo run -- dev`, a page in Chromium, an open event stream.

use std::fmt;
use std::path::Path;
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use slackwater_tests::addr::Addr;
use slackwater_tests::browser::Browser;
use slackwater_tests::conn::Conn;
use slackwater_tests::load::{Load, Pattern};
use slackwater_tests::process::Process;
use slackwater_tests::project::{answers, Project, BUILD};
use slackwater_tests::wait;

use crate::table::Table;

const MAIN: &str = r#"use slackwater::prelude::*;

#[get("/")]
async fn page() -> Html<&'static str> {
    Html("<!doctype html><title>T</title><body><h1>text 0</h1></body>")
}

#[slackwater::main]
async fn app() -> slackwater::Result<App> {
    let mut app = App::new();
    app.mount("/", routes![page]);
    app.at("/events").get(tide::sse::endpoint(|_, sender| async move {
        sender.send("tick", "x", None).await?;
        std::future::pending().await
    }));
    Ok(app)
}
"#;

const ALONE: usize = 10;
const UNDER_LOAD: usize = 5;
const GOAL: Duration = Duration::from_millis(300);
/// The pause between two changes. After it the last swap is confirmed; an earlier change would have to wait for that.
const PAUSE: Duration = Duration::from_secs(1);

/// The steps of a change. The development loop measures the first three. `reload` is the rest of the time between writing
/// the file and the browser painting the new text.
#[derive(Clone, Copy)]
struct Round {
    build: Duration,
    start: Duration,
    swap: Duration,
    reload: Duration,
}

impl fmt::Display for Round {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Round {
            build,
            start,
            swap,
            reload,
        } = self;
        let total = *build + *start + *swap + *reload;
        write!(
            f,
            "{total:.2?}: build {build:.2?}, start {start:.0?}, swap {swap:.0?}, reload {reload:.0?}"
        )
    }
}

/// A development loop with an open page.
struct DevLoop {
    project: Project,
    process: Process,
    addr: Addr,
    browser: Browser,
    saved: usize,
}

/// Makes ten changes without other clients, and five more while clients send requests.
pub fn run() -> Table {
    let mut table = Table::default();
    let browser = match Browser::start() {
        Ok(browser) => browser,
        Err(missing) => {
            table.note("skipped", missing);
            return table;
        }
    };
    let mut dev = DevLoop::start(browser);
    // not measured: the loop's compiler flags make cargo compile more in the first build
    dev.one_change();
    let alone: Vec<Round> = (0..ALONE).map(|_| dev.one_change()).collect();
    report(&mut table, "alone", &alone);
    let swap_and_reload = median(&alone, |round| round.swap + round.reload);
    table.goal(
        "swap and reload, median: 300 ms",
        format!("{swap_and_reload:.0?}"),
        || swap_and_reload < GOAL,
    );

    let clients = Load::on(&dev.addr)
        .clients(1, Pattern::KeepAlive)
        .clients(1, Pattern::NewConnection)
        .clients(8, Pattern::Thinking(Duration::from_millis(20)))
        .at_most(BUILD)
        .start();
    let busy: Vec<Round> = (0..UNDER_LOAD).map(|_| dev.one_change()).collect();
    let tally = clients.stop();
    report(&mut table, "with clients", &busy);
    table.goal("requests between save and page: none fails", &tally, || {
        tally.failed() == 0
    });
    let slowest = tally.percentile(100.0);
    let shortest = busy
        .iter()
        .map(|round| round.build)
        .min()
        .unwrap_or_default();
    table.goal(
        "the slowest of them takes less time than a build",
        format!("{slowest:.0?} of {shortest:.2?}"),
        || slowest < shortest,
    );
    table
}

impl DevLoop {
    fn start(browser: Browser) -> Self {
        let project = Project::new("bench-save", MAIN);
        project.write("slackwater.toml", "listen = \"127.0.0.1:0\"\n");
        let mut process = project
            .launch(Path::new("cargo"), &["run", "--quiet", "--", "dev"])
            .start();
        let addr = answers(&mut process);
        browser.open(&format!("http://{addr}/"));
        DevLoop {
            project,
            process,
            addr,
            browser,
            saved: 0,
        }
    }

    fn one_change(&mut self) -> Round {
        let mut events = Conn::open(&self.addr).expect("a connection");
        let opened = events
            .get("/events")
            .and_then(|()| events.head())
            .and_then(|_| events.chunk());
        opened.expect("an event stream");
        let mark = self.process.mark();
        let (old, new) = (
            format!("text {}<", self.saved),
            format!("text {}<", self.saved + 1),
        );
        self.saved += 1;
        let start_time = since_epoch();
        self.project.edit("src/main.rs", &old, &new);
        let painted = self.painted(&new);
        let line = wait::until(BUILD, "the loop logs the times", || {
            let log = self.process.log_since(mark);
            log.lines()
                .find(|line| line.contains("a page shows the change"))
                .map(str::to_owned)
        });
        let [build, start, swap] =
            ["(build ", ", start ", ", swap "].map(|step| span_after(&line, step));
        let reload = painted.saturating_sub(start_time + build + start + swap);
        thread::sleep(PAUSE);
        Round {
            build,
            start,
            swap,
            reload,
        }
    }

    /// Waits until the browser has painted the page with this text; returns that time since the epoch.
    fn painted(&self, text: &str) -> Duration {
        let text = text.trim_end_matches('<');
        let script = format!(
            "const paint = performance.getEntriesByName('first-contentful-paint')[0];
             return paint && document.querySelector('h1').textContent === '{text}'
                 ? performance.timeOrigin + paint.startTime : null"
        );
        let at = wait::until(BUILD, "the page shows it", || {
            self.browser.run(&script).as_f64()
        });
        Duration::from_secs_f64(at / 1000.0)
    }
}

fn since_epoch() -> Duration {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .expect("a clock after 1970")
}

/// Parses the time after `step` in the loop's log line: `17 ms` or `1.23 s`.
fn span_after(line: &str, step: &str) -> Duration {
    let span = line.split_once(step).and_then(|(_, rest)| {
        let mut words = rest.split([' ', ',', ')']);
        let number: f64 = words.next()?.parse().ok()?;
        match words.next()? {
            "ms" => Some(Duration::from_secs_f64(number / 1000.0)),
            "s" => Some(Duration::from_secs_f64(number)),
            _ => None,
        }
    });
    span.unwrap_or_else(|| panic!("no time after {step:?}: {line}"))
}

fn median(rounds: &[Round], of: impl Fn(&Round) -> Duration) -> Duration {
    let mut spans: Vec<Duration> = rounds.iter().map(of).collect();
    spans.sort_unstable();
    spans[spans.len() / 2]
}

fn report(table: &mut Table, load: &str, rounds: &[Round]) {
    for (number, round) in rounds.iter().enumerate() {
        table.note(&format!("{load}, change {}", number + 1), round);
    }
    let medians = Round {
        build: median(rounds, |round| round.build),
        start: median(rounds, |round| round.start),
        swap: median(rounds, |round| round.swap),
        reload: median(rounds, |round| round.reload),
    };
    table.note(&format!("{load}, median of each step"), medians);
}
