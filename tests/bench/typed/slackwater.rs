//! A route with slackwater's extractors for path, query and JSON body, and a plain tide handler.

use slackwater::prelude::*;

#[allow(dead_code, unused_imports)]
#[path = "request.rs"]
mod request;

#[post("/typed/:id")]
async fn typed(
    id: u64,
    Query(search): Query<request::Search>,
    Json(order): Json<request::Order>,
) -> &'static str {
    std::hint::black_box((id, search, order));
    "done"
}

#[slackwater::main]
async fn app() -> slackwater::Result<App> {
    let mut app = App::new();
    app.at("/plain/:id").post(|_| async { Ok("done") });
    app.mount("/", routes![typed]);
    Ok(app)
}
