//! The routes.

use slackwater::prelude::*;
use slackwater::{Rejection, StatusCode};

use crate::state::Service;

/// A note in requests and answers.
#[derive(serde::Deserialize, serde::Serialize)]
pub struct Note {
    text: String,
}

#[get("/")]
pub async fn index(State(service): State<Service>) -> Html<String> {
    Html(include_str!("index.html").replace("GREETING", &service.settings.greeting))
}

#[get("/notes")]
pub async fn list(State(service): State<Service>) -> Json<Vec<String>> {
    Json(service.notes.all())
}

#[post("/notes")]
pub async fn add(
    State(service): State<Service>,
    Json(note): Json<Note>,
) -> Result<(StatusCode, Json<usize>), Rejection> {
    let id = service.notes.add(note.text, service.settings.limit);
    let id = id.ok_or_else(|| {
        Rejection::new(StatusCode::InsufficientStorage, "there are too many notes")
    })?;
    Ok((StatusCode::Created, Json(id)))
}

#[get("/notes/:id")]
pub async fn note(id: usize, State(service): State<Service>) -> Option<Json<Note>> {
    service.notes.get(id).map(|text| Json(Note { text }))
}
