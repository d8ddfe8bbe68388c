//! The reference of all settings in `docs/settings.md`. It is generated from the declarations; a test compares it.

use std::fmt::Write;

use figment::value::Value;

use super::explain::toml_text;
use super::field::{variable, Field};
use super::Config;

/// Returns the reference: a table for the top level and for each section, with a row for each key.
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
                "\n# {head}\n\n| key | default | class | description |\n|---|---|---|---|\n"
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

/// Escapes the characters that are markup in a table of Markdown.
fn plain(text: &str) -> String {
    text.replace('|', "\\|").replace('<', "&lt;")
}

#[test]
fn the_settings_page_matches_the_declarations() {
    let page = include_str!("../../docs/settings.md");
    let reference = reference();
    if std::env::var_os("SLACKWATER_WRITE_REFERENCE").is_some() {
        let (prose, _) = page.split_once(MARK).expect("the mark");
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/settings.md");
        std::fs::write(path, format!("{prose}{MARK}\n{reference}")).expect("the page is written");
        return;
    }
    let command = "SLACKWATER_WRITE_REFERENCE=1 cargo test -p slackwater --lib reference";
    assert!(
        page.ends_with(&format!("{MARK}\n{reference}")),
        "docs/settings.md is not up to date; write it with: {command}"
    );
}

/// The line above the generated part.
const MARK: &str = "<!-- generated -->";

#[test]
fn the_page_names_the_variable_of_a_key() {
    let page = include_str!("../../docs/settings.md");
    assert!(page.contains(&variable("SLACKWATER_", "http.body_limit")));
}
