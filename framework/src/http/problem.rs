//! What an answer says that is an error and has no body of its own: problem details (RFC 9457) for programs, a page for
//! browsers.

use bytes::Bytes;
use hyper::header::{HeaderValue, ACCEPT, CONTENT_TYPE, VARY};
use hyper::{HeaderMap, Response, StatusCode};
use serde::Serialize;

use super::ResponseBody;

/// What is known of an error beyond its status.
pub(crate) enum Known<'a> {
    Nothing,
    /// Our own words: safe to say to anybody.
    Detail(&'static str),
    /// The application's error: said in debug builds only, for it may name anything.
    Cause(&'a str),
}

/// In which form the client wants to read of an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    Json,
    Html,
}

/// The members of RFC 9457 that we use; a missing `type` means `about:blank`.
#[derive(Serialize)]
struct Details<'a> {
    title: &'a str,
    status: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cause: Option<&'a str>,
}

impl Form {
    /// The form that `Accept` asks for: a page where HTML is named, and JSON is not or is liked less.
    pub(crate) fn of(accept: Option<&HeaderValue>) -> Self {
        let accept = accept
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default();
        let html = liking(accept, &["text/html", "application/xhtml+xml"]);
        let json = liking(accept, &["application/problem+json", "application/json"]);
        if html > json {
            Form::Html
        } else {
            Form::Json
        }
    }
}

/// How much `Accept` likes the best of these types, by name, in thousandths (RFC 9110, section 12.4.2).
fn liking(accept: &str, types: &[&str]) -> u16 {
    let ranges = accept.split(',').filter_map(|range| {
        let mut parts = range.split(';').map(str::trim);
        let name = parts.next()?;
        types
            .iter()
            .any(|kind| kind.eq_ignore_ascii_case(name))
            .then_some(())?;
        let weight =
            parts.find_map(|part| part.strip_prefix("q=").or_else(|| part.strip_prefix("Q=")));
        Some(weight.map_or(1000, |q| {
            q.parse::<f32>()
                .map_or(0, |q| (q.clamp(0.0, 1.0) * 1000.0) as u16)
        }))
    });
    ranges.max().unwrap_or(0)
}

/// The body of an answer with this status, and the headers that describe it.
pub(crate) fn describe(
    headers: &mut HeaderMap,
    status: StatusCode,
    known: &Known<'_>,
    form: Form,
) -> Bytes {
    let (detail, cause) = match *known {
        Known::Nothing => (None, None),
        Known::Detail(detail) => (Some(detail), None),
        Known::Cause(cause) => (None, cfg!(debug_assertions).then_some(cause)),
    };
    let title = status.canonical_reason().unwrap_or("Error");
    let details = Details {
        title,
        status: status.as_u16(),
        detail,
        cause,
    };
    headers.append(VARY, HeaderValue::from_name(ACCEPT));
    let kind = match form {
        Form::Json => "application/problem+json",
        Form::Html => "text/html; charset=utf-8",
    };
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    match form {
        // strings and a number: serialising them cannot fail
        Form::Json => serde_json::to_vec(&details)
            .map(Bytes::from)
            .unwrap_or_default(),
        Form::Html => page(&details).into(),
    }
}

fn page(details: &Details<'_>) -> String {
    let Details {
        title,
        status,
        detail,
        cause,
    } = details;
    let mut page = format!(
        "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width\">\n<title>{status} {title}</title>\n\
         <style>body{{font-family:system-ui,sans-serif;max-width:42rem;margin:15vh auto;padding:0 1rem}}\
         pre{{white-space:pre-wrap;padding:1rem;background:#8882}}</style>\n<h1>{status} {title}</h1>\n"
    );
    if let Some(detail) = detail {
        page += &format!("<p>{}</p>\n", escaped(detail));
    }
    if let Some(cause) = cause {
        page += &format!(
            "<pre>{}</pre>\n<p>Only a debug build shows this.</p>\n",
            escaped(cause)
        );
    }
    page
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

/// An answer that the framework gives itself: nothing but the status.
pub(crate) fn refusal(status: StatusCode, form: Form) -> Response<ResponseBody> {
    let mut response = Response::new(ResponseBody::Empty);
    *response.status_mut() = status;
    let body = describe(response.headers_mut(), status, &Known::Nothing, form);
    *response.body_mut() = ResponseBody::Full(body);
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_browser_is_given_a_page_and_anybody_else_json() {
        for (accept, form) in [
            (
                "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
                Form::Html,
            ),
            ("TEXT/HTML;level=1;q=0.5", Form::Html),
            ("application/json;q=0.1, text/html;q=0.2", Form::Html),
            ("application/json, text/html", Form::Json),
            ("text/html;q=0", Form::Json),
            ("text/html;q=x", Form::Json),
            ("*/*", Form::Json),
            ("text/*", Form::Json),
            ("", Form::Json),
        ] {
            assert_eq!(
                Form::of(Some(&HeaderValue::from_static(accept))),
                form,
                "{accept}"
            );
        }
        assert_eq!(Form::of(None), Form::Json);
        assert_eq!(
            Form::of(Some(&HeaderValue::from_bytes(b"text/html\xff").unwrap())),
            Form::Json
        );
    }

    #[test]
    fn what_an_error_says_is_no_markup() {
        let cause = Known::Cause("<script>alert(1)</script> & more");
        let mut headers = HeaderMap::new();
        let page = describe(&mut headers, StatusCode::NOT_FOUND, &cause, Form::Html);
        let page = String::from_utf8(page.to_vec()).unwrap();
        assert!(
            page.contains("<h1>404 Not Found</h1>") && !page.contains("<script>"),
            "{page}"
        );
        assert_eq!(
            page.contains("&lt;script&gt;alert(1)&lt;/script&gt; &amp; more"),
            cfg!(debug_assertions)
        );
        assert_eq!(
            (&headers[CONTENT_TYPE], &headers[VARY]),
            (
                &"text/html; charset=utf-8".parse().unwrap(),
                &"accept".parse().unwrap()
            )
        );
    }
}
