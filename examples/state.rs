//! State that handlers share: run `cargo run --example state`, then `curl localhost:8080/visits` a few times.

use std::convert::Infallible;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::Arc;

use slackwater::prelude::*;

/// An `Arc`, because the state is cloned for each request.
#[derive(Clone, Default)]
struct Visits(Arc<AtomicU64>);

#[get("/visits")]
async fn visits(State(visits): State<Visits>) -> String {
    format!("{} so far\n", visits.0.fetch_add(1, Ordering::Relaxed) + 1)
}

#[slackwater::main]
async fn app(_: (), setup: Setup) -> slackwater::Result<App<Visits>> {
    // a reload reuses this value, so the counter continues
    let visits = setup
        .reuse("visits", (), |()| async {
            Ok::<_, Infallible>(Visits::default())
        })
        .await?;
    let mut app = App::with_state(visits);
    app.mount("/", routes![visits]);
    Ok(app)
}
