//! The application as a client sees it, in this process and as one of its own.

use serde_json::json;
use slackwater::testing::{self, Builder};

fn with_settings(builder: Builder) -> Builder {
    builder.set("app.greeting", "Hi").set("app.limit", 1)
}

#[slackwater::test]
async fn notes_are_kept_and_found_again() -> slackwater::Result<()> {
    let client = with_settings(testing::client({{crate_name}}::app)).start().await?;
    let added = client.post("/notes").json(&json!({ "text": "milk" })).send().await?;
    assert_eq!(added.status(), 201);
    let note: serde_json::Value = client.get("/notes/0").send().await?.json().await?;
    assert_eq!(note, json!({ "text": "milk" }));
    assert_eq!(client.get("/notes/7").send().await?.status(), 404);
    let refused = client.post("/notes").json(&json!({ "text": "bread" })).send().await?;
    assert_eq!(refused.status(), 507);
    Ok(())
}

#[slackwater::test]
async fn a_reload_keeps_the_notes_and_takes_the_settings() -> slackwater::Result<()> {
    let client = with_settings(testing::client({{crate_name}}::app)).start().await?;
    client.post("/notes").json(&json!({ "text": "milk" })).send().await?;
    client.set("app.greeting", "Good evening")?;
    client.reload().await?;
    assert!(client.get("/").send().await?.text().await?.contains("Good evening"));
    assert_eq!(client.get("/notes").send().await?.json::<Vec<String>>().await?, ["milk"]);
    Ok(())
}

#[slackwater::test]
async fn the_program_is_ready_and_ends_when_it_is_told_to() -> slackwater::Result<()> {
    let program = testing::process(env!("CARGO_BIN_EXE_{{project-name}}"));
    let client = with_settings(program).start().await?;
    assert_eq!(client.get("/readyz").send().await?.status(), 200);
    client.drain().await?;
    Ok(())
}
