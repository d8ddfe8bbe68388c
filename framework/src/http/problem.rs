//! Bodies for error responses that have none: problem details (RFC 9457) for programs, an HTML page for browsers.

use bytes::Bytes;
use hyper::header::{HeaderValue, ACCEPT, CONTENT_TYPE, VARY};
use hyper::{HeaderMap, Response, StatusCode};
use serde::Serialize;

use super::ResponseBody;

/// The information about an error besides its status.
pub(crate) enum ErrorInfo<'a> {
    None,
    /// A text of the framework, sent in every build.
    Detail(&'static str),
    /// The application's error. It may contain secrets, so only a debug build sends it.
    Cause(&'a str),
}

/// The format in which the client prefers an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ErrorFormat {
    Json,
    Html,
}

/// The members of RFC 9457 that the framework uses. A missing `type` means `about:blank`.
#[derive(Serialize)]
struct Details<'a> {
    title: &'a str,
    status: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cause: Option<&'a str>,
}

impl ErrorFormat {
    /// Returns [`Html`](ErrorFormat::Html) if `Accept` names HTML, and names JSON with a lower weight or not at all.
    pub(crate) fn of(accept: Option<&HeaderValue>) -> Self {
        let accept = accept
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default();
        let html = best_weight(accept, &["text/html", "application/xhtml+xml"]);
        let json = best_weight(accept, &["application/problem+json", "application/json"]);
        if html > json {
            ErrorFormat::Html
        } else {
            ErrorFormat::Json
        }
    }
}

/// Returns the highest weight that `Accept` gives to one of these types by name, in thousandths (RFC 9110, section
/// 12.4.2). It returns 0 if none is named.
fn best_weight(accept: &str, types: &[&str]) -> u16 {
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

/// Returns the body of an error response with this status, and sets the headers that describe the body.
pub(crate) fn describe(
    headers: &mut HeaderMap,
    status: StatusCode,
    info: &ErrorInfo<'_>,
    format: ErrorFormat,
) -> Bytes {
    let (detail, cause) = match *info {
        ErrorInfo::None => (None, None),
        ErrorInfo::Detail(detail) => (Some(detail), None),
        ErrorInfo::Cause(cause) => (None, cfg!(debug_assertions).then_some(cause)),
    };
    let title = status.canonical_reason().unwrap_or("Error");
    let details = Details {
        title,
        status: status.as_u16(),
        detail,
        cause,
    };
    headers.append(VARY, HeaderValue::from_name(ACCEPT));
    let kind = match format {
        ErrorFormat::Json => "application/problem+json",
        ErrorFormat::Html => "text/html; charset=utf-8",
    };
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    match format {
        // strings and a number always serialize
        ErrorFormat::Json => serde_json::to_vec(&details)
            .map(Bytes::from)
            .unwrap_or_default(),
        ErrorFormat::Html => html_page(&details).into(),
    }
}

fn html_page(details: &Details<'_>) -> String {
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
        page += &format!("<p>{}</p>\n", escape_html(detail));
    }
    if let Some(cause) = cause {
        page += &format!(
            "<pre>{}</pre>\n<p>Only a debug build shows this.</p>\n",
            escape_html(cause)
        );
    }
    page
}

fn escape_html(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

/// Returns an error response of the framework, described by its status only.
pub(crate) fn error_response(status: StatusCode, format: ErrorFormat) -> Response<ResponseBody> {
    let mut response = Response::new(ResponseBody::Empty);
    *response.status_mut() = status;
    let body = describe(response.headers_mut(), status, &ErrorInfo::None, format);
    *response.body_mut() = ResponseBody::Full(body);
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_browser_receives_a_page_and_every_other_client_json() {
        for (accept, format) in [
            (
                "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
                ErrorFormat::Html,
            ),
            ("TEXT/HTML;level=1;q=0.5", ErrorFormat::Html),
            ("application/json;q=0.1, text/html;q=0.2", ErrorFormat::Html),
            ("application/json, text/html", ErrorFormat::Json),
            ("text/html;q=0", ErrorFormat::Json),
            ("text/html;q=x", ErrorFormat::Json),
            ("*/*", ErrorFormat::Json),
            ("text/*", ErrorFormat::Json),
            ("", ErrorFormat::Json),
        ] {
            assert_eq!(
                ErrorFormat::of(Some(&HeaderValue::from_static(accept))),
                format,
                "{accept}"
            );
        }
        assert_eq!(ErrorFormat::of(None), ErrorFormat::Json);
        assert_eq!(
            ErrorFormat::of(Some(&HeaderValue::from_bytes(b"text/html\xff").unwrap())),
            ErrorFormat::Json
        );
    }

    #[test]
    fn the_cause_of_an_error_is_escaped_in_a_page() {
        let cause = ErrorInfo::Cause("<script>alert(1)</script> & more");
        let mut headers = HeaderMap::new();
        let page = describe(
            &mut headers,
            StatusCode::NOT_FOUND,
            &cause,
            ErrorFormat::Html,
        );
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
