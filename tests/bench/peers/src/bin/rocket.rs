//! Rocket.

use rocket::data::{Data, ToByteUnit};
use rocket::{get, post, routes, Config};
use slackwater_bench_peers::{addr, bytes, HELLO};

#[get("/")]
fn hello() -> &'static str {
    HELLO
}

#[get("/bytes/<n>")]
fn many(n: usize) -> Vec<u8> {
    bytes(n).into()
}

#[post("/upload", data = "<body>")]
async fn upload(body: Data<'_>) -> std::io::Result<String> {
    let count = body.open(u64::MAX.bytes()).stream_to(Sink).await?;
    Ok(count.to_string())
}

/// A writer that discards all bytes.
struct Sink;

impl rocket::tokio::io::AsyncWrite for Sink {
    fn poll_write(
        self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
        buf: &[u8],
    ) -> std::task::Poll<std::io::Result<usize>> {
        std::task::Poll::Ready(Ok(buf.len()))
    }

    fn poll_flush(
        self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<std::io::Result<()>> {
        std::task::Poll::Ready(Ok(()))
    }

    fn poll_shutdown(
        self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<std::io::Result<()>> {
        std::task::Poll::Ready(Ok(()))
    }
}

#[rocket::main]
async fn main() {
    let addr = addr();
    let config = Config {
        address: addr.ip(),
        port: addr.port(),
        log_level: rocket::config::LogLevel::Off,
        ..Config::release_default()
    };
    let rocket = rocket::custom(config).mount("/", routes![hello, many, upload]);
    drop(rocket.launch().await);
}
