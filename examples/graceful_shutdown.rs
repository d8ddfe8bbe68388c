//! A graceful shutdown: run `cargo run --example graceful_shutdown -- --set shutdown.grace=20s` (the default of a debug build
//! is less than a second), then `curl localhost:8080/slow`, and press Ctrl-C immediately. The process sends the answer, waits
//! for the background task, and exits. The settings in `[shutdown]` limit these waits.

use std::time::Duration;

use async_std::future::timeout;
use async_std::task::sleep;
use slackwater::prelude::*;

/// Finishes during the shutdown without further code.
#[get("/slow")]
async fn slow() -> &'static str {
    sleep(Duration::from_secs(2)).await;
    "done\n"
}

/// Would run forever, and therefore waits for the shutdown.
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
        // runs once a minute until the shutdown
        while timeout(Duration::from_secs(60), stop.wait()).await.is_err() {
            log::info!("swept");
        }
        log::info!("the sweeper has stopped");
    });
    app.on_drain(|| async { log::info!("the server accepts no new requests") });
    Ok(app)
}
