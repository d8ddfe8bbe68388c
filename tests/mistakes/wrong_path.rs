use slackwater::prelude::*;

#[get("/users/{id}")]
async fn user(id: u64) -> String {
    id.to_string()
}

#[get("todos")]
async fn todos() -> String {
    String::new()
}

fn main() {
    let mut app = App::new();
    app.mount("/", routes![user, todos]);
}
