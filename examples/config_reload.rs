//! Settings that change while it serves: `cargo run --example config_reload`, write `[app] greeting = "Hi"` (in two lines)
//! into `slackwater.toml`, and `kill -HUP` it. A mistake in the file is told with its line, and changes nothing.

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

/// Called at the start and for each reload, with the settings of then.
#[slackwater::main]
async fn app(settings: Settings, setup: Setup) -> slackwater::Result<App<String>> {
    log::info!(
        "generation {} greets with {:?}",
        setup.generation(),
        settings.greeting
    );
    let polite = !settings.greeting.is_empty();
    let mut app = App::with_state(settings.greeting);
    app.mount("/", routes![greet]);
    // what must hold before it goes live; else the generation before serves on
    app.on_ready(move || async move {
        if polite {
            Ok(())
        } else {
            Err("the greeting is empty".into())
        }
    });
    Ok(app)
}
