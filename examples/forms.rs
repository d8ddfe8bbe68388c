//! A form and a cookie: run `cargo run --example forms`, then open <http://localhost:8080>.

use serde::Deserialize;
use slackwater::prelude::*;
use slackwater::{Cookie, Redirect};

#[derive(Deserialize)]
struct Login {
    name: String,
}

#[get("/")]
async fn page(cookies: Cookies) -> Html<String> {
    Html(match cookies.get("name") {
        Some(name) => format!(
            "<p>Hello, {}!</p><form method=post action=/logout><button>Forget me</button></form>",
            escape(name)
        ),
        None => {
            "<form method=post action=/login><input name=name required><button>Log in</button></form>".into()
        }
    })
}

#[post("/login")]
async fn login(
    mut cookies: Cookies,
    Form(login): Form<Login>,
) -> (Cookies, Redirect<&'static str>) {
    cookies.set(
        Cookie::build("name", login.name)
            .path("/")
            .http_only(true)
            .finish(),
    );
    (cookies, Redirect::see_other("/"))
}

#[post("/logout")]
async fn logout(mut cookies: Cookies) -> (Cookies, Redirect<&'static str>) {
    cookies.remove("name");
    (cookies, Redirect::see_other("/"))
}

/// Escapes a visitor's input for HTML.
fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

#[slackwater::main]
async fn app() -> slackwater::Result<App> {
    let mut app = App::new();
    app.mount("/", routes![page, login, logout]);
    Ok(app)
}
