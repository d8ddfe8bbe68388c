//! An application that uses crates with a tokio context, sqlx and reqwest, in `app`, in handlers and in a background task.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use serde::Deserialize;
use slackwater::prelude::*;
use sqlx::sqlite::{SqliteConnectOptions, SqlitePool};

#[derive(Clone, Debug, Deserialize)]
struct Settings {
    /// The database file. It is created if it is missing.
    database: String,
    /// The URL of another server.
    upstream: String,
}

#[derive(Clone)]
struct Shop {
    pool: SqlitePool,
    http: reqwest::Client,
    upstream: String,
    /// The answer of the other server when this generation was built.
    greeting: String,
}

/// The number of pools that this process has opened.
static POOLS: AtomicU32 = AtomicU32::new(0);

#[slackwater::main]
async fn app(settings: Settings, setup: Setup) -> slackwater::Result<App<Shop>> {
    let pool = setup.reuse("database", settings.database, open).await?;
    let http = setup
        .reuse("http", (), |()| async {
            reqwest::Client::builder().build()
        })
        .await?;
    let Settings { upstream, .. } = settings;
    let greeting = http.get(&upstream).send().await?.text().await?;
    let mut app = App::with_state(Shop {
        pool: pool.clone(),
        http,
        upstream,
        greeting,
    });
    app.mount(
        "/",
        routes![pid, greet, pools, visit, visits, ticks, fetch, nap, spawned],
    );
    let generation = setup.generation();
    app.task("ticker", move |stop| async move {
        tick(pool, generation, stop).await
    });
    Ok(app)
}

async fn open(file: String) -> sqlx::Result<SqlitePool> {
    POOLS.fetch_add(1, Ordering::Relaxed);
    let options = SqliteConnectOptions::new()
        .filename(file)
        .create_if_missing(true)
        // during an upgrade two processes have the file open
        .journal_mode(sqlx::sqlite::SqliteJournalMode::Wal)
        .busy_timeout(Duration::from_secs(20));
    let pool = SqlitePool::connect_with(options).await?;
    sqlx::query("CREATE TABLE IF NOT EXISTS visits (pid INTEGER)")
        .execute(&pool)
        .await?;
    sqlx::query("CREATE TABLE IF NOT EXISTS ticks (pid INTEGER, generation INTEGER)")
        .execute(&pool)
        .await?;
    Ok(pool)
}

/// Writes a row every 20 ms until its generation ends.
async fn tick(pool: SqlitePool, generation: u64, stop: slackwater::Token) {
    let row = || {
        sqlx::query("INSERT INTO ticks VALUES (?, ?)")
            .bind(std::process::id())
            .bind(generation as i64)
    };
    while !stop.is_triggered() {
        if let Err(error) = row().execute(&pool).await {
            log::error!("cannot write a tick: {error}");
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    log::info!("the ticker of generation {generation} ends");
}

#[get("/pid")]
async fn pid() -> String {
    std::process::id().to_string()
}

#[get("/greet")]
async fn greet(State(shop): State<Shop>) -> String {
    shop.greeting
}

#[get("/pools")]
async fn pools() -> String {
    POOLS.load(Ordering::Relaxed).to_string()
}

#[post("/visits")]
async fn visit(State(shop): State<Shop>) -> slackwater::Result<String> {
    sqlx::query("INSERT INTO visits VALUES (?)")
        .bind(std::process::id())
        .execute(&shop.pool)
        .await?;
    Ok("welcome".into())
}

#[get("/visits")]
async fn visits(State(shop): State<Shop>) -> slackwater::Result<String> {
    let visits: i64 = sqlx::query_scalar("SELECT count(*) FROM visits")
        .fetch_one(&shop.pool)
        .await?;
    Ok(visits.to_string())
}

/// Answers with the number of rows that the task of a generation of this process has written.
#[get("/ticks/:generation")]
async fn ticks(generation: i64, State(shop): State<Shop>) -> slackwater::Result<String> {
    let ticks: i64 =
        sqlx::query_scalar("SELECT count(*) FROM ticks WHERE pid = ? AND generation = ?")
            .bind(std::process::id())
            .bind(generation)
            .fetch_one(&shop.pool)
            .await?;
    Ok(ticks.to_string())
}

#[get("/fetch")]
async fn fetch(State(shop): State<Shop>) -> slackwater::Result<String> {
    Ok(shop.http.get(&shop.upstream).send().await?.text().await?)
}

#[get("/nap/:ms")]
async fn nap(ms: u64) -> &'static str {
    tokio::time::sleep(Duration::from_millis(ms)).await;
    "rested"
}

#[get("/spawned")]
async fn spawned(State(shop): State<Shop>) -> slackwater::Result<String> {
    let task =
        tokio::spawn(async move { shop.http.get(&shop.upstream).send().await?.text().await });
    Ok(task.await??)
}
