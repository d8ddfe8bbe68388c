//! The metrics that Prometheus scrapes: requests by route, durations, connections, outcomes, and counters that survive
//! upgrades.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use slackwater_tests::addr::Addr;
use slackwater_tests::conn::Conn;
use slackwater_tests::launch::Launch;
use slackwater_tests::load::{Load, Pattern};
use slackwater_tests::operator::Operator;
use slackwater_tests::process::{Process, Signal};
use slackwater_tests::process_chain::ProcessChain;
use slackwater_tests::wait::until;

const LONG: Duration = Duration::from_secs(20);

/// The value of each series, by name.
type Scrape = BTreeMap<String, f64>;

fn read(text: &str) -> Scrape {
    assert!(
        text.ends_with("# EOF\n"),
        "the exposition is incomplete:\n{text}"
    );
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines
        .map(|line| line.rsplit_once(' ').unwrap())
        .map(|(name, value)| (name.to_owned(), value.parse().unwrap()))
        .collect()
}

fn scrape(addr: &Addr) -> Scrape {
    let answer = Conn::open(addr)
        .and_then(|mut conn| conn.fetch("/metrics"))
        .unwrap();
    assert_eq!(answer.status, 200);
    read(&answer.text())
}

/// Scrapes until a series has reached a value, and returns that scrape.
///
/// The server counts a request after the response. The counters of an old process arrive after its exit.
fn counted(addr: &Addr, series: &str, value: f64) -> Scrape {
    until(LONG, &format!("{series} to be {value}"), || {
        let scrape = scrape(addr);
        let now = scrape.get(series).copied();
        // a counter never decreases, so it could not return to the expected value
        assert!(now <= Some(value), "{series} is {now:?}, more than {value}");
        (now == Some(value)).then_some(scrape)
    })
}

fn with_path(settings: &str) -> Launch {
    Launch::playground().settings(&format!(
        "metrics.path = \"/metrics\"\ncontrol.socket = \"app.control\"\n{settings}"
    ))
}

fn requests(route: &str, method: &str, status: u16) -> String {
    format!("http_requests_total{{route=\"{route}\",method=\"{method}\",status=\"{status}\"}}")
}

#[test]
fn the_metrics_route_is_off_by_default() {
    let process = Launch::playground().serve();
    assert_eq!(process.conn().fetch("/metrics").unwrap().status, 404);
}

