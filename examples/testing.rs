//! An application and its tests: `cargo test --example testing`. They ask it in this process, without a socket.

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
    async fn it_greets_as_it_is_set_to() -> slackwater::Result<()> {
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

    /// A route is a function as well.
    #[slackwater::test]
    async fn a_route_is_called() {
        assert_eq!(greet("Ann".into(), State("Hey".into())).await, "Hey, Ann!");
    }
}
