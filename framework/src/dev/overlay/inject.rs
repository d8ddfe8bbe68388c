//! Adds the script to HTML pages.

use bytes::BytesMut;
use http_body::Body;
use http_body_util::BodyExt;
use hyper::header::{self, HeaderMap, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};

use super::{EVENTS, SCRIPT};
use crate::http::{error_response, ErrorFormat, ResponseBody};

/// The limit on the size of a page that gets the script, in bytes.
const PAGE_LIMIT: u64 = 8 << 20;

/// The condition on which an HTML response to a request gets the script.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Injection {
    /// Always: a browser requests a page.
    Always,
    /// If the response is a complete document: the client sends no `Sec-Fetch-Dest`.
    IfDocument,
    /// Never: a browser requests a fragment, an image or another resource.
    Never,
}

impl Injection {
    /// Decides by the method and by `Sec-Fetch-Dest`, in which a browser sends the purpose of a request.
    pub(super) fn for_request<B>(request: &Request<B>) -> Self {
        let destination = request
            .headers()
            .get("sec-fetch-dest")
            .map(HeaderValue::as_bytes);
        match (request.method(), destination) {
            (&Method::GET | &Method::POST, Some(b"document" | b"iframe" | b"frame")) => {
                Injection::Always
            }
            (&Method::GET | &Method::POST, None) => Injection::IfDocument,
            _ => Injection::Never,
        }
    }
}

/// Adds the script to a response if it is a page of limited size.
pub(super) async fn with_script(
    response: Response<ResponseBody>,
    injection: Injection,
    build_id: &str,
) -> Response<ResponseBody> {
    if !is_html(response.headers()) || response.status() == StatusCode::PARTIAL_CONTENT {
        return response;
    }
    let (mut head, body) = response.into_parts();
    let page = match body {
        ResponseBody::Full(bytes) => bytes,
        ResponseBody::Stream(body)
            if body
                .size_hint()
                .exact()
                .is_some_and(|size| size <= PAGE_LIMIT) =>
        {
            match body.collect().await {
                Ok(collected) => collected.to_bytes(),
                Err(error) => {
                    log::error!(
                        "the body of a page could not be read, the client gets 500: {error}"
                    );
                    return error_response(StatusCode::INTERNAL_SERVER_ERROR, ErrorFormat::Html);
                }
            }
        }
        other => return Response::from_parts(head, other),
    };
    let lower = page.to_ascii_lowercase();
    if injection == Injection::IfDocument && !is_document(&lower) {
        return Response::from_parts(head, ResponseBody::Full(page));
    }
    let tag = tag(build_id, nonce(&head.headers));
    // a cache must not return the page of another build
    for name in [header::ETAG, header::LAST_MODIFIED, header::ACCEPT_RANGES] {
        head.headers.remove(name);
    }
    head.headers
        .insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    let (before, after) = page.split_at(end_of_body(&lower));
    let mut whole = BytesMut::with_capacity(page.len() + tag.len());
    whole.extend_from_slice(before);
    whole.extend_from_slice(tag.as_bytes());
    whole.extend_from_slice(after);
    Response::from_parts(head, ResponseBody::Full(whole.freeze()))
}

/// Returns true for HTML that is not compressed.
fn is_html(headers: &HeaderMap) -> bool {
    let content_type = headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    let essence = content_type.split(';').next().unwrap_or_default().trim();
    essence.eq_ignore_ascii_case("text/html") && !headers.contains_key(header::CONTENT_ENCODING)
}

fn is_document(lower: &[u8]) -> bool {
    [&b"<!doctype"[..], b"<html", b"</body"]
        .into_iter()
        .any(|tag| position_of_last(lower, tag).is_some())
}

/// Returns the position of the script, which is the last element of the body.
fn end_of_body(lower: &[u8]) -> usize {
    position_of_last(lower, b"</body")
        .or_else(|| position_of_last(lower, b"</html"))
        .unwrap_or(lower.len())
}

fn position_of_last(text: &[u8], pattern: &[u8]) -> Option<usize> {
    text.windows(pattern.len())
        .rposition(|window| window == pattern)
}

fn tag(build_id: &str, nonce: Option<String>) -> String {
    let nonce = nonce.map_or(String::new(), |nonce| format!(" nonce=\"{nonce}\""));
    format!(
        "<script src=\"{SCRIPT}\" data-build=\"{build_id}\" data-events=\"{EVENTS}?{build_id}\"{nonce}></script>"
    )
}

