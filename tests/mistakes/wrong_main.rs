use slackwater::prelude::*;

#[slackwater::main]
async fn app(port: u16, name: String) -> slackwater::Result<App> {
    let _ = (port, name);
    Ok(App::new())
}
