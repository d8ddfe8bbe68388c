//! The smallest application: `cargo run --example hello`, then `curl localhost:8080`.

use slackwater::prelude::*;

#[slackwater::main]
async fn app() -> slackwater::Result<App> {
    let mut app = App::new();
    app.at("/").get(|_| async { Ok("Hello, world!\n") });
    Ok(app)
}
