//! An application and its tests: `cargo test --example testing`. The tests run the application in their process, without a
//! socket.

use slackwater::prelude::*;

#[derive(serde::Deserialize)]
struct Settings {
    greeting: String,
}

#[get("/greet/:name")]
async fn greet(name: String, State(greeting): State<String>) -> String {
    format!("{greeting}, {name}!")
}

#[slackwater::main]
async fn app(settings: Settings) -> slackwater::Result<App<String>> {
    let mut app = App::with_state(settings.greeting);
    app.mount("/", routes![greet]);
    Ok(app)
}

#[cfg(test)]
mod tests {
    use super::*;
    use slackwater::testing;

    #[slackwater::test]
    async fn a_reload_changes_the_greeting() -> slackwater::Result<()> {
        let client = testing::client(app)
            .set("app.greeting", "Hi")
            .start()
            .await?;
        assert_eq!(
            client.get("/greet/Ann").send().await?.text().await?,
            "Hi, Ann!"
        );
        client.set("app.greeting", "Ho")?;
        client.reload().await?;
        assert_eq!(
            client.get("/greet/Ann").send().await?.text().await?,
            "Ho, Ann!"
        );
        Ok(())
    }

    /// Calls the route directly: a route remains an ordinary function.
    #[slackwater::test]
    async fn a_route_can_be_called_as_a_function() {
        assert_eq!(greet("Ann".into(), State("Hey".into())).await, "Hey, Ann!");
    }
}
