//! The application: its settings, its state, its routes.

mod notes;
mod state;

use slackwater::prelude::*;

use notes::{add, index, list, note};
use state::{Notes, Service};

/// `[app]` in slackwater.toml.
#[derive(serde::Deserialize, Clone, Debug)]
pub struct Settings {
    /// The greeting on the page.
    pub greeting: String,
    /// The largest number of notes.
    pub limit: usize,
}

/// Builds the application at the start and at every reload, with the settings of that moment.
pub async fn app(settings: Settings, setup: Setup) -> slackwater::Result<App<Service>> {
    if settings.limit == 0 {
        return Err("app.limit must be at least 1".into());
    }
    // a reload reuses the notes, because they do not depend on the settings
    let notes = setup
        .reuse("notes", (), |()| async {
            Ok::<_, slackwater::BoxError>(Notes::default())
        })
        .await?;
    let mut app = App::with_state(Service { settings, notes });
    app.mount("/", routes![index, list, add, note]);
    Ok(app)
}
