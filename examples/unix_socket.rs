//! A Unix socket as the default address, and a custom `main`: run `cargo run --example unix_socket`, then
//! `curl --unix-socket /tmp/slackwater-example.sock http://localhost/`. `--set listen=127.0.0.1:8080` overrides the default.

use std::process::ExitCode;

use slackwater::prelude::*;
use slackwater::Runner;

#[get("/")]
async fn index(peer: Peer) -> String {
    format!("you are {peer}\n")
}

async fn app() -> slackwater::Result<App> {
    let mut app = App::new();
    app.mount("/", routes![index]);
    Ok(app)
}

fn main() -> ExitCode {
    let defaults = figment::Figment::new().merge(("listen", "unix:/tmp/slackwater-example.sock"));
    Runner::new(app).name("unix_socket").figment(defaults).run()
}
