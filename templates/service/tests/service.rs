//! Tests of the application: in the test's process, and as a separate process.

use serde_json::json;
use slackwater::testing::{self, Builder};

use {{crate_name}}::app;

fn with_settings(builder: Builder) -> Builder {
    builder.set("app.greeting", "Hi").set("app.limit", 1)
}

#[slackwater::test]
async fn an_added_note_can_be_read() -> slackwater::Result<()> {
    let client = with_settings(testing::client(app)).start().await?;
    let added = client
        .post("/notes")
        .json(&json!({ "text": "milk" }))
        .send()
        .await?;
    assert_eq!(added.status(), 201);
    let note: serde_json::Value = client.get("/notes/0").send().await?.json().await?;
    assert_eq!(note, json!({ "text": "milk" }));
    assert_eq!(client.get("/notes/7").send().await?.status(), 404);
    let rejected = client
        .post("/notes")
        .json(&json!({ "text": "bread" }))
        .send()
        .await?;
    assert_eq!(rejected.status(), 507);
    Ok(())
}

#[slackwater::test]
async fn a_reload_keeps_the_notes_and_changes_the_greeting() -> slackwater::Result<()> {
    let client = with_settings(testing::client(app)).start().await?;
    client
        .post("/notes")
        .json(&json!({ "text": "milk" }))
        .send()
        .await?;
    client.set("app.greeting", "Good evening")?;
    client.reload().await?;
    assert!(client
        .get("/")
        .send()
        .await?
        .text()
        .await?
        .contains("Good evening"));
    assert_eq!(
        client
            .get("/notes")
            .send()
            .await?
            .json::<Vec<String>>()
            .await?,
        ["milk"]
    );
    Ok(())
}

#[slackwater::test]
async fn the_program_becomes_ready_and_drains() -> slackwater::Result<()> {
    let program = testing::process(env!("CARGO_BIN_EXE_{{project-name}}"));
    let client = with_settings(program).start().await?;
    assert_eq!(client.get("/readyz").send().await?.status(), 200);
    client.drain().await?;
    Ok(())
}
