//! axum on tokio.

use axum::body::Body;
use axum::extract::Path;
use axum::routing::{get, post};
use axum::serve::ListenerExt;
use axum::Router;
use bytes::Bytes;
use http_body_util::BodyExt;
use slackwater_bench_peers::{addr, bytes, HELLO};

async fn upload(mut body: Body) -> String {
    let mut count = 0;
    while let Some(Ok(frame)) = body.frame().await {
        count += frame.data_ref().map_or(0, Bytes::len);
    }
    count.to_string()
}

#[tokio::main]
async fn main() {
    let app = Router::new()
        .route("/", get(|| async { HELLO }))
        .route(
            "/bytes/{n}",
            get(|Path(n): Path<usize>| async move { bytes(n) }),
        )
        .route("/upload", post(upload));
    let listener = tokio::net::TcpListener::bind(addr())
        .await
        .expect("a socket");
    let listener = listener.tap_io(|stream| drop(stream.set_nodelay(true)));
    axum::serve(listener, app).await.expect("the server runs");
}
