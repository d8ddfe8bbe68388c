//! Tests of an application: asked in process without a socket, or as a real process on a free port, in the same way.
//!
//! ```
//! use slackwater::{prelude::*, testing};
//!
//! #[derive(serde::Deserialize)]
//! struct Settings { greeting: String }
//!
//! #[get("/greet/:name")]
//! async fn greet(name: String, State(greeting): State<String>) -> String {
//!     format!("{greeting}, {name}!")
//! }
//!
//! async fn app(settings: Settings) -> slackwater::Result<App<String>> {
//!     let mut app = App::with_state(settings.greeting);
//!     app.mount("/", routes![greet]);
//!     Ok(app)
//! }
//!
//! # mod hidden { use super::*;
//! #[slackwater::test]
//! # async fn unused() -> slackwater::Result<()> { Ok(()) } }
//! async fn greets() -> slackwater::Result<()> {
//!     let client = testing::client(app).set("app.greeting", "Hi").start().await?;
//!     let answer = client.get("/greet/Ann").send().await?;
//!     assert_eq!((answer.status(), answer.text().await?.as_str()), (200, "Hi, Ann!"));
//!     Ok(())
//! }
//! # testing::block_on(greets()).unwrap();
//! ```
//!
//! What a test does not give is as by default: no file, no environment. Requests go through everything that a real one
//! goes through but the socket: limits of bodies, middleware, routes, problem details. What belongs to connections
//! (timeouts, upgrades to WebSocket, keep-alive) needs a real process: [`process`].
//!
//! In process, a panic in a handler is the test's: it fails there. From a real process it is 500, as it is for everybody.

mod answer;
mod client;
mod inside;
mod outside;
mod request;
mod wire;

pub use answer::Answer;
pub use client::{Builder, Client};
pub use request::RequestBuilder;

use std::future::Future;
use std::path::PathBuf;
use std::time::Duration;

use crate::app::IntoApplication;

/// How long anything may take here: an answer, a drain, a whole test.
const PATIENCE: Duration = Duration::from_secs(60);

/// A client of `app` in this process, without a socket.
///
/// ```
/// use slackwater::{prelude::*, testing};
///
/// # testing::block_on(async {
/// let client = testing::client(|| async { Ok(App::new()) }).start().await?;
/// assert_eq!(client.get("/nothing").send().await?.status(), 404);
/// # Ok::<_, slackwater::BoxError>(()) }).unwrap();
/// ```
pub fn client<Args>(app: impl IntoApplication<Args>) -> Builder {
    Builder::inside(app.into_application().0)
}

/// A client of a program that is started as a process of its own, on a free port.
///
/// ```no_run
/// # use slackwater::testing;
/// # async fn doc() -> slackwater::Result<()> {
/// let client = testing::process("target/debug/shop").set("app.greeting", "Hi").start().await?;
/// assert_eq!(client.get("/greet/Ann").send().await?.text().await?, "Hi, Ann!");
/// client.drain().await?;          // as with SIGTERM: it has to end by itself
/// # Ok(()) }
/// ```
///
/// In an application's own tests the program is `env!("CARGO_BIN_EXE_shop")`.
pub fn process(program: impl Into<PathBuf>) -> Builder {
    Builder::outside(program.into())
}

/// Runs a test's future: what `#[slackwater::test]` does.
///
/// # Panics
/// When it is not over after a minute: a test that hangs tells nothing.
///
/// ```
/// assert_eq!(slackwater::testing::block_on(async { 1 + 1 }), 2);
/// ```
pub fn block_on<T>(test: impl Future<Output = T>) -> T {
    let ended = async_std::task::block_on(async_std::future::timeout(PATIENCE, test));
    ended.unwrap_or_else(|_| panic!("the test was not over after {PATIENCE:?}"))
}
