//! Checks the target and the `Host` of a request, and converts them to a `Url`.
//!
//! The `Url` is never parsed from a concatenation of the client's strings. The authority is checked character by
//! character and parsed alone; path and query are then set on the result. `url` normalizes the path as browsers do, and
//! only the result is routed: `/a/../b` and `/a/%2e%2e/b` become `/b`, `\` becomes `/`, and characters that are not
//! allowed in a path are percent-encoded. Slashes are kept: `//evil` is a path of two segments, never a host.

use std::cell::RefCell;

use hyper::header::{HeaderValue, HOST};
use hyper::http::request::Parts;
use hyper::{Method, StatusCode, Uri, Version};
use tide::http::Url;

use super::problem::RequestError;

/// The target of a request.
pub(super) enum Target<'a> {
    /// A resource. `authority` is set if the target is in absolute form; then it replaces `Host`.
    Resource {
        url: Url,
        authority: Option<&'a str>,
    },
    /// The server as a whole: `OPTIONS *`.
    Server,
}

impl<'a> Target<'a> {
    /// Reads the four forms of RFC 9112, section 3.2. `local` is used if a request of HTTP/1.0 has no `Host`.
    pub(super) fn of(head: &'a Parts, local: &str) -> Result<Self, RequestError> {
        let host = host(head)?;
        if head.method == Method::CONNECT {
            return Err(NO_PROXY);
        }
        match (head.uri.scheme_str(), head.uri.authority()) {
            (Some(scheme), Some(authority)) => Self::absolute(head, scheme, authority.as_str()),
            (None, None) if head.uri.path().starts_with('/') => {
                let base = base(host.unwrap_or_else(|| authority_of(local))).ok_or(BAD_HOST)?;
                Ok(Target::Resource {
                    url: complete(base, head),
                    authority: None,
                })
            }
            (None, None) if head.uri.path() == "*" && head.method == Method::OPTIONS => {
                Ok(Target::Server)
            }
            _ => Err(BAD_TARGET),
        }
    }

    fn absolute(head: &'a Parts, scheme: &str, authority: &'a str) -> Result<Self, RequestError> {
        if !is_authority(authority) {
            return Err(BAD_TARGET);
        }
        let base = match scheme {
            "http" => base(authority),
            "https" => Url::parse(&format!("https://{authority}/")).ok(),
            _ => None,
        };
        let url = complete(base.ok_or(BAD_TARGET)?, head);
        Ok(Target::Resource {
            url,
            authority: Some(authority),
        })
    }
}

const BAD_HOST: RequestError =
    RequestError::new(StatusCode::BAD_REQUEST, "the Host header is not valid");
const NO_HOST: RequestError =
    RequestError::new(StatusCode::BAD_REQUEST, "HTTP/1.1 requires a Host header");
const TWO_HOSTS: RequestError =
    RequestError::new(StatusCode::BAD_REQUEST, "more than one Host header");
const BAD_TARGET: RequestError =
    RequestError::new(StatusCode::BAD_REQUEST, "the request target is not valid");
const NO_PROXY: RequestError =
    RequestError::new(StatusCode::NOT_IMPLEMENTED, "this server is not a proxy");

/// Returns the value of `Host`. Only HTTP/1.0 may omit it, and HTTP/2, whose target contains it.
fn host(head: &Parts) -> Result<Option<&str>, RequestError> {
    let mut values = head.headers.get_all(HOST).iter();
    match (values.next(), values.next()) {
        (Some(value), None) => valid_host(value).map(Some).ok_or(BAD_HOST),
        (Some(_), Some(_)) => Err(TWO_HOSTS),
        (None, _) if head.version == Version::HTTP_11 => Err(NO_HOST),
        (None, _) => Ok(None),
    }
}

fn valid_host(value: &HeaderValue) -> Option<&str> {
    value.to_str().ok().filter(|text| is_authority(text))
}

