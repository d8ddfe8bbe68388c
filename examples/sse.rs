//! Server-sent events: run `cargo run --example sse`, then `curl -N localhost:8080/clock`. A reload or a shutdown ends the
//! stream properly, and clients reconnect.

use std::time::Duration;

use slackwater::prelude::*;
use slackwater::sse::{self, Event};
use slackwater::{Request, Response};

#[get("/")]
async fn page() -> Html<&'static str> {
    Html(
        "<pre id=out></pre><script>new EventSource('/clock')
        .addEventListener('tick', event => out.append(event.data + '\\n'))</script>",
    )
}

#[get("/clock")]
async fn clock(request: Request<()>) -> Response {
    sse::stream(&request, |events| async move {
        for second in 0_u64.. {
            events
                .send(Event::data(second.to_string()).name("tick"))
                .await?;
            async_std::task::sleep(Duration::from_secs(1)).await;
        }
        Ok(())
    })
}

#[slackwater::main]
async fn app() -> slackwater::Result<App> {
    let mut app = App::new();
    app.mount("/", routes![page, clock]);
    Ok(app)
}
