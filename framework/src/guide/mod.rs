//! The guide: from a first route to production. Each step adds a few lines to the step before it.
//!
//! # 1. Hello
//!
//! An application is a function that returns an [`App`](crate::App); a route is a function with an attribute.
//!
//! ```no_run
//! use slackwater::prelude::*;
//!
//! #[get("/")]
//! async fn hello() -> &'static str {
//!     "Hello, world!"
//! }
//!
//! #[slackwater::main]
//! async fn app() -> slackwater::Result<App> {
//!     let mut app = App::new();
//!     app.mount("/", routes![hello]);
//!     Ok(app)
//! }
//! ```
//!
//! `cargo run` serves <http://localhost:8080>. `cargo run -- routes` lists the routes, and `cargo run -- --help` lists all
//! commands.
//!
//! # 2. Extract data from requests
//!
//! The signature of a handler declares its input and output. An argument named like a segment of the path receives that
//! segment, parsed. Every other argument is an extractor; [`FromRequest`](crate::FromRequest) lists them. The return value
//! becomes the response; [`IntoResponse`](crate::IntoResponse) lists the types.
//!
//! ```
//! use slackwater::prelude::*;
//!
//! #[derive(serde::Deserialize)]
//! struct Paging { page: Option<u32> }
//!
//! #[derive(serde::Deserialize, serde::Serialize)]
//! struct Note { text: String }
//!
//! #[get("/notes/:user")]
//! async fn list(user: String, Query(paging): Query<Paging>) -> String {
//!     format!("page {} of {user}'s", paging.page.unwrap_or(1))
//! }
//!
//! #[post("/notes/:user")]
//! async fn add(user: String, Json(note): Json<Note>) -> Created<Json<Note>> {
//!     Created::at(format!("/notes/{user}/1"), Json(note))
//! }
//! ```
//!
//! A request that does not match the signature never reaches the handler. The client receives a problem document (RFC 9457)
//! that describes the error:
//!
//! ```json
//! {"title":"Unprocessable Entity","status":422,"detail":"body text: expected a string, found integer `7`",
//!  "errors":[{"in":"body","field":"text","detail":"expected a string, found integer `7`",
//!             "expected":"a string","found":"integer `7`"}]}
//! ```
//!
//! Put validation into the type: with `#[serde(try_from = "String")]` a `Title` can reject an empty text, and the client
//! receives the error in the same format. For errors that only the handler can detect, return a
//! [`Rejection`](crate::Rejection). Any other error that `?` returns from a function with the result
//! [`slackwater::Result`](crate::Result) becomes status 500. The log contains the error; the response of a release build
//! does not.
//!
//! # 3. Share state
//!
//! Pass the state to [`App::with_state`](crate::App::with_state), and take it in handlers as an argument
//! [`State`](crate::State). The framework clones it for each request, so wrap large values in an `Arc`.
//!
//! # 4. Settings
//!
//! The first argument of the application's function is the table `[app]` of `slackwater.toml`, as any type that implements
//! `Deserialize`. The environment (`SLACKWATER_APP__GREETING`) and `--set app.greeting=Hi` override the file. The second
//! argument is a [`Setup`](crate::Setup): it contains the reason for the call, and it reuses values of the previous
//! generation.
//!
//! ```
//! use slackwater::prelude::*;
//!
//! #[derive(serde::Deserialize)]
//! struct Settings { greeting: String, database: String }
//!
//! # #[derive(Clone)] struct Db;
//! # impl Db { async fn connect(_: String) -> slackwater::Result<Db> { Ok(Db) } async fn ping(&self) -> slackwater::Result<()> { Ok(()) } }
//! #[derive(Clone)]
//! struct Shop { greeting: String, db: Db }
//!
//! async fn app(settings: Settings, setup: Setup) -> slackwater::Result<App<Shop>> {
//!     // a reload that does not change `database` reuses the connections
//!     let db = setup.reuse("db", settings.database, |url| Db::connect(url)).await?;
//!     let mut app = App::with_state(Shop { greeting: settings.greeting, db: db.clone() });
//!     // if this fails, the process does not start; a failed reload or upgrade changes nothing
//!     app.on_ready(move || async move { db.ping().await });
//!     Ok(app)
//! }
//! ```
//!
//! `APP check` validates the settings; `APP config` prints them with the source of each. `kill -HUP` reloads them: the
//! framework calls the function again, and the new generation answers the next requests.
//!
//! # 5. Test
//!
//! Enable the feature `testing` in the dev-dependencies. Then `slackwater::testing` sends requests to the application in the
//! test's process, or to a separate process with the same methods. A test can also call a route directly, because it stays a
//! function.
//!
//! ```ignore
//! #[slackwater::test]
//! async fn the_configured_greeting_is_used() -> slackwater::Result<()> {
//!     let client = slackwater::testing::client(shop::app).set("app.greeting", "Hi").start().await?;
//!     assert_eq!(client.get("/greet/Ann").send().await?.text().await?, "Hi, Ann!");
//!     Ok(())
//! }
//! ```
//!
//! # 6. More than one file
//!
//! Put routes into modules: `app.mount("/todos", routes![todo::list, todo::create])`. For a group of routes with its own
//! middleware or state, create a second `App` and [nest](crate::App::nest) it under a path. Two routes with the same method
//! and path are an error at the start; the message names both functions and their files.
//!
//! # 7. Production
//!
//! * Build with `--release`: the log is written as JSON lines, and responses do not contain the causes of errors.
//! * Run the service under systemd with `Type=notify`, `NotifyAccess=all`, `ExecReload=kill -HUP $MAINPID`. With a socket
//!   unit, connections wait in the kernel while the service restarts.
//! * To upgrade, replace the program file and send USR2 (or run `APP upgrade`). The new process takes over sockets and
//!   connections. If it cannot start, the old process keeps serving.
//! * Point health checks at `/livez` and `/readyz`. During `[shutdown] delay`, balancers can switch to other servers.
//! * `kill -TERM` stops the service: requests in progress finish, and the log lists connections that had to be closed.
//! * A handler that runs for a long time takes [`Draining`](crate::Draining) and stops when it is triggered.
//!
//! The repository has an example for each of these steps. [A to-do service](mod@todo) compares slackwater with axum and
//! Rocket.

pub mod todo;
