//! The to-do service on axum 0.8.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use axum::extract::rejection::JsonRejection;
use axum::extract::{FromRequest, Path, Query, State};
use axum::http::{header::LOCATION, StatusCode};
use axum::response::{IntoResponse, Json, Response};
use axum::routing::get;
use axum::Router;
use serde::{Deserialize, Serialize};
use serde_json::json;

#[derive(Clone, Deserialize, Serialize)]
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

#[derive(Clone, Deserialize, Serialize)]
struct Todo {
    title: Title,
    #[serde(default)]
    done: bool,
}

#[derive(Serialize)]
struct Entry {
    id: u64,
    #[serde(flatten)]
    todo: Todo,
}

#[derive(Deserialize)]
struct Filter {
    done: Option<bool>,
}

type Todos = Arc<Mutex<BTreeMap<u64, Todo>>>;

struct Problem(StatusCode, String);

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        (
            self.0,
            Json(json!({ "status": self.0.as_u16(), "detail": self.1 })),
        )
            .into_response()
    }
}

impl From<JsonRejection> for Problem {
    fn from(rejection: JsonRejection) -> Self {
        Problem(rejection.status(), rejection.body_text())
    }
}

#[derive(FromRequest)]
#[from_request(via(axum::Json), rejection(Problem))]
struct Body<T>(T);

fn no_todo(id: u64) -> Problem {
    Problem(StatusCode::NOT_FOUND, format!("there is no todo {id}"))
}

async fn list(State(todos): State<Todos>, Query(filter): Query<Filter>) -> Json<Vec<Entry>> {
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

async fn create(State(todos): State<Todos>, Body(todo): Body<Todo>) -> impl IntoResponse {
    let mut todos = todos.lock().unwrap();
    let id = todos.last_key_value().map_or(1, |(last, _)| last + 1);
    todos.insert(id, todo.clone());
    (
        StatusCode::CREATED,
        [(LOCATION, format!("/todos/{id}"))],
        Json(Entry { id, todo }),
    )
}

async fn read(State(todos): State<Todos>, Path(id): Path<u64>) -> Result<Json<Entry>, Problem> {
    let todo = todos
        .lock()
        .unwrap()
        .get(&id)
        .cloned()
        .ok_or_else(|| no_todo(id))?;
    Ok(Json(Entry { id, todo }))
}

async fn update(
    State(todos): State<Todos>,
    Path(id): Path<u64>,
    Body(todo): Body<Todo>,
) -> Result<Json<Entry>, Problem> {
    *todos
        .lock()
        .unwrap()
        .get_mut(&id)
        .ok_or_else(|| no_todo(id))? = todo.clone();
    Ok(Json(Entry { id, todo }))
}

async fn remove(State(todos): State<Todos>, Path(id): Path<u64>) -> Result<StatusCode, Problem> {
    todos
        .lock()
        .unwrap()
        .remove(&id)
        .map(|_| StatusCode::NO_CONTENT)
        .ok_or_else(|| no_todo(id))
}

#[tokio::main]
async fn main() {
    let app = Router::new()
        .route("/todos", get(list).post(create))
        .route("/todos/{id}", get(read).put(update).delete(remove))
        .with_state(Todos::default());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:8080")
        .await
        .unwrap();
    axum::serve(listener, app).await.unwrap();
}
