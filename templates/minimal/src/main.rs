use slackwater::prelude::*;

/// `[app]` in slackwater.toml.
#[derive(serde::Deserialize, Clone)]
struct Settings {
    greeting: String,
}

#[get("/")]
async fn index(State(settings): State<Settings>) -> Html<String> {
    Html(include_str!("index.html").replace("GREETING", &settings.greeting))
}

#[get("/greet/:name")]
async fn greet(name: String, State(settings): State<Settings>) -> String {
    format!("{}, {name}!\n", settings.greeting)
}

#[slackwater::main]
async fn app(settings: Settings) -> slackwater::Result<App<Settings>> {
    let mut app = App::with_state(settings);
    app.mount("/", routes![index, greet]);
    Ok(app)
}
