//! Socket activation: `systemfd --no-pid -s http::8080 -- cargo run --example socket_activation`, or `systemd-socket-activate
//! -l 8080 target/debug/examples/socket_activation`. With the second, the first connection starts the program. While the
//! program is stopped, connections wait in the socket's queue. It needs no code: an inherited socket replaces `listen`.

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
