//! A shutdown that cuts nothing: `cargo run --example graceful_shutdown -- --set shutdown.grace=20s` (a debug build waits less
//! than a second unless it is told to), `curl localhost:8080/slow` and Ctrl-C at once. The answer still comes, the background
//! task ends, and then the process does; `[shutdown]` says how long each may take.

use std::time::Duration;

use async_std::future::timeout;
use async_std::task::sleep;
use slackwater::prelude::*;

/// It finishes: nothing has to be done for that.
#[get("/slow")]
async fn slow() -> &'static str {
    sleep(Duration::from_secs(2)).await;
    "done\n"
}

/// It would go on for ever, and so listens for the end.
#[get("/wait")]
async fn wait(draining: Draining) -> &'static str {
    draining.wait().await;
    "the server is draining\n"
}

#[slackwater::main]
async fn app() -> slackwater::Result<App> {
    let mut app = App::new();
    app.mount("/", routes![slow, wait]);
    app.task("sweeper", |stop| async move {
        // a turn each minute, until it is told to stop
        while timeout(Duration::from_secs(60), stop.wait()).await.is_err() {
            log::info!("swept");
        }
        log::info!("the sweeper has put its broom away");
    });
    app.on_drain(|| async { log::info!("no new requests come") });
    Ok(app)
}
