//! actix-web.

use actix_web::web::{self, Payload};
use actix_web::{App, HttpServer};
use futures_util::StreamExt;
use slackwater_bench_peers::{addr, bytes, HELLO};

async fn upload(mut body: Payload) -> String {
    let mut count = 0;
    while let Some(Ok(chunk)) = body.next().await {
        count += chunk.len();
    }
    count.to_string()
}

#[actix_web::main]
async fn main() -> std::io::Result<()> {
    let app = || {
        App::new()
            .route("/", web::get().to(|| async { HELLO }))
            .route(
                "/bytes/{n}",
                web::get().to(|n: web::Path<usize>| async move { bytes(*n) }),
            )
            .route("/upload", web::post().to(upload))
    };
    HttpServer::new(app).bind(addr())?.run().await
}
