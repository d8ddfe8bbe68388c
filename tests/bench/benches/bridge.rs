//! The cost of a request between hyper and tide: from hyper's request to hyper's response, without hyper itself and without
//! a socket.

#![allow(
    missing_docs,
    reason = "criterion's macro generates an undocumented function"
)]

#[path = "../src/browser.rs"]
mod browser;

use async_std::task::block_on;
use browser::BROWSER;
use criterion::{criterion_group, criterion_main, BatchSize, Criterion, Throughput};
use slackwater::prelude::*;
use slackwater::testing::{self, Client, RequestBuilder};
use slackwater::Request;
use tide::Body;

const KIB: usize = 1 << 10;

async fn app() -> slackwater::Result<App> {
    let mut app = App::new();
    app.at("/").get(|_| async { Ok("Hello, world!") });
    app.at("/many")
        .get(|_| async { Ok(Body::from_bytes(vec![b'x'; 1024 * KIB])) });
    app.at("/echo")
        .post(|mut request: Request<()>| async move { Ok(request.take_body()) });
    Ok(app)
}

fn browser_request(client: &Client) -> RequestBuilder<'_> {
    let fields = BROWSER.iter().filter_map(|field| field.split_once(": "));
    fields.fold(client.get("/"), |request, (name, value)| {
        request.header(name, value)
    })
}

fn exchange(request: RequestBuilder<'_>) -> usize {
    let response = async { request.send().await?.bytes().await };
    block_on(response).expect("an answer").len()
}

fn bridge(criterion: &mut Criterion) {
    let client = block_on(testing::client(app).start()).expect("an application");
    let mut group = criterion.benchmark_group("bridge");
    group.bench_function("one header", |b| {
        b.iter_batched(|| client.get("/"), exchange, BatchSize::SmallInput);
    });
    group.bench_function("a browser's headers", |b| {
        b.iter_batched(|| browser_request(&client), exchange, BatchSize::SmallInput);
    });
    group.throughput(Throughput::Bytes(1024 * KIB as u64));
    group.bench_function("1 MiB down", |b| {
        b.iter_batched(|| client.get("/many"), exchange, BatchSize::SmallInput);
    });
    group.throughput(Throughput::Bytes(64 * KIB as u64));
    group.bench_function("64 KiB there and back", |b| {
        let request = || client.post("/echo").body(vec![b'x'; 64 * KIB]);
        b.iter_batched(request, exchange, BatchSize::SmallInput);
    });
    group.finish();
}

criterion_group!(benches, bridge);
criterion_main!(benches);