/// Returns the nonce with which the page's Content-Security-Policy allows scripts (CSP Level 3, section
/// 2.3.1).
fn nonce(headers: &HeaderMap) -> Option<String> {
    let policies = headers
        .get_all(header::CONTENT_SECURITY_POLICY)
        .iter()
        .filter_map(|value| value.to_str().ok());
    let directives: Vec<&str> = policies
        .flat_map(|policies| policies.split([',', ';']))
        .map(str::trim)
        .collect();
    // the most specific directive applies to a script
    ["script-src-elem", "script-src", "default-src"]
        .into_iter()
        .find_map(|name| {
            let mut directives = directives
                .iter()
                .map(|directive| directive.split_ascii_whitespace());
            let sources = directives
                .find_map(|mut words| words.next()?.eq_ignore_ascii_case(name).then_some(words));
            sources?.find_map(|source| {
                let nonce = source.strip_prefix("'nonce-")?.strip_suffix('\'')?;
                let is_base64 = |c: char| c.is_ascii_alphanumeric() || "+/-_=".contains(c);
                nonce.chars().all(is_base64).then(|| nonce.to_owned())
            })
        })
}

#[cfg(test)]
mod tests {
    use async_std::task::block_on;
    use bytes::Bytes;

    use super::*;

    fn page(content_type: &'static str, text: &'static str) -> Response<ResponseBody> {
        let mut response = Response::new(ResponseBody::Full(Bytes::from_static(text.as_bytes())));
        response
            .headers_mut()
            .insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
        response
            .headers_mut()
            .insert(header::ETAG, HeaderValue::from_static("\"1\""));
        response
    }

    fn scripted(response: Response<ResponseBody>, injection: Injection) -> (HeaderMap, String) {
        let (head, body) = block_on(with_script(response, injection, "b")).into_parts();
        let bytes = block_on(body.collect()).unwrap().to_bytes();
        (head.headers, String::from_utf8(bytes.to_vec()).unwrap())
    }

    const TAG: &str = r#"<script src="/__slackwater/dev.js" data-build="b" data-events="/__slackwater/dev?b"></script>"#;

    #[test]
    fn a_page_gets_the_script_at_the_end_of_its_body() {
        let (headers, text) = scripted(
            page("text/html; charset=utf-8", "<BODY>x</BODY></html>"),
            Injection::IfDocument,
        );
        assert_eq!(text, format!("<BODY>x{TAG}</BODY></html>"));
        assert_eq!(headers.get(header::ETAG), None);
        assert_eq!(headers[header::CACHE_CONTROL], "no-store");
        let (_, text) = scripted(page("text/html", "<h1>x"), Injection::Always);
        assert_eq!(text, format!("<h1>x{TAG}"));
    }

    #[test]
    fn a_response_that_is_not_a_whole_page_is_not_changed() {
        let (headers, text) = scripted(page("text/html", "<li>x"), Injection::IfDocument);
        assert_eq!(
            (text.as_str(), headers.contains_key(header::ETAG)),
            ("<li>x", true)
        );
        assert_eq!(
            scripted(page("text/plain", "<html>"), Injection::Always).1,
            "<html>"
        );
        let mut compressed = page("text/html", "<html>");
        compressed
            .headers_mut()
            .insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        assert_eq!(scripted(compressed, Injection::Always).1, "<html>");
        let mut part = page("text/html", "<html>");
        *part.status_mut() = StatusCode::PARTIAL_CONTENT;
        assert_eq!(scripted(part, Injection::Always).1, "<html>");
    }

    #[test]
    fn the_script_has_the_nonce_of_the_policy() {
        let nonce_of = |policies: &[&'static str]| {
            let mut headers = HeaderMap::new();
            for policy in policies {
                headers.append(
                    header::CONTENT_SECURITY_POLICY,
                    HeaderValue::from_static(policy),
                );
            }
            nonce(&headers)
        };
        assert_eq!(
            nonce_of(&["default-src 'self'; script-src 'nonce-aB1+/=' 'strict-dynamic'"])
                .as_deref(),
            Some("aB1+/=")
        );
        assert_eq!(
            nonce_of(&["default-src 'nonce-d'", "SCRIPT-SRC 'nonce-s'"]).as_deref(),
            Some("s")
        );
        assert_eq!(nonce_of(&["script-src 'nonce-\"><x'"]), None);
        assert_eq!(nonce_of(&["style-src 'nonce-x'"]), None);
        assert_eq!(nonce_of(&[]), None);
        assert!(tag("b", Some("n".into())).contains(r#" nonce="n""#));
    }

    #[test]
    fn the_method_and_sec_fetch_dest_decide_about_the_script() {
        let injection = |method: Method, destination: Option<&str>| {
            let mut request = Request::new(());
            *request.method_mut() = method;
            if let Some(destination) = destination {
                request
                    .headers_mut()
                    .insert("sec-fetch-dest", destination.parse().unwrap());
            }
            Injection::for_request(&request)
        };
        assert_eq!(injection(Method::GET, Some("document")), Injection::Always);
        assert_eq!(injection(Method::GET, Some("empty")), Injection::Never);
        assert_eq!(injection(Method::GET, None), Injection::IfDocument);
        assert_eq!(injection(Method::HEAD, None), Injection::Never);
    }
}
