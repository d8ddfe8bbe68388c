//! A WebSocket that echoes messages: run `cargo run --example websocket`, then open <http://localhost:8080>. When the process
//! drains, it closes the socket with code 1012 ("service restart"), so that the client reconnects.

use slackwater::prelude::*;
use slackwater::ws::Upgrade;
use slackwater::{Request, Response};

#[get("/")]
async fn page() -> Html<&'static str> {
    Html(
        "<input id=text><pre id=out></pre><script>const socket = new WebSocket('ws://' + location.host + '/echo')
        socket.onmessage = message => out.append(message.data + '\\n')
        text.onchange = () => { socket.send(text.value); text.value = '' }</script>",
    )
}

#[get("/echo")]
async fn echo(request: Request<()>) -> Response {
    Upgrade::of(&request).serve(|mut socket| async move {
        while let Some(message) = socket.recv().await {
            socket.send(message).await?;
        }
        Ok(())
    })
}

#[slackwater::main]
async fn app() -> slackwater::Result<App> {
    let mut app = App::new();
    app.mount("/", routes![page, echo]);
    Ok(app)
}
