//! Hides secrets in logs, errors and `APP config`: values of type [`Secret`], keys named like secrets, and user info in
//! URLs.

use std::fmt;
use std::marker::PhantomData;

use serde::de::{Deserialize, Deserializer, Visitor};

/// The newtype name by which the deserializer of `[app]` recognizes [`Secret`].
pub(super) const SECRET: &str = "$slackwater::Secret";

/// The text that replaces a secret.
pub(super) const HIDDEN: &str = "***";

/// A setting that is never printed: not by `{}` or `{:?}`, not by `APP config`, not in error messages.
///
/// It deserializes like the value itself.
///
/// ```
/// #[derive(serde::Deserialize)]
/// struct Settings {
///     password: slackwater::Secret<String>,
/// }
///
/// let settings: Settings = serde_json::from_str(r#"{ "password": "swordfish" }"#)?;
/// assert_eq!(settings.password.reveal(), "swordfish");
/// assert_eq!(format!("{} {:?}", settings.password, settings.password), "*** ***");
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Secret<T>(T);

impl<T> Secret<T> {
    /// Wraps a value.
    pub fn new(value: T) -> Self {
        Secret(value)
    }

    /// Returns the value.
    pub fn reveal(&self) -> &T {
        &self.0
    }
}

impl<T> fmt::Debug for Secret<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(HIDDEN)
    }
}

impl<T> fmt::Display for Secret<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(HIDDEN)
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Secret<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct SecretVisitor<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for SecretVisitor<T> {
            type Value = Secret<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a secret")
            }

            fn visit_newtype_struct<D: Deserializer<'de>>(
                self,
                deserializer: D,
            ) -> Result<Secret<T>, D::Error> {
                T::deserialize(deserializer).map(Secret)
            }
        }

        deserializer.deserialize_newtype_struct(SECRET, SecretVisitor(PhantomData))
    }
}

/// Returns true for the names of secrets: `db_password`, `apiKey`, `github.token`; not for `keyboard`, `keepalive_grace`.
pub(super) fn is_secret(key: &str) -> bool {
    words(key).iter().any(|word| {
        let parts = [
            "password",
            "passwd",
            "passphrase",
            "secret",
            "token",
            "credential",
        ];
        parts.iter().any(|name| word.contains(name))
            || ["key", "keys"].iter().any(|end| word.ends_with(end))
            || word == "dsn"
    })
}

/// Splits a name in snake case, kebab case or camel case into words in lower case.
fn words(name: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut previous = ' ';
    for c in name.chars() {
        if !c.is_alphanumeric() || (c.is_uppercase() && previous.is_lowercase()) {
            words.push(String::new());
        }
        if c.is_alphanumeric() {
            if let Some(word) = words.last_mut() {
                word.extend(c.to_lowercase());
            }
        }
        previous = c;
    }
    words
}

/// Hides the user info of each URL in a text: `postgres://u:***@host/db`.
pub(super) fn without_user_info(text: &str) -> String {
    let mut pieces = text.split("://");
    let mut shown = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        let end = piece
            .find(|c: char| c.is_whitespace() || "\"'<>".contains(c))
            .unwrap_or(piece.len());
        let (url, after) = piece.split_at(end);
        shown += &format!("://{}{after}", hide_user_info(url));
    }
    shown
}

/// Hides the user info of a URL whose scheme and `//` were removed.
///
/// The password may contain characters that should have been percent-encoded, such as `/` or `@`.
fn hide_user_info(url: &str) -> String {
    let authority = &url[..url.find(['/', '?', '#']).unwrap_or(url.len())];
    let port = authority
        .rsplit_once(':')
        .is_some_and(|(_, port)| port.bytes().all(|b| b.is_ascii_digit()));
    let at = match authority.rfind('@') {
        Some(at) => Some(at),
        None if authority.contains(':') && !port => url.rfind('@'),
        None => None,
    };
    let Some(at) = at else { return url.to_owned() };
    let shown = match url[..at].split_once(':') {
        Some((user, _)) => format!("{user}:{HIDDEN}"),
        None => HIDDEN.to_owned(),
    };
    format!("{shown}{}", &url[at..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secret_keys_are_recognized_by_the_words_in_their_names() {
        for key in [
            "app.password",
            "db_password",
            "apiKey",
            "api_key",
            "github.token",
            "DSN",
            "secrets.a",
            "apikey",
            "x.keys",
        ] {
            assert!(is_secret(key), "{key}");
        }
        for key in ["keyboard", "shutdown.keepalive_grace", "greeting"] {
            assert!(!is_secret(key), "{key}");
        }
    }

    #[test]
    fn only_the_user_info_of_urls_is_hidden() {
        let cases = [
            ("postgres://u:p@host/db", "postgres://u:***@host/db"),
            ("postgres://u:p/w@host/db", "postgres://u:***@host/db"),
            ("https://ghp_1234@github.com/x", "https://***@github.com/x"),
            ("a://u:p@h,b://v:q@i", "a://u:***@h,b://v:***@i"),
            (
                "http://host:80/path?mail=a@b",
                "http://host:80/path?mail=a@b",
            ),
            ("mail me@home", "mail me@home"),
        ];
        for (text, shown) in cases {
            assert_eq!(without_user_info(text), shown);
        }
    }
}
