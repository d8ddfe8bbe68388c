//! The guide: from hello to production, each step a few lines more than the one before.
//!
//! # 1. Hello
//!
//! An application is a function that gives an [`App`](crate::App); a route is a function with an attribute.
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
//! `cargo run` serves <http://localhost:8080>; `cargo run -- routes` lists the routes, `cargo run -- --help` the rest.
//!
//! # 2. Take what is needed
//!
//! What a handler needs stands in its signature. An argument named like a segment of the path is that segment, parsed; every
//! other one is an extractor ([`FromRequest`](crate::FromRequest) lists them). What it gives is the answer
//! ([`IntoResponse`](crate::IntoResponse) lists those).
//!
//! ```
//! use slackwater::prelude::*;
//!
//! #[derive(serde::Deserialize)]
//! struct Wanted { page: Option<u32> }
//!
//! #[derive(serde::Deserialize, serde::Serialize)]
//! struct Note { text: String }
//!
//! #[get("/notes/:user")]
//! async fn list(user: String, Query(wanted): Query<Wanted>) -> String {
//!     format!("page {} of {user}'s", wanted.page.unwrap_or(1))
//! }
//!
//! #[post("/notes/:user")]
//! async fn add(user: String, Json(note): Json<Note>) -> Created<Json<Note>> {
//!     Created::at(format!("/notes/{user}/1"), Json(note))
//! }
//! ```
//!
//! A request that does not fit never reaches the handler. The client is told what is wrong, as a problem document (RFC 9457):
//!
//! ```json
//! {"title":"Unprocessable Entity","status":422,"detail":"body text: expected a string, found integer `7`",
//!  "errors":[{"in":"body","field":"text","detail":"expected a string, found integer `7`",
//!             "expected":"a string","found":"integer `7`"}]}
//! ```
//!
//! Rules of one's own belong into the type: `#[serde(try_from = "String")]` on a `Title` that may not be empty, and its error is
//! told in the same way. What only the handler can know it says with a [`Rejection`](crate::Rejection). Any other error that `?`
//! meets in a function that returns [`slackwater::Result`](crate::Result) is 500: the log has it, the client of a release
//! build does not.
//!
//! # 3. Share state
//!
//! [`App::with_state`](crate::App::with_state) takes it, [`State`](crate::State) is the argument. It is cloned for each
//! request: put an `Arc` around what is large.
//!
//! # 4. Settings
//!
//! The function's first argument is `[app]` of `slackwater.toml`, as any type that implements `Deserialize`; the environment
//! (`SLACKWATER_APP__GREETING`) and `--set app.greeting=Hi` come after the file. The second is a [`Setup`](crate::Setup): why
//! the application is built, and what the generation before it can leave to it.
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
//!     // connections to the database survive a reload that leaves `database` as it is
//!     let db = setup.reuse("db", settings.database, |url| Db::connect(url)).await?;
//!     let mut app = App::with_state(Shop { greeting: settings.greeting, db: db.clone() });
//!     // where this fails, a start ends, and a reload or an upgrade changes nothing
//!     app.on_ready(move || async move { db.ping().await });
//!     Ok(app)
//! }
//! ```
//!
//! `APP check` says whether the settings are sound, `APP config` what they are and where each comes from. `kill -HUP` reads
//! them anew: the function is called again, and the new generation takes over between two requests.
//!
//! # 5. Test
//!
//! With the feature `testing` among the dev-dependencies, `slackwater::testing` asks the application in process, or a real
//! process in the same words; and a route is a function that a test may call.
//!
//! ```ignore
//! #[slackwater::test]
//! async fn it_greets() -> slackwater::Result<()> {
//!     let client = slackwater::testing::client(shop::app).set("app.greeting", "Hi").start().await?;
//!     assert_eq!(client.get("/greet/Ann").send().await?.text().await?, "Hi, Ann!");
//!     Ok(())
//! }
//! ```
//!
//! # 6. More than one file
//!
//! Routes live in modules: `app.mount("/todos", routes![todo::list, todo::create])`. What belongs together and has a
//! middleware or a state of its own is an application of its own, [nested](crate::App::nest) under a path. Two routes for the
//! same thing are refused at the start, with both functions and files.
//!
//! # 7. Production
//!
//! * Build with `--release`: the log is JSON lines, and causes of errors stay in it.
//! * Run it under systemd with `Type=notify`, `NotifyAccess=all`, `ExecReload=kill -HUP $MAINPID`; put it behind a socket unit,
//!   and connections wait while it is away.
//! * Replace the program file and `kill -USR2` the process (or `APP upgrade`): the new one takes over sockets and
//!   connections, and if it cannot start, the old one serves on.
//! * `/livez` and `/readyz` answer probes; `[shutdown] delay` is the time in which a balancer may look elsewhere.
//! * `kill -TERM` ends it: requests in flight finish, and what had to be cut is named.
//! * A handler that goes on for long takes [`Draining`](crate::Draining) and listens.
//!
//! The examples in the repository show each of these alone. [A to-do service](mod@todo) stands beside the same in axum and Rocket.

pub mod todo;
