//! An application with all kinds of routes, for benchmarks and tests.
//!
//! Run `cargo run --example playground`, then change `[app] greeting` in `slackwater.toml` and send SIGHUP.

use std::pin::Pin;
use std::str::FromStr;
use std::sync::Arc;
use std::task::{ready, Context, Poll};
use std::time::Duration;

use async_std::io::{self, BufReader, Read, ReadExt};
use async_std::stream::{interval, Interval, Stream};
use async_std::task::sleep;
use serde_json::json;
use slackwater::prelude::*;
use slackwater::sse::{self, Event, Events};
use slackwater::ws::{self, WebSocket};
use slackwater::BodyLimit;
use tide::{Body, StatusCode};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// `[app]` in `slackwater.toml`.
#[derive(serde::Deserialize)]
#[serde(default)]
struct Settings {
    greeting: String,
    /// The duration of a start: `"500ms"`.
    start_delay: String,
    /// Makes the start fail: `true`, or the error message.
    fail_start: Fail,
}

#[derive(serde::Deserialize)]
#[serde(untagged)]
enum Fail {
    Flag(bool),
    Message(String),
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            greeting: "Hello".into(),
            start_delay: "0s".into(),
            fail_start: Fail::Flag(false),
        }
    }
}

/// The state of the handlers: an `Arc`, because tide clones the state for each request.
type Playground = Arc<Content>;

struct Content {
    greeting: String,
    generation: u64,
    build: String,
}

type Request = slackwater::Request<Playground>;

#[slackwater::main]
async fn app(settings: Settings, setup: Setup) -> slackwater::Result<App<Playground>> {
    let start_delay = humantime::parse_duration(&settings.start_delay);
    sleep(
        start_delay
            .map_err(|error| format!("app.start_delay = {:?}: {error}", settings.start_delay))?,
    )
    .await;
    match settings.fail_start {
        Fail::Flag(false) => {}
        Fail::Flag(true) => return Err("fail_start is set".into()),
        Fail::Message(message) => return Err(message.into()),
    }
    let mut app = App::with_state(Arc::new(Content {
        greeting: settings.greeting,
        generation: setup.generation(),
        build: std::env::var("PLAYGROUND_BUILD").unwrap_or_else(|_| "unnamed".into()),
    }));
    routes(&mut app);
    Ok(app)
}

fn routes(app: &mut App<Playground>) {
    app.at("/").get(|_| async { Ok("Hello, world!") });
    app.at("/pid")
        .get(|_| async { Ok(std::process::id().to_string()) });
    app.at("/generation").get(generation);
    app.at("/greet/:name").get(greet);
    app.at("/peer")
        .get(|request: Request| async move { Ok(request.peer_addr().unwrap_or("").to_owned()) });
    app.at("/sleep/:ms").get(slow);
    app.at("/echo").with(BodyLimit::none()).post(echo);
    app.at("/upload").with(BodyLimit::none()).post(upload);
    app.at("/bytes/:n").get(bytes);
    app.at("/stream/:n").get(stream);
    app.at("/events").get(sse::endpoint(events));
    app.at("/ws").get(ws::endpoint(echo_messages));
    app.at("/panic").get(always_panics);
}

async fn generation(request: Request) -> tide::Result<Body> {
    let Content {
        greeting,
        generation,
        build,
    } = &**request.state();
    let pid = std::process::id();
    Ok(
        json!({ "pid": pid, "generation": generation, "build": build, "greeting": greeting })
            .into(),
    )
}

async fn greet(request: Request) -> tide::Result<String> {
    Ok(format!(
        "{}, {}!",
        request.state().greeting,
        request.param("name")?
    ))
}

async fn slow(request: Request) -> tide::Result<&'static str> {
    sleep(Duration::from_millis(parameter(&request, "ms")?)).await;
    Ok("slept")
}

/// Streams the body back.
async fn echo(mut request: Request) -> tide::Result<Body> {
    Ok(request.take_body())
}

/// Counts the bytes of the body and discards them.
async fn upload(request: Request) -> tide::Result<String> {
    let bytes = io::copy(request, io::sink()).await?;
    Ok(bytes.to_string())
}

/// Answers with `n` bytes, generated while they are sent.
async fn bytes(request: Request) -> tide::Result<Body> {
    let n = parameter(&request, "n")?;
    Ok(Body::from_reader(
        BufReader::new(io::repeat(b'x').take(n as u64)),
        Some(n),
    ))
}

async fn stream(request: Request) -> tide::Result<Body> {
    let ticking = Ticking {
        tick: interval(Duration::from_millis(100)),
        left: parameter(&request, "n")?,
    };
    Ok(Body::from_reader(BufReader::new(ticking), None))
}

/// A body that is sent in chunks, one at each tick.
struct Ticking {
    tick: Interval,
    left: usize,
}

impl Read for Ticking {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        mut buf: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        if self.left == 0 {
            return Poll::Ready(Ok(0));
        }
        ready!(Pin::new(&mut self.tick).poll_next(cx));
        self.left -= 1;
        Poll::Ready(std::io::Write::write(&mut buf, b"chunk\n"))
    }
}

/// Sends an event each second until the client disconnects or the generation ends.
async fn events(_: Request, events: Events) -> slackwater::Result<()> {
    for n in 0_u64.. {
        events.send(Event::data(n.to_string()).name("tick")).await?;
        sleep(Duration::from_secs(1)).await;
    }
    Ok(())
}

/// Echoes the messages of a WebSocket.
async fn echo_messages(_: Request, mut socket: WebSocket) -> slackwater::Result<()> {
    while let Some(message) = socket.recv().await {
        socket.send(message).await?;
    }
    Ok(())
}

async fn always_panics(_: Request) -> tide::Result {
    panic!("requested by the client");
}

/// Parses a path parameter as a number; answers 400 if it is not a number.
fn parameter<N: FromStr>(request: &Request, name: &str) -> tide::Result<N> {
    let text = request.param(name)?;
    text.parse().map_err(|_| {
        tide::Error::from_str(StatusCode::BadRequest, format!("{name} is not a number"))
    })
}
