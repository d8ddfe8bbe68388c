//! slackwater, with its defaults.

use std::process::ExitCode;

use slackwater::prelude::*;
use slackwater::{BodyLimit, Request, Runner};
use slackwater_bench_peers::{addr, bytes, HELLO};
use tide::Body;

async fn many(request: Request<()>) -> tide::Result {
    let bytes = bytes(request.param("n")?.parse()?);
    Ok(Body::from_bytes(bytes.into()).into())
}

async fn upload(request: Request<()>) -> tide::Result {
    let count = async_std::io::copy(request, async_std::io::sink()).await?;
    Ok(count.to_string().into())
}

async fn app() -> slackwater::Result<App> {
    let mut app = App::new();
    app.at("/").get(|_| async { Ok(HELLO) });
    app.at("/bytes/:n").get(many);
    app.at("/upload").with(BodyLimit::none()).post(upload);
    Ok(app)
}

fn main() -> ExitCode {
    // the other peers take the address as an argument; slackwater takes it from the environment
    std::env::set_var("SLACKWATER_LISTEN", addr().to_string());
    std::env::set_var("SLACKWATER_LOG__LEVEL", "warn");
    Runner::new(app)
        .name("peer")
        .run_command(slackwater::Command::Serve)
}
