use slackwater::prelude::*;

#[get("/users/:id/posts/:post")]
async fn post(id: u64) -> String {
    id.to_string()
}

fn main() {
    let mut app = App::new();
    app.mount("/", routes![post]);
}
