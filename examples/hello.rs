//! The smallest application: run `cargo run --example hello`, then `curl localhost:8080`.

use slackwater::prelude::*;

#[get("/")]
async fn hello() -> &'static str {
    "Hello, world!\n"
}

#[slackwater::main]
async fn app() -> slackwater::Result<App> {
    let mut app = App::new();
    app.mount("/", routes![hello]);
    Ok(app)
}