#[test]
fn requests_are_counted_by_route_template_method_and_status() {
    let process = with_path("").serve();
    let mut conn = process.conn();
    for path in ["/greet/ann", "/greet/bob", "/nowhere", "/panic"] {
        let _ = conn.fetch(path);
        conn = process.conn();
    }
    counted(&process.addr(), &requests("/panic", "GET", 500), 1.0);
    let scrape = counted(&process.addr(), &requests("/greet/:name", "GET", 200), 2.0);
    assert_eq!(scrape[&requests("(unmatched)", "GET", 404)], 1.0);
    assert_eq!(
        scrape[r#"http_request_duration_seconds_count{route="/greet/:name",method="GET"}"#],
        2.0
    );
    assert_eq!(
        scrape[r#"http_request_duration_seconds_bucket{le="+Inf",route="/greet/:name",method="GET"}"#],
        2.0
    );
    assert!(scrape["http_response_body_bytes_total"] >= "Hello, ann!Hello, bob!".len() as f64);
    assert!(scrape["slackwater_connections_accepted_total"] >= 4.0);
    assert_eq!(
        scrape[r#"slackwater_connections{state="active"}"#], 1.0,
        "the connection of the scrape itself"
    );
    assert_eq!(scrape["slackwater_generation"], 1.0);
    assert!(scrape
        .keys()
        .any(|name| name.starts_with("slackwater_build_info{version=\"0.1.0\"")));
}

#[test]
fn an_unknown_method_is_counted_as_other() {
    let process = with_path("").serve();
    let mut conn = process.conn();
    for method in ["BREW", "PROPFIND"] {
        conn.send(format!("{method} /greet/ann HTTP/1.1\r\nHost: x\r\n\r\n"))
            .unwrap();
        let _ = conn.answer();
        conn = process.conn();
    }
    let names = until(LONG, "the requests are counted", || {
        let names: Vec<String> = scrape(&process.addr()).into_keys().collect();
        names
            .iter()
            .any(|name| name.contains("method=\"other\""))
            .then_some(names)
    });
    assert!(!names.iter().any(|name| name.contains("BREW")), "{names:?}");
}

#[test]
fn the_bytes_of_request_bodies_are_counted() {
    let process = with_path("").serve();
    let mut conn = process.conn();
    conn.send("POST /upload HTTP/1.1\r\nHost: x\r\nContent-Length: 7\r\n\r\n1234567")
        .unwrap();
    assert_eq!(conn.answer().unwrap().text(), "7");
    counted(&process.addr(), "http_request_body_bytes_total", 7.0);
}

#[test]
fn reloads_are_counted_by_outcome() {
    let process = with_path("").serve();
    process.reload();
    process.settings("metrics.path = \"/metrics\"\nnonsense = 1\n");
    process.reload_refused();
    let scrape = counted(
        &process.addr(),
        r#"slackwater_reloads_total{outcome="refused"}"#,
        1.0,
    );
    assert_eq!(scrape[r#"slackwater_reloads_total{outcome="done"}"#], 1.0);
    assert_eq!(scrape["slackwater_generation"], 2.0);
}

/// Returns the address of the metrics listener, the second address in the log.
fn metrics_addr(process: &Process) -> Addr {
    until(LONG, "two listeners", || {
        process.addresses().get(1).cloned()
    })
}

#[test]
fn a_metrics_listener_serves_no_application_routes_and_survives_an_upgrade() {
    let settings = "metrics.listen = \"127.0.0.1:0\"\ncontrol.socket = \"app.control\"\nupgrade.rollback_window = \"300ms\"\n";
    let launch = Launch::playground().settings(settings);
    let mut chain = ProcessChain::serve(&launch);
    let addr = metrics_addr(&chain);
    assert_eq!(scrape(&addr)["slackwater_generation"], 1.0);
    let ask = |addr: &Addr, path| Conn::open(addr).unwrap().fetch(path).unwrap().status;
    assert_eq!(
        (
            ask(&addr, "/"),
            ask(&addr, "/greet/ann"),
            ask(&addr, "/readyz")
        ),
        (404, 404, 200)
    );
    assert_eq!(
        ask(&chain.addr(), "/metrics"),
        404,
        "the listener for requests does not serve the metrics"
    );
    let mut kept = Conn::open(&addr).unwrap();
    kept.fetch("/metrics").unwrap();
    let old = chain.newest();
    chain.upgrade();
    chain.wait_gone(old, LONG);
    read(&kept.fetch("/metrics").unwrap().text());
    counted(&addr, r#"slackwater_upgrades_total{outcome="done"}"#, 1.0);
    chain.settings("control.socket = \"app.control\"\n");
    Operator::of(&launch).ok(&["reload"]);
    assert!(
        Conn::open(&addr).is_err(),
        "the reload closed the metrics listener"
    );
}

#[test]
fn a_start_with_a_taken_metrics_port_fails_and_names_the_key() {
    let (_theirs, taken) = crate::help::held_socket();
    let launch = Launch::playground().settings(&format!("metrics.listen = \"{taken}\"\n"));
    let finished = launch.run(LONG);
    assert_eq!(finished.code(), Some(1), "{finished:?}");
    assert!(finished.stderr.contains("metrics.listen"), "{finished:?}");
}

#[test]
fn a_rolled_back_upgrade_is_counted_and_the_old_process_continues_to_count() {
    let launch = with_path("upgrade.rollback_window = \"60s\"\n");
    let chain = ProcessChain::serve(&launch);
    let (mark, operator) = (chain.mark(), Operator::of(&launch));
    chain.begin_upgrade();
    chain.wait_for_log(mark, slackwater_tests::log_texts::HANDING_OVER);
    operator.ok(&["rollback"]);
    counted(
        &chain.addr(),
        r#"slackwater_upgrades_total{outcome="failed"}"#,
        1.0,
    );
    chain.get("/greet/ann");
    counted(&chain.addr(), &requests("/greet/:name", "GET", 200), 1.0);
}

#[test]
fn counters_never_decrease_during_20_upgrades() {
    let launch =
        with_path("upgrade.rollback_window = \"100ms\"\nshutdown.keepalive_grace = \"50ms\"\n");
    let (mut chain, operator) = (ProcessChain::serve(&launch), Operator::of(&launch));
    let addr = chain.addr();
    let load = Load::on(&addr)
        .clients(3, Pattern::KeepAlive)
        .clients(1, Pattern::NewConnection);
    let load = load.path("/greet/ann").start();
    let over = Arc::new(AtomicBool::new(false));
    let scraping = {
        let (addr, over) = (addr.clone(), over.clone());
        thread::spawn(move || {
            let (mut last, mut count, mut kept) = (Scrape::new(), 0, Conn::open(&addr).unwrap());
            while !over.load(Ordering::Relaxed) {
                // once on a connection that stays open, and once on a new one
                for now in [read(&kept.fetch("/metrics").unwrap().text()), scrape(&addr)] {
                    for (name, before) in last.iter().filter(|(name, _)| is_counter(name)) {
                        assert!(
                            now.get(name) >= Some(before),
                            "{name} was {before}, is {:?}",
                            now.get(name)
                        );
                    }
                    (last, count) = (now, count + 1);
                }
                thread::sleep(Duration::from_millis(5));
            }
            (last, count)
        })
    };
    for _ in 0..20 {
        let old = chain.newest();
        chain.upgrade();
        chain.wait_gone(old, LONG);
        until(
            LONG,
            "the new process has received the confirmation",
            || (operator.first()["phase"] == "serving").then_some(()),
        );
    }
    over.store(true, Ordering::Relaxed);
    let (_, scrapes) = scraping.join().expect("no counter decreases");
    assert!(scrapes > 40, "{scrapes} scrapes");
    let tally = load.stop();
    tally.assert_flawless();
    // in the end the counters include every request that an old process answered
    counted(&addr, r#"slackwater_upgrades_total{outcome="done"}"#, 20.0);
    counted(&addr, "slackwater_drain_duration_seconds_count", 20.0);
    counted(
        &addr,
        &requests("/greet/:name", "GET", 200),
        tally.answered() as f64,
    );
    chain.signal(Signal::TERM);
}

fn is_counter(name: &str) -> bool {
    let name = name.split('{').next().unwrap_or(name);
    ["_total", "_count", "_sum", "_bucket"]
        .iter()
        .any(|end| name.ends_with(end))
}
