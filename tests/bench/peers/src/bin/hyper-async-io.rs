//! hyper alone, on the reactor and the executor that async-std uses.

use std::net::TcpListener;

use async_io::Async;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use slackwater_bench_peers::{addr, service};
use smol_hyper::rt::FuturesIo;

#[async_std::main]
async fn main() {
    let listener = Async::<TcpListener>::bind(addr()).expect("a socket");
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            continue;
        };
        let _ = stream.get_ref().set_nodelay(true);
        let connection = http1::Builder::new()
            .serve_connection(FuturesIo::new(stream), service_fn(service::answer));
        async_std::task::spawn(connection);
    }
}
