//! A route with axum's extractors for path, query and JSON body, and a route without extractors.

use axum::extract::{Path, Query};
use axum::routing::{get, post};
use axum::{Json, Router};

#[allow(dead_code, unused_imports)]
#[path = "request.rs"]
mod request;

#[tokio::main(worker_threads = 1)]
async fn main() {
    let app = Router::new()
        .route("/readyz", get(|| async { "ok" }))
        .route("/plain/{id}", post(|| async { "done" }))
        .route("/typed/{id}", post(typed));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
        .await
        .expect("a port");
    println!(
        "listening on {}",
        listener.local_addr().expect("its address")
    );
    axum::serve(listener, app).await.expect("the server runs");
}

async fn typed(
    Path(id): Path<u64>,
    Query(search): Query<request::Search>,
    Json(order): Json<request::Order>,
) -> &'static str {
    std::hint::black_box((id, search, order));
    "done"
}
