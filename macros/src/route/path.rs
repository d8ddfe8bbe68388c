//! Parses the path of a route.

/// Returns the names of the segments that are arguments, in their order.
///
/// # Errors
/// A message that states the fix.
pub(super) fn segments(path: &str) -> Result<Vec<String>, String> {
    if !path.starts_with('/') {
        return Err(format!("a path must begin with `/`: write \"/{path}\""));
    }
    if let Some(at) = path.find(['?', '#']) {
        let plain = &path[..at];
        return Err(format!(
            "a path cannot contain a query or a fragment: write \"{plain}\", and take the query as an argument `Query<T>`"
        ));
    }
    if path.contains("//") {
        return Err("a path cannot contain an empty segment: write `/` instead of `//`".to_owned());
    }
    if path.contains(|c: char| c.is_whitespace() || !c.is_ascii()) {
        return Err(
            "a path consists of ASCII characters without spaces: percent-encode other characters"
                .to_owned(),
        );
    }
    let mut names = Vec::new();
    let mut parts = path[1..].split('/').peekable();
    while let Some(part) = parts.next() {
        let Some(name) = name(part, path)? else {
            continue;
        };
        if part.starts_with('*') && parts.peek().is_some() {
            return Err(format!(
                "`{part}` matches the rest of the path, so nothing can follow it"
            ));
        }
        if names.contains(&name) {
            return Err(format!(
                "two segments are called `{name}`: give each a different name"
            ));
        }
        names.push(name);
    }
    Ok(names)
}

/// Returns the name of a segment if it is an argument.
fn name(part: &str, path: &str) -> Result<Option<String>, String> {
    for (open, close) in [('{', '}'), ('<', '>'), ('[', ']')] {
        if let Some(inner) = part
            .strip_prefix(open)
            .and_then(|rest| rest.strip_suffix(close))
        {
            let inner = inner.trim_end_matches("..").trim_start_matches('*');
            let fixed = path.replace(part, &format!(":{inner}"));
            return Err(format!(
                "a segment that is an argument is written `:{inner}`: write \"{fixed}\""
            ));
        }
    }
    match part.strip_prefix([':', '*']) {
        None if part.contains([':', '*', '{', '}', '<', '>']) => {
            Err(format!("`{part}` mixes text and an argument: a segment is either text, or `:name`, or `*name` for the rest of the path"))
        }
        None => Ok(None),
        Some(name) if syn::parse_str::<syn::Ident>(name).is_ok() => Ok(Some(name.to_owned())),
        Some("") => Err(format!("the segment `{part}` has no name: write `{part}name`")),
        Some(name) => Err(format!("`{name}` cannot be the name of an argument: write a name such as `:id` or `:user_id`")),
    }
}
