//! The to-do service on Rocket 0.5.

use std::collections::BTreeMap;
use std::sync::Mutex;

use rocket::http::Status;
use rocket::response::status::{Created, NoContent};
use rocket::serde::json::{self, json, Json, Value};
use rocket::{catch, catchers, delete, get, launch, post, put, routes, Request, State};
use serde::{Deserialize, Serialize};

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

type Todos = State<Mutex<BTreeMap<u64, Todo>>>;
type Problem = (Status, Value);
type Body<'r> = Result<Json<Todo>, json::Error<'r>>;

fn problem(status: Status, detail: String) -> Problem {
    (status, json!({ "status": status.code, "detail": detail }))
}

fn no_todo(id: u64) -> Problem {
    problem(Status::NotFound, format!("there is no todo {id}"))
}

fn body(body: Body<'_>) -> Result<Todo, Problem> {
    match body {
        Ok(Json(todo)) => Ok(todo),
        Err(json::Error::Io(error)) => Err(problem(Status::BadRequest, error.to_string())),
        Err(json::Error::Parse(_, error)) => {
            Err(problem(Status::UnprocessableEntity, error.to_string()))
        }
    }
}

#[get("/?<done>")]
fn list(done: Option<bool>, todos: &Todos) -> Json<Vec<Entry>> {
    let todos = todos.lock().unwrap();
    let wanted = todos
        .iter()
        .filter(|(_, todo)| done.is_none_or(|done| todo.done == done));
    Json(
        wanted
            .map(|(&id, todo)| Entry {
                id,
                todo: todo.clone(),
            })
            .collect(),
    )
}

#[post("/", data = "<todo>")]
fn create(todo: Body<'_>, todos: &Todos) -> Result<Created<Json<Entry>>, Problem> {
    let (todo, mut todos) = (body(todo)?, todos.lock().unwrap());
    let id = todos.last_key_value().map_or(1, |(last, _)| last + 1);
    todos.insert(id, todo.clone());
    Ok(Created::new(format!("/todos/{id}")).body(Json(Entry { id, todo })))
}

#[get("/<id>")]
fn read(id: u64, todos: &Todos) -> Result<Json<Entry>, Problem> {
    let todo = todos
        .lock()
        .unwrap()
        .get(&id)
        .cloned()
        .ok_or_else(|| no_todo(id))?;
    Ok(Json(Entry { id, todo }))
}

#[put("/<id>", data = "<todo>")]
fn update(id: u64, todo: Body<'_>, todos: &Todos) -> Result<Json<Entry>, Problem> {
    let todo = body(todo)?;
    *todos
        .lock()
        .unwrap()
        .get_mut(&id)
        .ok_or_else(|| no_todo(id))? = todo.clone();
    Ok(Json(Entry { id, todo }))
}

#[delete("/<id>")]
fn remove(id: u64, todos: &Todos) -> Result<NoContent, Problem> {
    todos
        .lock()
        .unwrap()
        .remove(&id)
        .map(|_| NoContent)
        .ok_or_else(|| no_todo(id))
}

#[catch(default)]
fn otherwise(status: Status, _: &Request<'_>) -> Value {
    json!({ "status": status.code, "detail": status.reason_lossy() })
}

#[launch]
fn rocket() -> _ {
    rocket::build()
        .manage(Mutex::new(BTreeMap::<u64, Todo>::new()))
        .mount("/todos", routes![list, create, read, update, remove])
        .register("/", catchers![otherwise])
}
