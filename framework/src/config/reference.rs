//! The reference of all settings, as `docs/settings.md` prints it: made from the declarations, compared by a test.

use std::fmt::Write;

use figment::value::Value;

use super::explain::toml_text;
use super::field::{variable, Field};
use super::Config;

/// A table for the top and each section, a row for each key.
fn reference() -> String {
    let mut text = String::new();
    let mut section = None;
    for field in Config::FIELDS {
        let this = field.key.split_once('.').map_or("", |(section, _)| section);
        if section != Some(this) {
            section = Some(this);
            let head = if this.is_empty() {
                "At the top of the file".to_owned()
            } else {
                format!("`[{this}]`")
            };
            let _ = write!(
                text,
                "\n# {head}\n\n| key | default | class | what it is |\n|---|---|---|---|\n"
            );
        }
        text.push_str(&row(field));
    }
    text
}

fn row(field: &Field) -> String {
    let name = field.key.rsplit('.').next().unwrap_or(field.key);
    let default = match (field.show)(&Config::default()) {
        Value::Empty(..) => "unset".to_owned(),
        value => format!("`{}`", toml_text(&value, &|_, _| false)),
    };
    let (class, about, expects, example) =
        (field.class, field.about, (field.expects)(), field.example);
    let about = plain(about);
    let expects = plain(&expects);
    format!("| `{name}` | {default} | {class} | {about}. Takes {expects}; `{name} = {example}` |\n")
}

/// What would be markup in a table.
fn plain(text: &str) -> String {
    text.replace('|', "\\|").replace('<', "&lt;")
}

#[test]
fn the_page_of_all_settings_is_made_from_their_declarations() {
    let page = include_str!("../../docs/settings.md");
    let reference = reference();
    if std::env::var_os("SLACKWATER_WRITE_REFERENCE").is_some() {
        let (prose, _) = page.split_once(MARK).expect("the mark");
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/settings.md");
        std::fs::write(path, format!("{prose}{MARK}\n{reference}")).expect("the page is written");
        return;
    }
    let how = "SLACKWATER_WRITE_REFERENCE=1 cargo test -p slackwater --lib reference writes it";
    assert!(
        page.ends_with(&format!("{MARK}\n{reference}")),
        "docs/settings.md is not up to date: {how}"
    );
}

/// What the generated part comes after.
const MARK: &str = "<!-- generated -->";

#[test]
fn the_page_names_the_variable_of_a_key() {
    let page = include_str!("../../docs/settings.md");
    assert!(page.contains(&variable("SLACKWATER_", "http.body_limit")));
}
