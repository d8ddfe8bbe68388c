//! Three servers behind a balancer, under load: they are restarted one after the other or upgraded in place, and no
//! request fails.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use slackwater_tests::addr::Addr;
use slackwater_tests::balancer::{Balancer, Checks, Kind};
use slackwater_tests::conn::Conn;
use slackwater_tests::launch::Launch;
use slackwater_tests::load::{Load, Pattern, RunningLoad};
use slackwater_tests::process::{Process, Signal};
use slackwater_tests::process_chain::ProcessChain;
use slackwater_tests::tools::or_skip;
use slackwater_tests::wait::{maybe, until};

/// The default of Kubernetes for the time between SIGTERM and SIGKILL.
const GRACE_PERIOD: Duration = Duration::from_secs(30);

const LONG: Duration = Duration::from_secs(20);

/// Returns a loopback address that no other test uses, so that a server can be started on it again.
fn addr() -> Addr {
    static NEXT: AtomicU32 = AtomicU32::new(1);
    let (number, pid) = (NEXT.fetch_add(1, Ordering::Relaxed), std::process::id());
    // 127.0.x.y is left to the other tests
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

fn load(balancer: &Balancer) -> RunningLoad {
    let load = Load::on(balancer.addr()).path("/pid");
    load.clients(4, Pattern::KeepAlive)
        .clients(2, Pattern::NewConnection)
        .start()
}

/// Waits until the balancer forwards a request to this process.
fn wait_until_forwarded(balancer: &Balancer, pid: u32) {
    until(
        LONG,
        "the balancer forwards a request to the process",
        || {
            let answer = Conn::open(balancer.addr())
                .and_then(|mut conn| conn.fetch("/pid"))
                .ok()?;
            (answer.text() == pid.to_string()).then_some(())
        },
    );
}

/// Restarts each server as Kubernetes does: SIGTERM, an exit within the grace period, a new process at the same address.
fn restart_in_turn(kind: Kind) {
    let Some(_) = or_skip(kind.installed()) else {
        return;
    };
    let addrs = [addr(), addr(), addr()];
    // longer than the balancer needs to notice that /readyz answers 503
    let settings = "shutdown.delay = \"3s\"\n";
    let launches = addrs.each_ref().map(|addr| launch(addr, settings));
    let mut servers: Vec<Process> = launches.iter().map(Launch::serve).collect();
    let balancer = Balancer::start(kind, &addr(), &addrs, Checks::Often);
    servers
        .iter()
        .for_each(|server| wait_until_forwarded(&balancer, server.pid()));
    let load = load(&balancer);
    for (server, launch) in servers.iter_mut().zip(&launches) {
        load.wait_for(50, LONG);
        server.signal(Signal::TERM);
        // the test fails if the process does not exit by itself within the grace period
        assert_eq!(server.wait_exit(GRACE_PERIOD).code(), Some(0));
        *server = launch.serve();
        wait_until_forwarded(&balancer, server.pid());
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
fn three_servers_behind_haproxy_are_restarted_in_turn_and_no_request_fails() {
    restart_in_turn(Kind::HaProxy);
}

#[test]
fn three_servers_behind_nginx_are_restarted_in_turn_and_no_request_fails() {
    restart_in_turn(Kind::Nginx);
}

/// Returns the number of connections that the servers have accepted and that are closed now.
///
/// Each server is scraped on a connection that stays open.
fn closed_count(scrapers: &mut [Conn]) -> i64 {
    let closed_by_one = |conn: &mut Conn| {
        let text = conn.fetch("/metrics").unwrap().text();
        let sum_of = |family: &str| -> i64 {
            let lines = text.lines().filter(|line| line.starts_with(family));
            lines
                .map(|line| line.rsplit(' ').next().unwrap().parse::<i64>().unwrap())
                .sum()
        };
        sum_of("slackwater_connections_accepted_total ") - sum_of("slackwater_connections{")
    };
    scrapers.iter_mut().map(closed_by_one).sum()
}

/// Reads [`closed_count`] until five consecutive values are equal, because a connection that was just accepted is not counted
/// as open yet and would look closed.
fn settled_closed_count(scrapers: &mut [Conn]) -> i64 {
    until(LONG, "five equal values", || {
        let first = closed_count(scrapers);
        (0..4)
            .all(|_| closed_count(scrapers) == first)
            .then_some(first)
    })
}

/// Upgrades each server in place. The balancer loses no connection.
fn upgrade_in_place(kind: Kind) {
    let Some(_) = or_skip(kind.installed()) else {
        return;
    };
    let addrs = [addr(), addr(), addr()];
    let settings = "metrics.path = \"/metrics\"\nupgrade.rollback_window = \"300ms\"\n";
    let mut servers: Vec<ProcessChain> = addrs
        .iter()
        .map(|addr| ProcessChain::serve(&launch(addr, settings)))
        .collect();
    // a health check opens and closes a connection, which would be counted as closed
    let balancer = Balancer::start(kind, &addr(), &addrs, Checks::Once);
    servers
        .iter()
        .for_each(|server| wait_until_forwarded(&balancer, server.newest()));
    let mut scrapers: Vec<Conn> = addrs.iter().map(|addr| Conn::open(addr).unwrap()).collect();
    let load = load(&balancer);
    load.wait_for(200, LONG);
    let before = settled_closed_count(&mut scrapers);
    for server in &mut servers {
        let old = server.newest();
        let new = server.upgrade();
        server.wait_gone(old, LONG);
        wait_until_forwarded(&balancer, new);
        load.wait_for(200, LONG);
    }
    let tally = load.stop();
    assert!(
        tally.failed() == 0 && tally.answered() > 0,
        "{tally}\n{}",
        balancer.output()
    );
    let mut after = before;
    let equal = maybe(LONG, || {
        after = closed_count(&mut scrapers);
        (after == before).then_some(())
    });
    assert!(
        equal.is_some(),
        "{} connections of the balancer were closed",
        after - before
    );
}

#[test]
fn three_servers_behind_haproxy_are_upgraded_in_place_and_its_connections_stay_open() {
    upgrade_in_place(Kind::HaProxy);
}

#[test]
fn three_servers_behind_nginx_are_upgraded_in_place_and_its_connections_stay_open() {
    upgrade_in_place(Kind::Nginx);
}