/// Returns true if `text` is `host` or `host:port`, without user, path or space.
fn is_authority(text: &str) -> bool {
    let (host_is_valid, port) = match text.strip_prefix('[') {
        Some(literal) => match literal.split_once(']') {
            Some((address, port)) => (is_all(address, is_in_ip_literal), port),
            None => return false,
        },
        None => {
            let (name, port) = text.split_at(text.find(':').unwrap_or(text.len()));
            (is_all(name, is_in_name), port)
        }
    };
    host_is_valid && is_port(port)
}

/// Returns true if `text` is empty, or `:` followed by digits or nothing.
fn is_port(text: &str) -> bool {
    text.is_empty()
        || text
            .strip_prefix(':')
            .is_some_and(|port| port.bytes().all(|b| b.is_ascii_digit()))
}

fn is_all(text: &str, is_allowed: fn(u8) -> bool) -> bool {
    !text.is_empty() && text.bytes().all(is_allowed)
}

fn is_in_ip_literal(byte: u8) -> bool {
    byte.is_ascii_hexdigit() || matches!(byte, b':' | b'.')
}

/// Returns true for the characters of a registered name (RFC 3986, section 3.2.2).
fn is_in_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~%!$&'()*+,;=".contains(&byte)
}

/// Returns the local address of the connection as an authority. A Unix socket has none.
fn authority_of(local: &str) -> &str {
    if is_authority(local) {
        local
    } else {
        "localhost"
    }
}

thread_local! {
    /// The last authority that this thread parsed, and its URL. Clients of most servers use a single authority.
    static LAST: RefCell<Option<(String, Url)>> = const { RefCell::new(None) };
}

/// Returns `http://AUTHORITY/`. The authority must have passed [`is_authority`].
fn base(authority: &str) -> Option<Url> {
    LAST.with_borrow_mut(|last| match last {
        Some((cached, url)) if cached == authority => Some(url.clone()),
        _ => {
            let url = Url::parse(&format!("http://{authority}/")).ok()?;
            *last = Some((authority.to_owned(), url.clone()));
            Some(url)
        }
    })
}

/// Returns the path as it is routed.
pub(super) fn path(uri: &Uri) -> Option<String> {
    let mut url = base("localhost")?;
    url.set_path(uri.path());
    Some(url.path().to_owned())
}

fn complete(mut url: Url, head: &Parts) -> Url {
    let path = head.uri.path();
    if path != "/" {
        url.set_path(path);
    }
    if let Some(query) = head.uri.query() {
        url.set_query(Some(query));
    }
    url
}

#[cfg(test)]
mod tests {
    use super::*;
    use hyper::Request;
    use proptest::prelude::*;

    fn head(method: &str, target: &str, hosts: &[&str]) -> Parts {
        let mut request = Request::builder().method(method).uri(target);
        for host in hosts {
            request = request.header(HOST, *host);
        }
        request.body(()).unwrap().into_parts().0
    }

    fn url_of(method: &str, target: &str, hosts: &[&str]) -> Result<String, StatusCode> {
        match Target::of(&head(method, target, hosts), "127.0.0.1:8080") {
            Ok(Target::Resource { url, .. }) => Ok(url.to_string()),
            Ok(Target::Server) => Ok("*".to_owned()),
            Err(error) => Err(error.status),
        }
    }

    #[test]
    fn a_target_and_a_host_make_a_url() {
        for (target, host, url) in [
            ("/", "example.com", "http://example.com/"),
            (
                "/a/b?c=d&e",
                "example.com:8080",
                "http://example.com:8080/a/b?c=d&e",
            ),
            ("/?", "[::1]:80", "http://[::1]/?"),
            ("//evil/x", "example.com", "http://example.com//evil/x"),
            (
                "//evil@x:1/?y",
                "example.com:",
                "http://example.com//evil@x:1/?y",
            ),
            ("/a/../b", "example.com", "http://example.com/b"),
            ("/a/%2e%2e/../../b", "example.com", "http://example.com/b"),
            ("/a%2Fb%20c", "example.com", "http://example.com/a%2Fb%20c"),
            (
                "/http://other/",
                "example.com",
                "http://example.com/http://other/",
            ),
        ] {
            assert_eq!(
                url_of("GET", target, &[host]).as_deref(),
                Ok(url),
                "{target} at {host}"
            );
        }
    }

