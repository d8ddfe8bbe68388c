//! The sources of the framework as modules, tokens and imports.
//!
//! This reads Rust as far as imports need it: comments, strings and test code are dropped, paths are resolved by the
//! module tree, and a name that a module re-exports is followed to the file that defines it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// The path of a module from the crate's root: `["http", "connection"]`. The root itself is empty.
pub(super) type Name = Vec<String>;

/// All modules below one `src` folder.
pub(super) struct Sources {
    modules: BTreeMap<Name, Module>,
}

/// A file of the crate.
struct Module {
    tokens: Vec<String>,
    /// The names that `use` brings into the module, with the path of each from the crate's root.
    names: BTreeMap<String, Name>,
    /// The paths that the module depends on, from the crate's root.
    paths: BTreeSet<Name>,
}

impl Sources {
    /// Reads every module of a crate, without its tests and fuzz targets.
    pub(super) fn read(src: &Path) -> Self {
        let mut files = Vec::new();
        collect(src, &mut files);
        let tokens: BTreeMap<Name, Vec<String>> = files
            .iter()
            .map(|file| (file, file.strip_prefix(src).expect("a file below src")))
            .filter(|(_, path)| !is_test(path))
            .map(|(file, path)| {
                let text = fs::read_to_string(file).expect("a source is readable");
                (module_name(path), without_tests(&tokens(&text)))
            })
            .collect();
        let known: BTreeSet<Name> = tokens.keys().cloned().collect();
        let modules = tokens
            .into_iter()
            .map(|(name, tokens)| {
                let module = Module::new(&name, tokens, &known);
                (name, module)
            })
            .collect();
        Sources { modules }
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &Name> {
        self.modules.keys()
    }

    pub(super) fn tokens(&self, name: &Name) -> &[String] {
        &self.modules[name].tokens
    }

    /// Returns the modules whose items `name` uses, by the files that define these items.
    pub(super) fn imports(&self, name: &Name) -> BTreeSet<Name> {
        let paths = self.modules[name].paths.iter();
        paths
            .filter_map(|path| self.defining(path, 0))
            .filter(|target| target != name)
            .collect()
    }

    /// Returns the module that defines the item at `path`, or `None` for a macro of the crate's root.
    fn defining(&self, path: &Name, depth: usize) -> Option<Name> {
        let length = (0..=path.len())
            .rev()
            .find(|&length| self.modules.contains_key(&path[..length]))?;
        let module = path[..length].to_vec();
        match path.get(length) {
            Some(item) if depth < 8 => match self.modules[&module].names.get(item) {
                Some(target) => {
                    let mut target = target.clone();
                    target.extend_from_slice(&path[length + 1..]);
                    self.defining(&target, depth + 1)
                }
                None => (!module.is_empty()).then_some(module),
            },
            _ => Some(module),
        }
    }
}

impl Module {
    fn new(name: &Name, tokens: Vec<String>, known: &BTreeSet<Name>) -> Self {
        let mut module = Module {
            tokens,
            names: BTreeMap::new(),
            paths: BTreeSet::new(),
        };
        let mut reexported = Vec::new();
        let mut used = BTreeSet::new();
        let mut at = 0;
        while at < module.tokens.len() {
            let token = &module.tokens[at];
            if token == "use" {
                let end = position(&module.tokens, at, ";");
                let public = at > 0 && matches!(module.tokens[at - 1].as_str(), "pub" | ")");
                for (path, alias) in use_tree(&module.tokens[at + 1..end]) {
                    let Some(path) = from_root(name, &path, known) else {
                        continue;
                    };
                    if public {
                        reexported.push((alias.clone(), path.clone()));
                    } else {
                        module.paths.insert(path.clone());
                    }
                    module.names.insert(alias, path);
                }
                at = end;
            } else if is_ident(token)
                && (at == 0 || !matches!(module.tokens[at - 1].as_str(), "::" | "." | "mod" | "fn"))
            {
                let mut path = vec![token.clone()];
                while at + 2 < module.tokens.len()
                    && module.tokens[at + 1] == "::"
                    && is_ident(&module.tokens[at + 2])
                {
                    path.push(module.tokens[at + 2].clone());
                    at += 2;
                }
                used.insert(path[0].clone());
                if path.len() > 1 {
                    module.paths.extend(from_root(name, &path, known));
                }
            }
            at += 1;
        }
        // a module that only re-exports a name does not depend on it
        let used = reexported
            .into_iter()
            .filter(|(alias, _)| used.contains(alias));
        module.paths.extend(used.map(|(_, path)| path));
        module
    }
}

/// Resolves the start of a path: `crate`, `self`, `super`, or a child of `module`. Returns `None` for another crate's.
fn from_root(module: &Name, path: &[String], known: &BTreeSet<Name>) -> Option<Name> {
    let mut base = module.clone();
    let mut rest = path;
    match rest[0].as_str() {
        "crate" => {
            base.clear();
            rest = &rest[1..];
        }
        "self" | "super" => {
            while let Some(first @ ("self" | "super")) = rest.first().map(String::as_str) {
                if first == "super" {
                    base.pop();
                }
                rest = &rest[1..];
            }
        }
        child => {
            let mut name = module.clone();
            name.push(child.to_owned());
            if !known.contains(&name) {
                return None;
            }
        }
    }
    base.extend_from_slice(rest);
    Some(base)
}

/// Returns each path of a `use` item with the name that it brings.
fn use_tree(tokens: &[String]) -> Vec<(Name, String)> {
    let mut found = Vec::new();
    let mut prefixes: Vec<Name> = vec![Vec::new()];
    let mut path: Name = Vec::new();
    let mut alias = None;
    let mut at = 0;
    let mut finish = |path: &mut Name, alias: &mut Option<String>| {
        if path.last().is_some_and(|last| last == "self") && path.len() > 1 {
            path.pop();
        }
        if let Some(last) = path.last().cloned() {
            found.push((std::mem::take(path), alias.take().unwrap_or(last)));
        }
    };
    while at < tokens.len() {
        match tokens[at].as_str() {
            "{" => {
                prefixes.push(std::mem::take(&mut path));
                path.clone_from(prefixes.last().expect("just pushed"));
            }
            "," => {
                if path.len() > prefixes.last().map_or(0, Vec::len) {
                    finish(&mut path, &mut alias);
                }
                path.clone_from(prefixes.last().expect("the outermost stays"));
            }
            "}" => {
                if path.len() > prefixes.last().map_or(0, Vec::len) {
                    finish(&mut path, &mut alias);
                }
                prefixes.pop();
                path.clear();
            }
            "as" => {
                alias = tokens.get(at + 1).cloned();
                at += 1;
            }
            "::" => {}
            part => path.push(part.to_owned()),
        }
        at += 1;
    }
    finish(&mut path, &mut alias);
    found
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("a folder is readable") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            collect(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}

fn is_test(file: &Path) -> bool {
    let name = file.file_stem().unwrap_or_default().to_string_lossy();
    name == "tests"
        || name == "fuzz"
        || name.ends_with("_tests")
        || file.components().any(|part| part.as_os_str() == "tests")
}

/// `http/connection.rs` and `http/connection/mod.rs` are both `http::connection`.
fn module_name(path: &Path) -> Name {
    let path = path.with_extension("");
    let mut name: Name = path
        .iter()
        .map(|part| part.to_string_lossy().into_owned())
        .collect();
    if name
        .last()
        .is_some_and(|last| last == "mod" || last == "lib")
    {
        name.pop();
    }
    name
}

fn is_ident(token: &str) -> bool {
    token.starts_with(|first: char| first.is_alphabetic() || first == '_')
}

fn position(tokens: &[String], from: usize, wanted: &str) -> usize {
    let found = tokens[from..].iter().position(|token| token == wanted);
    found.map_or(tokens.len(), |offset| from + offset)
}

/// Splits a source into identifiers and punctuation. Comments, strings, characters and lifetimes are left out.
pub(super) fn tokens(text: &str) -> Vec<String> {
    let chars: Vec<char> = text.chars().collect();
    let starts = |at: usize, wanted: &str| {
        wanted
            .chars()
            .enumerate()
            .all(|(offset, c)| chars.get(at + offset) == Some(&c))
    };
    let mut found = Vec::new();
    let mut at = 0;
    while at < chars.len() {
        let c = chars[at];
        if starts(at, "//") {
            while at < chars.len() && chars[at] != '\n' {
                at += 1;
            }
        } else if starts(at, "/*") {
            while at < chars.len() && !starts(at, "*/") {
                at += 1;
            }
            at += 2;
        } else if c == '"' {
            at += 1;
            while at < chars.len() && chars[at] != '"' {
                at += if chars[at] == '\\' { 2 } else { 1 };
            }
            at += 1;
        } else if c == '\'' {
            // a character ends with a quote; a lifetime does not
            let escaped = chars.get(at + 1) == Some(&'\\');
            let close = (at + 2..chars.len().min(at + 12))
                .find(|&close| chars[close] == '\'' && (!escaped || close > at + 2));
            match close {
                Some(close) if escaped || close == at + 2 => at = close + 1,
                _ => at += 1,
            }
        } else if c.is_alphabetic() || c == '_' {
            let start = at;
            while at < chars.len() && (chars[at].is_alphanumeric() || chars[at] == '_') {
                at += 1;
            }
            let word: String = chars[start..at].iter().collect();
            let hashes = chars[at..].iter().take_while(|&&c| c == '#').count();
            if matches!(word.as_str(), "r" | "br") && chars.get(at + hashes) == Some(&'"') {
                let end = format!("\"{}", "#".repeat(hashes));
                at += hashes + 1;
                while at < chars.len() && !starts(at, &end) {
                    at += 1;
                }
                at += end.len();
            } else {
                found.push(word);
            }
        } else if starts(at, "::") {
            found.push("::".to_owned());
            at += 2;
        } else {
            if !c.is_whitespace() && !c.is_numeric() {
                found.push(c.to_string());
            }
            at += 1;
        }
    }
    found
}

/// Drops each item under `#[cfg(test)]`, `#[cfg(fuzzing)]` or `#[test]`.
#[expect(
    clippy::match_same_arms,
    reason = "each arm is one way in which an item ends"
)]
fn without_tests(tokens: &[String]) -> Vec<String> {
    let mut kept = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        let attribute = &tokens[at..tokens.len().min(at + 6)];
        let test = attribute.starts_with(&["#", "[", "test", "]"].map(String::from))
            || ["test", "fuzzing"]
                .iter()
                .any(|which| *attribute == ["#", "[", "cfg", "(", which, ")"].map(String::from));
        if !test {
            kept.push(tokens[at].clone());
            at += 1;
            continue;
        }
        let mut depth = 0_usize;
        at = position(tokens, at, "]") + 1;
        while at < tokens.len() {
            match tokens[at].as_str() {
                "{" | "(" | "[" => depth += 1,
                ")" | "]" => depth -= 1,
                "}" if depth == 1 => {
                    at += 1;
                    break;
                }
                "}" => depth -= 1,
                ";" if depth == 0 => {
                    at += 1;
                    break;
                }
                _ => {}
            }
            at += 1;
        }
    }
    kept
}
