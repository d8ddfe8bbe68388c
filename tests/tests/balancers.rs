//! Three of them behind a balancer, under load: restarted one after the other, and upgraded in place. No request fails.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use slackwater_tests::addr::Addr;
use slackwater_tests::balancer::{Balancer, Checks, Kind};
use slackwater_tests::conn::Conn;
use slackwater_tests::launch::Launch;
use slackwater_tests::lineage::Lineage;
use slackwater_tests::load::{Load, Pattern, Running};
use slackwater_tests::process::{Process, Signal};
use slackwater_tests::tools::or_skip;
use slackwater_tests::wait::{maybe, until};

/// What Kubernetes waits between TERM and KILL unless told otherwise.
const GRACE_PERIOD: Duration = Duration::from_secs(30);

const LONG: Duration = Duration::from_secs(20);

/// An address of the loopback that is this test's alone, so that a server can be started on it again.
fn addr() -> Addr {
    static NEXT: AtomicU32 = AtomicU32::new(1);
    let (number, pid) = (NEXT.fetch_add(1, Ordering::Relaxed), std::process::id());
    // the low ones are everybody's
    let text = format!(
        "127.{}.{}.{}:8080",
        64 + (pid >> 8) % 64,
        pid % 256,
        number % 250
    );
    Addr::parse(&text).unwrap()
}

fn launch(addr: &Addr, settings: &str) -> Launch {
    Launch::playground().whole_settings(&format!("listen = \"{addr}\"\n{settings}"))
}

fn load(balancer: &Balancer) -> Running {
    let load = Load::on(balancer.addr()).path("/pid");
    load.clients(4, Pattern::KeepAlive)
        .clients(2, Pattern::NewConnection)
        .start()
}

/// Waits until the balancer has an answer of this process.
fn is_asked(balancer: &Balancer, pid: u32) {
    until(LONG, "the balancer asks it", || {
        let answer = Conn::open(balancer.addr())
            .and_then(|mut conn| conn.ask("/pid"))
            .ok()?;
        (answer.text() == pid.to_string()).then_some(())
    });
}

/// As Kubernetes does it: TERM, the grace period, KILL; and another one in its place.
fn restarted_in_turn(kind: Kind) {
    let Some(_) = or_skip(kind.installed()) else {
        return;
    };
    let addrs = [addr(), addr(), addr()];
    // longer than it takes to be found not ready
    let settings = "shutdown.delay = \"3s\"\n";
    let launches = addrs.each_ref().map(|addr| launch(addr, settings));
    let mut servers: Vec<Process> = launches.iter().map(Launch::serve).collect();
    let balancer = Balancer::start(kind, &addr(), &addrs, Checks::Often);
    servers
        .iter()
        .for_each(|server| is_asked(&balancer, server.pid()));
    let load = load(&balancer);
    for (server, launch) in servers.iter_mut().zip(&launches) {
        load.wait_for(50, LONG);
        server.signal(Signal::TERM);
        // within the grace period, or the test fails: nobody has to be killed
        assert_eq!(server.wait_exit(GRACE_PERIOD).code(), Some(0));
        *server = launch.serve();
        is_asked(&balancer, server.pid());
    }
    load.wait_for(50, LONG);
    let tally = load.stop();
    assert!(
        tally.failed() == 0 && tally.answered() > 0,
        "{tally}\n{}",
        balancer.output()
    );
}

#[test]
fn three_behind_haproxy_are_restarted_in_turn_and_no_request_fails() {
    restarted_in_turn(Kind::HaProxy);
}

#[test]
fn three_behind_nginx_are_restarted_in_turn_and_no_request_fails() {
    restarted_in_turn(Kind::Nginx);
}

/// The connections that servers have accepted and that are open no longer. Each is asked over a connection that stays.
fn closed(scrapers: &mut [Conn]) -> i64 {
    let of_one = |conn: &mut Conn| {
        let text = conn.ask("/metrics").unwrap().text();
        let sum_of = |family: &str| -> i64 {
            let lines = text.lines().filter(|line| line.starts_with(family));
            lines
                .map(|line| line.rsplit(' ').next().unwrap().parse::<i64>().unwrap())
                .sum()
        };
        sum_of("slackwater_connections_accepted_total ") - sum_of("slackwater_connections{")
    };
    scrapers.iter_mut().map(of_one).sum()
}

/// The same, read until five readings in a row agree: one that has just been accepted, and is not counted as open yet,
/// would be taken for one that was closed.
fn surely_closed(scrapers: &mut [Conn]) -> i64 {
    until(LONG, "five readings that agree", || {
        let first = closed(scrapers);
        (0..4).all(|_| closed(scrapers) == first).then_some(first)
    })
}

/// In place: the balancer notices nothing, and each of its connections goes on.
fn upgraded_in_place(kind: Kind) {
    let Some(_) = or_skip(kind.installed()) else {
        return;
    };
    let addrs = [addr(), addr(), addr()];
    let settings = "metrics.path = \"/metrics\"\nupgrade.rollback_window = \"300ms\"\n";
    let mut servers: Vec<Lineage> = addrs
        .iter()
        .map(|addr| Lineage::serve(&launch(addr, settings)))
        .collect();
    // whoever checks opens a connection for it and closes it
    let balancer = Balancer::start(kind, &addr(), &addrs, Checks::Once);
    servers
        .iter()
        .for_each(|server| is_asked(&balancer, server.newest()));
    let mut scrapers: Vec<Conn> = addrs.iter().map(|addr| Conn::open(addr).unwrap()).collect();
    let load = load(&balancer);
    load.wait_for(200, LONG);
    let before = surely_closed(&mut scrapers);
    for server in &mut servers {
        let old = server.newest();
        let new = server.upgrade();
        server.gone(old, LONG);
        is_asked(&balancer, new);
        load.wait_for(200, LONG);
    }
    let tally = load.stop();
    assert!(
        tally.failed() == 0 && tally.answered() > 0,
        "{tally}\n{}",
        balancer.output()
    );
    let mut after = before;
    let none = maybe(LONG, || {
        after = closed(&mut scrapers);
        (after == before).then_some(())
    });
    assert!(
        none.is_some(),
        "{} connections of the balancer were closed",
        after - before
    );
}

#[test]
fn three_behind_haproxy_are_upgraded_in_place_and_no_request_fails() {
    upgraded_in_place(Kind::HaProxy);
}

#[test]
fn three_behind_nginx_are_upgraded_in_place_and_its_connections_stay() {
    upgraded_in_place(Kind::Nginx);
}
