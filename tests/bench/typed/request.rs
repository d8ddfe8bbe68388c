//! The arguments of both typed routes, and the request for them.

/// The query.
#[derive(serde::Deserialize)]
pub struct Search {
    /// The page number.
    pub page: u32,
    /// The sort order.
    pub order: String,
}

/// The body.
#[derive(serde::Deserialize)]
pub struct Order {
    /// The customer.
    pub name: String,
    /// The ordered items.
    pub items: Vec<Item>,
}

/// An item of the order.
#[derive(serde::Deserialize)]
pub struct Item {
    /// The title.
    pub title: String,
    /// The number of pieces.
    pub count: u32,
    /// True if the item is packed.
    pub packed: bool,
}

const BODY: &str = r#"{"name":"Ann Example","items":[{"title":"tea","count":3,"packed":true},
{"title":"a longer title with some words in it","count":12,"packed":false},{"title":"milk","count":1,"packed":true}]}"#;

/// Returns the request for a route. Both routes receive the same request.
pub fn to(route: &str) -> String {
    format!(
        "POST /{route}/4711?page=3&order=newest%20first HTTP/1.1\r\nHost: localhost\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{BODY}",
        BODY.len()
    )
}
