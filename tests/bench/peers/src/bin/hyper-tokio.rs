//! hyper alone, on tokio.

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use slackwater_bench_peers::{addr, service};

#[tokio::main]
async fn main() {
    let listener = tokio::net::TcpListener::bind(addr())
        .await
        .expect("a socket");
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            continue;
        };
        let _ = stream.set_nodelay(true);
        let connection = http1::Builder::new()
            .serve_connection(TokioIo::new(stream), service_fn(service::answer));
        tokio::spawn(connection);
    }
}
