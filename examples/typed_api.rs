//! A JSON service. Run `cargo run --example typed_api`, then `curl localhost:8080/openapi.json` for its description, and
//! `curl localhost:8080/todos --json '{"title":""}'` for the response to an invalid request.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use slackwater::openapi::OpenApi;
use slackwater::prelude::*;
use slackwater::Rejection;

#[derive(Clone, Deserialize, Serialize, JsonSchema)]
#[serde(try_from = "String")]
struct Title(String);

impl TryFrom<String> for Title {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        match text.trim() {
            "" => Err("may not be empty"),
            text => Ok(Title(text.to_owned())),
        }
    }
}

#[derive(Clone, Deserialize, Serialize, JsonSchema)]
struct Todo {
    title: Title,
    #[serde(default)]
    done: bool,
}

#[derive(Serialize, JsonSchema)]
struct Entry {
    id: u64,
    #[serde(flatten)]
    todo: Todo,
}

#[derive(Deserialize, JsonSchema)]
struct Filter {
    done: Option<bool>,
}

type Todos = Arc<Mutex<BTreeMap<u64, Todo>>>;

fn no_todo(id: u64) -> Rejection {
    Rejection::not_found(format!("there is no todo {id}"))
}

/// Lists all todos, or only the finished or unfinished ones.
#[get("/")]
async fn list(Query(filter): Query<Filter>, State(todos): State<Todos>) -> Json<Vec<Entry>> {
    let todos = todos.lock().unwrap();
    let wanted = todos
        .iter()
        .filter(|(_, todo)| filter.done.is_none_or(|done| todo.done == done));
    Json(
        wanted
            .map(|(&id, todo)| Entry {
                id,
                todo: todo.clone(),
            })
            .collect(),
    )
}

/// Adds a todo.
#[post("/")]
async fn create(State(todos): State<Todos>, Json(todo): Json<Todo>) -> Created<Json<Entry>> {
    let mut todos = todos.lock().unwrap();
    let id = todos.last_key_value().map_or(1, |(last, _)| last + 1);
    todos.insert(id, todo.clone());
    Created::at(format!("/todos/{id}"), Json(Entry { id, todo }))
}

/// Returns a todo.
#[get("/:id")]
async fn read(id: u64, State(todos): State<Todos>) -> Result<Json<Entry>, Rejection> {
    let todo = todos
        .lock()
        .unwrap()
        .get(&id)
        .cloned()
        .ok_or_else(|| no_todo(id))?;
    Ok(Json(Entry { id, todo }))
}

/// Changes a todo.
#[put("/:id")]
async fn update(
    id: u64,
    State(todos): State<Todos>,
    Json(todo): Json<Todo>,
) -> Result<Json<Entry>, Rejection> {
    *todos
        .lock()
        .unwrap()
        .get_mut(&id)
        .ok_or_else(|| no_todo(id))? = todo.clone();
    Ok(Json(Entry { id, todo }))
}

/// Removes a todo.
#[delete("/:id")]
async fn remove(id: u64, State(todos): State<Todos>) -> Result<NoContent, Rejection> {
    todos
        .lock()
        .unwrap()
        .remove(&id)
        .map(|_| NoContent)
        .ok_or_else(|| no_todo(id))
}

#[slackwater::main]
async fn app() -> slackwater::Result<App<Todos>> {
    let mut app = App::with_state(Todos::default());
    app.mount("/todos", routes![list, create, read, update, remove]);
    app.openapi(
        "/openapi.json",
        OpenApi::new("Todos", env!("CARGO_PKG_VERSION")),
    );
    Ok(app)
}
