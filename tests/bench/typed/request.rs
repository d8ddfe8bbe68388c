//! What both servers take, and the request that asks for it.

/// The query.
#[derive(serde::Deserialize)]
pub struct Wanted {
    /// Which page.
    pub page: u32,
    /// In which order.
    pub order: String,
}

/// The body.
#[derive(serde::Deserialize)]
pub struct Order {
    /// Whose.
    pub name: String,
    /// Of what.
    pub items: Vec<Item>,
}

/// A part of it.
#[derive(serde::Deserialize)]
pub struct Item {
    /// What.
    pub title: String,
    /// How many.
    pub count: u32,
    /// Whether it is packed.
    pub packed: bool,
}

const BODY: &str = r#"{"name":"Ann Example","items":[{"title":"tea","count":3,"packed":true},
{"title":"a longer title with some words in it","count":12,"packed":false},{"title":"milk","count":1,"packed":true}]}"#;

/// The request for one of the two routes: both are sent the same.
pub fn to(route: &str) -> String {
    format!(
        "POST /{route}/4711?page=3&order=newest%20first HTTP/1.1\r\nHost: localhost\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{BODY}",
        BODY.len()
    )
}
