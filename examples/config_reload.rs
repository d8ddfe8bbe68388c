//! Reloading settings: run `cargo run --example config_reload`, write `[app]` and `greeting = "Hi"` (two lines) into
//! `slackwater.toml`, and send SIGHUP to the process. If the file has an error, the log names the line, and the
//! application keeps its settings.

use slackwater::prelude::*;

/// `[app]` in `slackwater.toml`, `SLACKWATER_APP__GREETING` in the environment, `--set app.greeting=Hi`.
#[derive(serde::Deserialize)]
#[serde(default)]
struct Settings {
    greeting: String,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            greeting: "Hello".into(),
        }
    }
}

#[get("/:name")]
async fn greet(name: String, State(greeting): State<String>) -> String {
    format!("{greeting}, {name}!\n")
}

/// Builds the application at the start and at each reload, with the settings of that moment.
#[slackwater::main]
async fn app(settings: Settings, setup: Setup) -> slackwater::Result<App<String>> {
    log::info!(
        "generation {} greets with {:?}",
        setup.generation(),
        settings.greeting
    );
    let has_greeting = !settings.greeting.is_empty();
    let mut app = App::with_state(settings.greeting);
    app.mount("/", routes![greet]);
    // if this fails, the reload is refused and the previous generation continues to serve
    app.on_ready(move || async move {
        if has_greeting {
            Ok(())
        } else {
            Err("the greeting is empty".into())
        }
    });
    Ok(app)
}
