//! tide on its own listener.

use slackwater_bench_peers::{addr, bytes, HELLO};
use tide::{Body, Request};

async fn many(request: Request<()>) -> tide::Result {
    let bytes = bytes(request.param("n")?.parse()?);
    Ok(Body::from_bytes(bytes.into()).into())
}

async fn upload(request: Request<()>) -> tide::Result {
    let count = async_std::io::copy(request, async_std::io::sink()).await?;
    Ok(count.to_string().into())
}

#[async_std::main]
async fn main() -> std::io::Result<()> {
    let mut app = tide::new();
    app.at("/").get(|_| async { Ok(HELLO) });
    app.at("/bytes/:n").get(many);
    app.at("/upload").post(upload);
    app.listen(addr()).await
}
