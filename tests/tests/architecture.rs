//! The statements of `framework/ARCHITECTURE.md` that can be checked by reading the sources.
//!
//! The page's tables are the data of these tests, so that the page cannot differ from the code.

mod sources;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use sources::{tokens, Name, Sources};

/// The folders in which no two files may import each other, directly or through others.
const WITHOUT_CIRCLES: &[&str] = &[
    "app", "cli", "config", "control", "dev", "http", "observe", "openapi", "serve", "socket",
    "sync", "sys", "testing",
];

/// The packages of the repository whose code the compiler does not keep free of `unsafe`: libFuzzer calls a fuzz target by an
/// exported symbol, and a crate that is generated from a template chooses its own lints.
const WITHOUT_LINT: &[&str] = &["tests/fuzz", "templates/minimal", "templates/service"];

#[test]
fn the_code_map_lists_every_module_with_its_imports() {
    let sources = framework();
    let mut imports: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for name in sources.names() {
        let Some(module) = name.first() else { continue };
        let others = imports.entry(module.clone()).or_default();
        let top = sources
            .imports(name)
            .into_iter()
            .filter_map(|name| name.into_iter().next());
        others.extend(top.filter(|other| other != module));
    }
    let mut wrong = String::new();
    let mut below: BTreeSet<String> = imports.keys().cloned().collect();
    let map = table("The code map");
    for row in &map {
        let (modules, listed) = (quoted(&row[0]), quoted(&row[2]));
        for module in &modules {
            below.remove(module);
        }
        let found: BTreeSet<String> = modules
            .iter()
            .flat_map(|module| imports.remove(module).unwrap_or_default())
            .filter(|other| !modules.contains(other))
            .collect();
        if found != listed {
            wrong += &format!("{modules:?} is listed with {listed:?} and imports {found:?}\n");
        }
        for upward in found.difference(&below) {
            wrong += &format!("{modules:?} imports {upward}, which stands above it\n");
        }
    }
    imports.retain(|module, _| !["docs", "guide"].contains(&module.as_str()));
    assert!(imports.is_empty(), "not in the code map: {imports:?}");
    assert!(wrong.is_empty(), "{wrong}");
}

