//! A client for an application's own tests.
//!
//! The same test code runs against the application in the test's own process, without a socket
//! ([`client`]), or against a program that is started as a process of its own ([`process`]).
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
//!     let response = client.get("/greet/Ann").send().await?;
//!     assert_eq!((response.status(), response.text().await?.as_str()), (200, "Hi, Ann!"));
//!     Ok(())
//! }
//! # testing::block_on(greets()).unwrap();
//! ```
//!
//! A setting that a test does not set has its default. An application in process reads no environment
//! variables, and it reads a configuration file only if the test names one. A request to it passes the
//! same limits of bodies, middleware, routes and problem details as in a server. Timeouts, keep-alive
//! and upgrades to WebSocket belong to connections, so they need a real process.
//!
//! In process, a panic in a handler fails the test. A real process responds with 500.

mod backend;
mod client;
mod hyper_io;
mod in_process;
mod request;
mod request_builder;
mod response;
mod spawned;

pub use client::{Builder, Client};
pub use request_builder::RequestBuilder;
pub use response::TestResponse;

use std::future::Future;
use std::path::PathBuf;
use std::time::Duration;

use crate::app::IntoApplication;

/// The limit on one response, one drain or one whole test.
const TIMEOUT: Duration = Duration::from_secs(60);

/// Returns a builder of a client for `app` in this process, without a socket.
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
    Builder::in_process(app.into_application().0)
}

/// Returns a builder of a client for a program that is started as a process of its own, on a free
/// port of the loopback interface.
///
/// ```no_run
/// # use slackwater::testing;
/// # async fn doc() -> slackwater::Result<()> {
/// let client = testing::process("target/debug/shop").set("app.greeting", "Hi").start().await?;
/// assert_eq!(client.get("/greet/Ann").send().await?.text().await?, "Hi, Ann!");
/// client.drain().await?;          // sends SIGTERM and waits for the exit
/// # Ok(()) }
/// ```
///
/// In an application's own tests the program is `env!("CARGO_BIN_EXE_shop")`.
pub fn process(program: impl Into<PathBuf>) -> Builder {
    Builder::spawned(program.into())
}

/// Runs the future of a test. `#[slackwater::test]` expands to a call of this function.
///
/// # Panics
/// The future has not completed after 60 seconds.
pub fn block_on<T>(test: impl Future<Output = T>) -> T {
    let result = async_std::task::block_on(async_std::future::timeout(TIMEOUT, test));
    result.unwrap_or_else(|_| panic!("the test did not complete within {TIMEOUT:?}"))
}
