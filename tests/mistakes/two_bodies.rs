use slackwater::prelude::*;

#[post("/notes/:id")]
async fn note(id: u64, text: String, Json(tags): Json<Vec<String>>) -> String {
    format!("{id} {text} {tags:?}")
}

fn main() {
    let mut app = App::new();
    app.mount("/", routes![note]);
}
