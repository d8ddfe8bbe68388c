use slackwater::prelude::*;

#[derive(Clone)]
struct Shop;

#[derive(Clone)]
struct Bank;

#[get("/")]
async fn index(State(shop): State<Shop>) -> &'static str {
    let _: Shop = shop;
    "open"
}

fn main() {
    let mut app = App::with_state(Bank);
    app.mount("/", routes![index]);
}
