use slackwater::prelude::*;

struct Todo {
    title: String,
}

#[get("/todo")]
async fn todo() -> Todo {
    Todo {
        title: "rest".into(),
    }
}

fn main() {
    let mut app = App::new();
    app.mount("/", routes![todo]);
}
