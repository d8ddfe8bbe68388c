//! A socket that somebody else holds: `systemfd --no-pid -s http::8080 -- cargo run --example socket_activation`, or
//! `systemd-socket-activate -l 8080 target/debug/examples/socket_activation`. The first request starts it, and while it is
//! away, connections wait. Nothing here says so: an inherited socket is served in place of `listen`.

use slackwater::prelude::*;

#[get("/")]
async fn index() -> &'static str {
    "served on an inherited socket\n"
}

#[slackwater::main]
async fn app() -> slackwater::Result<App> {
    let mut app = App::new();
    app.mount("/", routes![index]);
    Ok(app)
}
