//! `slackwater::testing`: its client has the same methods for an application in this process and for a spawned process.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::Arc;

use slackwater::prelude::*;
use slackwater::testing::{self, Client};
use slackwater_tests::program;

#[derive(serde::Deserialize)]
struct Settings {
    greeting: String,
    #[serde(default)]
    refuse: bool,
}

#[derive(Clone)]
struct Greeter {
    greeting: String,
}

#[get("/greet/:name")]
async fn greet(name: String, State(greeter): State<Greeter>) -> String {
    format!("{}, {name}!", greeter.greeting)
}

#[post("/echo")]
async fn echo(body: BodyStream) -> BodyStream {
    body
}

#[post("/sum")]
async fn sum(Json(numbers): Json<Vec<i64>>) -> Json<i64> {
    Json(numbers.iter().sum())
}

#[derive(serde::Deserialize)]
struct Name {
    name: String,
}

#[post("/name")]
async fn name(Form(form): Form<Name>) -> String {
    form.name
}

#[get("/wait")]
async fn wait(draining: Draining) -> &'static str {
    draining.wait().await;
    "drained"
}

/// Starts an application that counts its drained generations in `drained`.
async fn start(drained: &Arc<AtomicU32>) -> slackwater::Result<Client> {
    let drained = drained.clone();
    let app = move |settings: Settings, setup: Setup| {
        let drained = drained.clone();
        async move {
            assert_eq!(setup.reason(), slackwater::Reason::Test);
            let mut app = App::with_state(Greeter {
                greeting: settings.greeting,
            });
            app.mount("/", routes![greet, echo, sum, name, wait]);
            app.on_ready(move || async move {
                if settings.refuse {
                    Err("refused by app.refuse".into())
                } else {
                    Ok(())
                }
            });
            app.on_drain(move || async move {
                drained.fetch_add(1, Ordering::SeqCst);
            });
            Ok(app)
        }
    };
    testing::client(app)
        .set("app.greeting", "Hi")
        .set("http.body_limit", "1KiB")
        .start()
        .await
}

#[slackwater::test]
async fn the_client_sends_requests_to_an_application_without_a_socket() -> slackwater::Result<()> {
    let client = start(&Arc::default()).await?;
    let answer = client.get("/greet/Z%C3%B6e").send().await?;
    assert_eq!(
        (answer.status(), answer.header("content-type")),
        (200, Some("text/plain;charset=utf-8"))
    );
    assert_eq!(answer.text().await?, "Hi, Zöe!");
    assert_eq!(
        client
            .post("/echo")
            .body("abc")
            .send()
            .await?
            .text()
            .await?,
        "abc"
    );
    assert_eq!(
        client
            .post("/sum")
            .json(&[1, 2])
            .send()
            .await?
            .json::<i64>()
            .await?,
        3
    );
    assert_eq!(
        client
            .post("/name")
            .form(&[("name", "A & B")])
            .send()
            .await?
            .text()
            .await?,
        "A & B"
    );
    assert_eq!(client.post("/sum").body("[]").send().await?.status(), 415);
    assert_eq!(
        client
            .post("/sum")
            .json(&vec![0; 1025])
            .send()
            .await?
            .status(),
        413
    );
    assert_eq!(client.request("BREW", "/").send().await?.status(), 501);
    assert_eq!(client.get("/livez").send().await?.status(), 200);
    let head = client.head("/greet/A").send().await?;
    assert_eq!((head.status(), head.bytes().await?.len()), (200, 0));
    assert!(client.get("no path").send().await.is_err());
    assert!(client.get("/").header("x", "a\nb").send().await.is_err());
    Ok(())
}

#[slackwater::test]
async fn the_client_reloads_an_application_with_other_settings_and_drains_it(
) -> slackwater::Result<()> {
    let drained = Arc::default();
    let client = start(&drained).await?;
    let waiting = client.get("/wait").send();
    client.set("app.greeting", "Ho")?;
    let (waited, reloaded) = futures_lite::future::zip(waiting, client.reload()).await;
    reloaded?;
    assert_eq!(
        waited?.text().await?,
        "drained",
        "the old generation drains"
    );
    assert_eq!(
        client.get("/greet/Ann").send().await?.text().await?,
        "Ho, Ann!"
    );

    client.set("app.refuse", true)?;
    assert!(client
        .reload()
        .await
        .unwrap_err()
        .to_string()
        .contains("on_ready"));
    assert_eq!(
        client.get("/greet/Ann").send().await?.text().await?,
        "Ho, Ann!"
    );

    client.drain().await?;
    assert_eq!(drained.load(Ordering::SeqCst), 2);
    assert_eq!(client.get("/readyz").send().await?.status(), 503);
    Ok(())
}

#[slackwater::test]
async fn a_failed_start_returns_its_error() {
    let without_greeting = testing::client(|_: Settings| async { Ok(App::new()) })
        .start()
        .await
        .unwrap_err();
    assert!(
        without_greeting.to_string().contains("greeting"),
        "{without_greeting}"
    );
}

#[slackwater::test]
async fn the_client_of_a_spawned_process_has_the_same_methods() -> slackwater::Result<()> {
    let process = || {
        testing::process(program::playground())
            .set("app.greeting", "Hi")
            .set("log.file", "/dev/null")
    };
    let client = process().start().await?;
    let generation: serde_json::Value = client.get("/generation").send().await?.json().await?;
    assert_eq!(generation["pid"], client.pid().unwrap());
    assert_eq!(
        client.get("/greet/Ann").send().await?.text().await?,
        "Hi, Ann!"
    );
    assert_eq!(
        client
            .post("/echo")
            .body("abc")
            .send()
            .await?
            .text()
            .await?,
        "abc"
    );
    let mut stream = client.get("/stream/2").send().await?;
    assert_eq!(stream.piece().await?.as_deref(), Some(&b"chunk\n"[..]));
    client.reload().await?;
    let generation: serde_json::Value = client.get("/generation").send().await?.json().await?;
    assert_eq!(generation["generation"], 2);
    assert!(client.set("app.greeting", "Ho").is_err());
    drop(stream);
    client.drain().await?;
    assert!(
        client.get("/pid").send().await.is_err(),
        "the process has exited"
    );

    let failing = process()
        .set("app.fail_start", true)
        .start()
        .await
        .unwrap_err();
    assert!(
        failing
            .to_string()
            .contains("exited before it sent a response: exit status: 1"),
        "{failing}"
    );
    Ok(())
}
