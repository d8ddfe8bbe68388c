//! New code without a failed request: `cargo run --example upgrade`, change what `version` answers, `cargo build --example
//! upgrade`, and `kill -USR2` it. The new process takes over sockets and connections; if it cannot start, nothing changes.

use slackwater::prelude::*;

#[get("/")]
async fn version() -> String {
    format!("version 1, process {}\n", std::process::id())
}

#[slackwater::main]
async fn app(_: (), setup: Setup) -> slackwater::Result<App> {
    log::info!("built because of: {:?}", setup.reason());
    let mut app = App::new();
    app.mount("/", routes![version]);
    // an upgrade is refused where this fails: the old process serves on
    app.on_ready(|| async { Ok(()) });
    Ok(app)
}