#[test]
fn only_the_listed_modules_name_a_dependency() {
    let sources = framework();
    let mut wrong = String::new();
    for row in table("Dependencies and their owners") {
        let allowed = quoted(&row[1]);
        for dependency in quoted(&row[0]) {
            let mut unused = allowed.clone();
            for name in sources.names() {
                if !names(sources.tokens(name), &dependency) {
                    continue;
                }
                let path = name.join("/");
                let owner = allowed.iter().find(|owner| {
                    path == **owner
                        || path.starts_with(&format!("{owner}/"))
                        || (path.is_empty() && *owner == "lib.rs")
                });
                match owner {
                    Some(owner) => _ = unused.remove(owner),
                    None => wrong += &format!("{path} names {dependency}\n"),
                }
            }
            for owner in unused {
                wrong += &format!("{owner} is listed and does not name {dependency}\n");
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

#[test]
fn no_files_of_a_folder_import_each_other_in_a_circle() {
    let sources = framework();
    let mut imports: BTreeMap<Name, BTreeSet<Name>> = BTreeMap::new();
    for name in sources.names().filter(|name| !name.is_empty()) {
        // a module may be spread over files below it, which share its types
        let others = sources.imports(name).into_iter();
        let others =
            others.filter(|other| other.first() == name.first() && !other.starts_with(name));
        imports.insert(name.clone(), others.collect());
    }
    let reached: BTreeMap<&Name, BTreeSet<&Name>> = imports
        .keys()
        .map(|name| (name, reachable(name, &imports)))
        .collect();
    let mut circles = BTreeSet::new();
    for name in imports
        .keys()
        .filter(|name| WITHOUT_CIRCLES.contains(&name[0].as_str()))
    {
        let circle: Vec<String> = reached[name]
            .iter()
            .filter(|other| reached[**other].contains(name))
            .map(|other| other.join("/"))
            .collect();
        if !circle.is_empty() {
            circles.insert(circle.join(", "));
        }
    }
    let circles: Vec<String> = circles.into_iter().collect();
    assert!(
        circles.is_empty(),
        "circles of imports:\n{}",
        circles.join("\n")
    );
}

#[test]
fn the_policy_of_the_lifecycle_names_no_io_and_no_clock_and_has_no_catch_all_arm() {
    let sources = framework();
    let policy: Name = vec!["lifecycle".to_owned(), "machine".to_owned()];
    let dependencies = dependencies();
    for name in sources.names().filter(|name| name.starts_with(&policy)) {
        for other in sources.imports(name) {
            assert!(
                other.starts_with(&policy),
                "{} imports {}",
                name.join("/"),
                other.join("/")
            );
        }
        let tokens = sources.tokens(name);
        for dependency in dependencies.iter().map(String::as_str).chain(["std"]) {
            assert!(
                !names(tokens, dependency),
                "{} names {dependency}",
                name.join("/")
            );
        }
    }
    let tokens = sources.tokens(&policy);
    for arm in tokens
        .windows(4)
        .filter(|arm| arm[2] == "=" && arm[3] == ">")
    {
        let binds = arm[1].starts_with(|first: char| first.is_lowercase() || first == '_');
        let whole = matches!(arm[0].as_str(), "{" | "}" | ",");
        assert!(!(binds && whole), "a catch-all arm: {} =>", arm[1]);
    }
}

#[test]
fn no_crate_contains_unsafe_code() {
    let mut folders = vec![repository()];
    let mut wrong = String::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("a folder is readable") {
            let path = entry.expect("an entry").path();
            let file = path.file_name().unwrap_or_default().to_string_lossy();
            let place = path
                .strip_prefix(repository())
                .expect("below the repository");
            if path.is_dir() {
                if !file.starts_with('.') && file != "target" {
                    folders.push(path);
                }
            } else if file.ends_with(".rs") {
                let text = read(&path);
                if text.contains("unsafe") && tokens(&text).iter().any(|token| token == "unsafe") {
                    wrong += &format!("{} contains `unsafe`\n", place.display());
                }
            } else if file == "Cargo.toml" {
                let manifest = read(&path);
                let forbids = manifest.contains("[lints]\nworkspace = true")
                    || manifest.contains("unsafe_code = \"forbid\"");
                let excepted = WITHOUT_LINT.iter().any(|folder| place.starts_with(folder));
                if !forbids && !excepted {
                    wrong += &format!("{} does not forbid `unsafe`\n", place.display());
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

/// An invariant ends with its tests in parentheses: `(test: …)`, each the name of a function or of a file with tests.
#[test]
fn every_invariant_names_a_test_that_exists() {
    let page = page();
    let mut functions = BTreeSet::new();
    for folder in ["framework/src", "tests/tests"] {
        functions.extend(test_functions(&repository().join(folder)));
    }
    let mut count = 0;
    for paragraph in page
        .split("\n\n")
        .filter(|text| text.starts_with("**Invariant:**"))
    {
        let tests = paragraph
            .rsplit_once("(test: ")
            .map(|(_, tests)| quoted(tests));
        let tests = tests.unwrap_or_default();
        assert!(!tests.is_empty(), "no test is named: {paragraph}");
        for test in tests {
            let exists = functions.contains(&test)
                || (test.contains('/') && repository().join(&test).is_file());
            assert!(exists, "there is no test {test}: {paragraph}");
        }
        count += 1;
    }
    assert!(count > 0, "the page has invariants");
}

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("tests/ is in the repository")
        .to_owned()
}

fn framework() -> &'static Sources {
    static SOURCES: LazyLock<Sources> =
        LazyLock::new(|| Sources::read(&repository().join("framework/src")));
    &SOURCES
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn page() -> String {
    read(&repository().join("framework/ARCHITECTURE.md"))
}

/// Returns the rows of the first table below a heading of the page, without the table's head.
fn table(heading: &str) -> Vec<Vec<String>> {
    let page = page();
    let (_, section) = page
        .split_once(&format!("## {heading}\n"))
        .unwrap_or_else(|| panic!("no heading {heading}"));
    let rows = section
        .lines()
        .skip_while(|line| !line.starts_with('|'))
        .take_while(|line| line.starts_with('|'));
    let cells = |row: &str| {
        row.trim_matches('|')
            .split('|')
            .map(|cell| cell.trim().to_owned())
            .collect()
    };
    rows.skip(2).map(cells).collect()
}

/// Returns each word between backticks.
fn quoted(text: &str) -> BTreeSet<String> {
    text.split('`')
        .skip(1)
        .step_by(2)
        .map(str::to_owned)
        .collect()
}

/// Returns true if a path in `tokens` begins with the name of a crate.
fn names(tokens: &[String], dependency: &str) -> bool {
    let is_start = |at: usize| match at {
        0 => true,
        _ if tokens[at - 1] == "::" => at == 1 || !tokens[at - 2].ends_with(char::is_alphanumeric),
        _ => true,
    };
    (1..tokens.len())
        .any(|at| tokens[at] == "::" && tokens[at - 1] == dependency && is_start(at - 1))
}

fn dependencies() -> Vec<String> {
    let manifest = read(&repository().join("framework/Cargo.toml"));
    let (_, section) = manifest
        .split_once("[dependencies]\n")
        .expect("the section");
    let lines = section.lines().take_while(|line| !line.starts_with('['));
    let names = lines.filter_map(|line| line.split(['.', ' ', '=']).next());
    names
        .filter(|name| !name.is_empty())
        .map(|name| name.replace('-', "_"))
        .collect()
}

fn reachable<'a>(from: &Name, imports: &'a BTreeMap<Name, BTreeSet<Name>>) -> BTreeSet<&'a Name> {
    let mut found = BTreeSet::new();
    let mut open = vec![from];
    while let Some(name) = open.pop() {
        for other in imports.get(name).into_iter().flatten() {
            if found.insert(other) {
                open.push(other);
            }
        }
    }
    found
}

/// Returns the names of all functions under `#[test]` below a folder.
fn test_functions(folder: &Path) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for entry in fs::read_dir(folder).expect("a folder is readable") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            found.extend(test_functions(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = read(&path);
            let tests = text.split("#[test]\n").skip(1);
            let tests = tests.filter_map(|test| test.trim_start().strip_prefix("fn "));
            found.extend(tests.filter_map(|test| Some(test.split_once('(')?.0.to_owned())));
        }
    }
    found
}
