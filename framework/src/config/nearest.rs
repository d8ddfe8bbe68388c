//! The name that was probably meant, for messages about one that nobody knows.

/// The name that was probably meant: the nearest of `known`, if one is near, in whatever case it is written.
pub(super) fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    const NEAR: f64 = 0.65;
    let name = name.to_lowercase();
    let last = |key: &str| key.rsplit('.').next().unwrap_or_default().to_lowercase();
    let likeness = |key: &str| {
        let whole = strsim::normalized_damerau_levenshtein(&name, &key.to_lowercase());
        if last(&name) == last(key) {
            whole.max(0.9)
        } else {
            whole
        }
    };
    known
        .into_iter()
        .map(|key| (likeness(key), key))
        .filter(|(likeness, _)| *likeness >= NEAR)
        .max_by(|(a, _), (b, _)| a.total_cmp(b))
        .map(|(_, key)| key)
}

/// `; did you mean NAME?`, or nothing.
pub(super) fn suggestion<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    nearest(name, known)
        .map(|near| format!("; did you mean {near}?"))
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_or_another_case_is_understood_and_something_else_is_not() {
        let known = ["http.body_limit", "http.idle_timeout", "info"];
        for (name, meant) in [
            ("http.body_limt", Some("http.body_limit")),
            ("shop.body_limit", Some("http.body_limit")),
            ("INFO", Some("info")),
            ("greeting", None),
        ] {
            assert_eq!(nearest(name, known), meant, "{name}");
        }
    }
}