    #[test]
    fn a_missing_repeated_or_invalid_host_is_answered_400() {
        for hosts in [
            &[][..],
            &["a", "a"],
            &[""],
            &["x/admin?"],
            &["user@x"],
            &["x#y"],
            &["x y"],
            &["x\\y"],
            &["x:80:80"],
            &["x:port"],
            &["x:99999"],
            &[":80"],
            &["[::1"],
            &["[::1]x"],
            &["[]"],
            &["a%2fb"],
        ] {
            assert_eq!(
                url_of("GET", "/", hosts),
                Err(StatusCode::BAD_REQUEST),
                "{hosts:?}"
            );
        }
    }

    #[test]
    fn a_request_of_http_1_0_may_omit_host() {
        for (local, url) in [
            ("127.0.0.1:8080", "http://127.0.0.1:8080/x"),
            ("unix:/run/a.sock", "http://localhost/x"),
        ] {
            let mut head = head("GET", "/x", &[]);
            head.version = Version::HTTP_10;
            match Target::of(&head, local) {
                Ok(Target::Resource { url: found, .. }) => assert_eq!(found.as_str(), url),
                _ => panic!("the request is rejected"),
            };
        }
    }

    #[test]
    fn an_absolute_target_replaces_the_host_which_must_still_be_valid() {
        let absolute = "http://real:81/x";
        assert_eq!(url_of("GET", absolute, &["other"]).as_deref(), Ok(absolute));
        assert_eq!(
            url_of("GET", "https://real", &["other"]).as_deref(),
            Ok("https://real/")
        );
        assert_eq!(
            url_of("GET", absolute, &["no/t"]),
            Err(StatusCode::BAD_REQUEST)
        );
        assert_eq!(url_of("GET", absolute, &[]), Err(StatusCode::BAD_REQUEST));
        assert_eq!(
            url_of("GET", "http://user@real/x", &["other"]),
            Err(StatusCode::BAD_REQUEST)
        );
        assert_eq!(
            url_of("GET", "ftp://real/x", &["other"]),
            Err(StatusCode::BAD_REQUEST)
        );
    }

    #[test]
    fn an_asterisk_is_valid_for_options_only_and_an_authority_for_proxies_only() {
        assert_eq!(url_of("OPTIONS", "*", &["x"]).as_deref(), Ok("*"));
        assert_eq!(url_of("GET", "*", &["x"]), Err(StatusCode::BAD_REQUEST));
        assert_eq!(url_of("GET", "x:80", &["x"]), Err(StatusCode::BAD_REQUEST));
        assert_eq!(
            url_of("CONNECT", "x:80", &["x"]),
            Err(StatusCode::NOT_IMPLEMENTED)
        );
    }

    proptest! {
        #[test]
        fn no_bytes_panic_and_no_path_reaches_the_host(
            path in proptest::collection::vec(any::<u8>(), 0..40),
            host in "[a-z0-9.:@/?#\\[\\]%\\\\ _-]{0,20}",
        ) {
            let target = [b"/", &path[..]].concat();
            let Ok(uri) = hyper::Uri::try_from(target) else { return Ok(()) };
            let mut head = head("GET", "/", &[]);
            head.uri = uri;
            head.headers.insert(HOST, HeaderValue::from_str(&host).unwrap());
            if let Ok(Target::Resource { url, .. }) = Target::of(&head, "127.0.0.1:8080") {
                let alone = Url::parse(&format!("http://{host}")).unwrap();
                prop_assert_eq!(url.host(), alone.host());
                prop_assert_eq!(url.port(), alone.port());
                prop_assert_eq!(url.username(), "");
                prop_assert!(url.password().is_none() && url.fragment().is_none());
                prop_assert!(url.path().starts_with('/'));
                let again = Url::parse(url.as_str()).unwrap();
                prop_assert_eq!(again, url);
            }
        }
    }
}
