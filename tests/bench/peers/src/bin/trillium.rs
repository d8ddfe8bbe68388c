//! trillium on async-std.

use slackwater_bench_peers::{addr, bytes, HELLO};
use trillium::Conn;
use trillium_router::{Router, RouterConnExt};

async fn many(conn: Conn) -> Conn {
    let count = conn.param("n").and_then(|n| n.parse().ok()).unwrap_or(0);
    conn.ok(Vec::from(bytes(count)))
}

async fn upload(mut conn: Conn) -> Conn {
    let copied = async_std::io::copy(conn.request_body().await, async_std::io::sink()).await;
    conn.ok(copied.unwrap_or_default().to_string())
}

fn main() {
    let addr = addr();
    let router = Router::new()
        .get("/", |conn: Conn| async move { conn.ok(HELLO) })
        .get("/bytes/:n", many)
        .post("/upload", upload);
    trillium_async_std::config()
        .with_host(&addr.ip().to_string())
        .with_port(addr.port())
        .with_nodelay()
        .without_signals()
        .run(router);
}
