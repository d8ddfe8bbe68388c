//! A server embedded in another program: started, reloaded and shut down through its handle.

use std::future::Future;
use std::time::{Duration, Instant};

use async_std::future::timeout;
use async_std::task::{self, sleep};
use slackwater::prelude::*;
use slackwater::{Handle, Server};
use slackwater_tests::addr::Addr;
use slackwater_tests::conn::{Conn, SocketState};
use slackwater_tests::tally::Failure;
use slackwater_tests::wait::until;

use crate::help::ms;

const LONG: Duration = Duration::from_secs(30);

/// Waits for a future, with a timeout, so that a hanging test fails with its name.
fn block_on<T>(future: impl Future<Output = T>) -> T {
    task::block_on(timeout(LONG + LONG, future)).expect("in time")
}

async fn app() -> slackwater::Result<App> {
    let mut app = App::new();
    app.at("/").get(|_| async { Ok("Hello, world!") });
    app.at("/sleep/:ms")
        .get(|request: slackwater::Request<()>| async move {
            sleep(ms(request.param("ms")?.parse()?)).await;
            Ok("slept")
        });
    Ok(app)
}

fn start() -> (Handle, Addr) {
    let server = Server::new(app)
        .set("listen", "127.0.0.1:0")
        .set("shutdown.keepalive_grace", "50ms");
    let handle = block_on(server.start()).unwrap();
    let addr = Addr::parse(&handle.addresses()[0]).unwrap();
    (handle, addr)
}

/// Sends a request on a new connection.
fn ask(addr: &Addr, path: &str) -> Conn {
    let mut conn = Conn::open(addr).unwrap();
    conn.get(path).unwrap();
    conn
}

/// Waits until connections are refused. Until then, a child forked by another test may hold the socket until its exec.
fn wait_until_refused(addr: &Addr) {
    until(LONG, "connections are refused", || {
        (Conn::open(addr).err() == Some(Failure::Refused)).then_some(())
    });
}

#[test]
fn shutdown_answers_requests_in_progress_and_frees_the_port() {
    let (handle, addr) = start();
    let mut conn = ask(&addr, "/sleep/300");
    assert_eq!(conn.state_after(ms(50)), SocketState::Open);
    let report = block_on(handle.shutdown(LONG)).unwrap();
    assert!(
        report.cut.is_empty() && report.took >= ms(200),
        "{report:?}"
    );
    let answer = conn.answer().unwrap();
    assert!(answer.text() == "slept" && answer.closes(), "{answer:?}");
    wait_until_refused(&addr);
    block_on(handle.ended());
    assert!(
        block_on(handle.shutdown(LONG)).is_ok(),
        "a second shutdown succeeds at once"
    );
}

#[test]
fn shutdown_fails_at_its_deadline_and_close_ends_the_server_with_a_report() {
    let (handle, addr) = start();
    let mut conn = ask(&addr, "/sleep/60000");
    assert_eq!(conn.state_after(ms(50)), SocketState::Open);
    let exceeded = block_on(handle.shutdown(ms(200))).unwrap_err();
    assert_eq!(exceeded.deadline, ms(200));
    let begun = Instant::now();
    let report = block_on(handle.close());
    assert!(
        begun.elapsed() < LONG,
        "close does not wait for the handler"
    );
    assert_eq!(report.cut.len(), 1);
    assert!(report.cut[0].peer.starts_with("127.0.0.1:"), "{report:?}");
    assert!(
        report.cut[0]
            .request
            .as_deref()
            .is_some_and(|request| request.contains("/sleep/")),
        "{report:?}"
    );
    assert!(report.cut[0].age >= ms(200), "{report:?}");
    assert!(conn.answer().is_err());
}

#[test]
fn a_reload_through_the_handle_returns_its_result() {
    let (handle, addr) = start();
    block_on(handle.reload()).unwrap();
    assert_eq!(ask(&addr, "/").answer().unwrap().text(), "Hello, world!");
    block_on(handle.shutdown(LONG)).unwrap();
    assert!(block_on(handle.reload()).is_err());
}

#[test]
fn two_servers_run_in_one_process() {
    let ((first, first_addr), (second, second_addr)) = (start(), start());
    block_on(first.shutdown(LONG)).unwrap();
    wait_until_refused(&first_addr);
    assert_eq!(
        ask(&second_addr, "/").answer().unwrap().text(),
        "Hello, world!"
    );
    block_on(second.shutdown(LONG)).unwrap();
}

#[test]
fn a_failed_start_returns_its_error() {
    let (handle, addr) = start();
    let taken = block_on(Server::new(app).set("listen", &addr.to_string()).start()).unwrap_err();
    assert!(taken.is_socket() && !taken.is_config(), "{taken:?}");
    let refused = block_on(Server::new(app).set("http.idle_timeout", "soon").start()).unwrap_err();
    assert!(
        refused.is_config() && refused.exit_code() == 78,
        "{refused:?}"
    );
    let failing = || async { Err::<App, slackwater::BoxError>("no database".into()) };
    let failed = block_on(Server::new(failing).set("listen", "127.0.0.1:0").start()).unwrap_err();
    assert!(failed.is_app(), "{failed:?}");
    block_on(handle.shutdown(LONG)).unwrap();
}
