use slackwater::prelude::*;

struct User;

#[get("/me")]
async fn me(user: User) -> &'static str {
    let _ = user;
    "you"
}

fn main() {
    let mut app = App::new();
    app.mount("/", routes![me]);
}
