//! Upgrading without a failed request: run `cargo run --example upgrade`, change the answer of `version`, run `cargo build
//! --example upgrade`, and send SIGUSR2 to the process. The new process takes over sockets and connections. If it cannot
//! start, the old process continues to serve.

use slackwater::prelude::*;

#[get("/")]
async fn version() -> String {
    format!("version 1, process {}\n", std::process::id())
}

#[slackwater::main]
async fn app(_: (), setup: Setup) -> slackwater::Result<App> {
    log::info!("reason for this build: {:?}", setup.reason());
    let mut app = App::new();
    app.mount("/", routes![version]);
    // if this fails, the upgrade is refused and the old process continues to serve
    app.on_ready(|| async { Ok(()) });
    Ok(app)
}
