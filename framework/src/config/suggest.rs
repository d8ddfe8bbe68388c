//! Suggestions in error messages: the known name nearest to an unknown one.

/// Returns the name in `known` that is most similar to `name`, ignoring case, if it is similar enough.
pub(super) fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    const MIN_SIMILARITY: f64 = 0.65;
    let name = name.to_lowercase();
    let last = |key: &str| key.rsplit('.').next().unwrap_or_default().to_lowercase();
    let similarity = |key: &str| {
        let whole = strsim::normalized_damerau_levenshtein(&name, &key.to_lowercase());
        if last(&name) == last(key) {
            whole.max(0.9)
        } else {
            whole
        }
    };
    known
        .into_iter()
        .map(|key| (similarity(key), key))
        .filter(|(similarity, _)| *similarity >= MIN_SIMILARITY)
        .max_by(|(a, _), (b, _)| a.total_cmp(b))
        .map(|(_, key)| key)
}

/// Returns `; did you mean NAME?`, or an empty string.
pub(super) fn suggestion<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    nearest(name, known)
        .map(|near| format!("; did you mean {near}?"))
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_a_typo_or_in_another_case_gets_a_suggestion() {
        let known = ["http.body_limit", "http.idle_timeout", "info"];
        for (name, suggested) in [
            ("http.body_limt", Some("http.body_limit")),
            ("shop.body_limit", Some("http.body_limit")),
            ("INFO", Some("info")),
            ("greeting", None),
        ] {
            assert_eq!(nearest(name, known), suggested, "{name}");
        }
    }
}
