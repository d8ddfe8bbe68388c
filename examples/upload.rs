//! An upload of any length, streamed into a file: run `cargo run --example upload`, then
//! `curl -T some.iso localhost:8080/files/some.iso` and `curl localhost:8080/files/some.iso`.

use async_std::{fs, io};
use slackwater::prelude::*;
use slackwater::{Body, BodyLimit, Rejection};

#[derive(Clone)]
struct Dir(String);

impl Dir {
    /// Returns the path of a file. Rejects names that lead out of the directory.
    fn path(&self, name: &str) -> Result<String, Rejection> {
        match name {
            "" | "." | ".." => Err(Rejection::not_found("this is not a valid file name")),
            _ if name.contains(['/', '\0']) => {
                Err(Rejection::not_found("this is not a valid file name"))
            }
            _ => Ok(format!("{}/{name}", self.0)),
        }
    }
}

#[put("/:name")]
async fn store(
    name: String,
    State(dir): State<Dir>,
    body: BodyStream,
) -> slackwater::Result<String> {
    let mut file = fs::File::create(dir.path(&name)?).await?;
    let bytes = io::copy(body, &mut file).await?;
    file.sync_all().await?;
    Ok(format!("{bytes} bytes\n"))
}

#[get("/:name")]
async fn load(name: String, State(dir): State<Dir>) -> slackwater::Result<Option<Body>> {
    match Body::from_file(dir.path(&name)?).await {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        body => Ok(Some(body?)),
    }
}

#[derive(serde::Deserialize)]
#[serde(default)]
struct Settings {
    dir: String,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            dir: std::env::temp_dir().join("uploads").display().to_string(),
        }
    }
}

#[slackwater::main]
async fn app(settings: Settings) -> slackwater::Result<App<Dir>> {
    fs::create_dir_all(&settings.dir).await?;
    let mut app = App::with_state(Dir(settings.dir));
    app.at("/files")
        .with(BodyLimit::none())
        .mount(routes![store, load]);
    Ok(app)
}
