//! What stands before the application under `APP dev`: it puts a script into pages, and tells them what is live.

use std::os::unix::net::UnixStream;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{self, Poll};
use std::time::{SystemTime, UNIX_EPOCH};

use async_io::Async;
use bytes::{Bytes, BytesMut};
use futures_lite::{future, stream, AsyncReadExt};
use http_body::{Body, Frame};
use http_body_util::{BodyExt, StreamBody};
use hyper::header::{self, HeaderMap, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};

use super::link::Link;
use super::pages::PAGE;
use crate::app::{Application, ApplicationParts, BoxFuture, Hook};
use crate::config::LoadedConfig;
use crate::error::{BoxError, Error};

use crate::http::{
    error_response, Context, ErrorFormat, Pieces, Reply, RequestBody, ResponseBody, Service,
};
use crate::setup::{Reason, Setup};

/// Where pages find the script, and the stream of events.
const SCRIPT: &str = "/__slackwater/dev.js";
const EVENTS: &str = "/__slackwater/dev";

/// The largest page that a script is put into.
const PAGE_LIMIT: u64 = 8 << 20;

/// Its frames are lines of a few bytes.
impl<S> Pieces for StreamBody<S>
where
    StreamBody<S>: Body<Data = Bytes, Error = BoxError> + Send,
{
    fn poll_piece(
        self: Pin<&mut Self>,
        cx: &mut task::Context<'_>,
        _: usize,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        self.poll_frame(cx)
    }
}

/// An application whose pages follow its changes.
pub(crate) struct Overlaid {
    application: Arc<dyn Application>,
    link: Link,
}

impl Overlaid {
    pub(crate) fn new(application: Arc<dyn Application>, link: Link) -> Self {
        Overlaid { application, link }
    }
}

impl Application for Overlaid {
    fn build(
        &self,
        settings: &mut LoadedConfig,
        setup: Setup,
    ) -> BoxFuture<Result<ApplicationParts, Error>> {
        let (link, generation, reason) = (self.link.clone(), setup.generation(), setup.reason());
        let built = self.application.build(settings, setup);
        Box::pin(async move {
            let mut built = built
                .await
                .inspect_err(|error| link.refused(title(reason), &error.chain()))?;
            let hooks = std::mem::take(&mut built.on_ready);
            built.on_ready = hooks
                .into_iter()
                .map(|hook| reported(hook, reason, &link))
                .collect();
            link.built();
            let build = build_id(generation);
            built.service = Arc::new(Overlay {
                inner: built.service,
                build: build.into(),
                keeper: link,
            });
            Ok(built)
        })
    }

    fn read(&self, settings: &mut LoadedConfig) -> Result<(), Error> {
        self.application.read(settings)
    }
}

fn title(reason: Reason) -> &'static str {
    match reason {
        Reason::Reload => "The reload was refused, the settings before are still in force",
        _ => "The new code does not start",
    }
}

fn reported(hook: Hook, reason: Reason, link: &Link) -> Hook {
    let link = link.clone();
    Box::new(move || {
        let run = hook();
        Box::pin(async move {
            run.await
                .inspect_err(|error| link.refused(title(reason), &format!("on_ready: {error}")))
        })
    })
}

/// Which process and which generation of it: another after each upgrade and each reload.
fn build_id(generation: u64) -> String {
    static STARTED: OnceLock<u128> = OnceLock::new();
    let now = || {
        SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| since.as_nanos())
    };
    format!("{:x}-{generation}", STARTED.get_or_init(now))
}

struct Overlay {
    inner: Arc<dyn Service>,
    build: Arc<str>,
    keeper: Link,
}

/// Whether an answer may get the script.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wanted {
    /// A browser asks for a page.
    Page,
    /// The client does not say what it asks for: only what looks like a page gets it.
    Unsaid,
    /// A fragment, an image, anything else.
    Other,
}

impl Service for Overlay {
    fn call(&self, mut request: Request<RequestBody>, context: Context) -> Reply {
        match request.uri().path() {
            SCRIPT => return Reply::ready(script()),
            EVENTS => {
                let page = request.uri().query().unwrap_or_default().to_owned();
                return Reply::ready(events(&self.build, &self.keeper, &page, context));
            }
            _ => {}
        }
        let wanted = Wanted::by(&request);
        if wanted == Wanted::Other {
            return self.inner.call(request, context);
        }
        // the page is needed whole and as text
        for name in [
            header::ACCEPT_ENCODING,
            header::IF_NONE_MATCH,
            header::IF_MODIFIED_SINCE,
            header::RANGE,
        ] {
            request.headers_mut().remove(name);
        }
        let (reply, build) = (self.inner.call(request, context), self.build.clone());
        Reply::new(async move { with_script(reply.response.await, wanted, &build).await })
    }
}

impl Wanted {
    /// A browser says in Sec-Fetch-Dest what it is going to do with the answer.
    fn by<B>(request: &Request<B>) -> Self {
        let destination = request
            .headers()
            .get("sec-fetch-dest")
            .map(HeaderValue::as_bytes);
        match (request.method(), destination) {
            (&Method::GET | &Method::POST, Some(b"document" | b"iframe" | b"frame")) => {
                Wanted::Page
            }
            (&Method::GET | &Method::POST, None) => Wanted::Unsaid,
            _ => Wanted::Other,
        }
    }
}

fn script() -> Response<ResponseBody> {
    let text = ResponseBody::Full(Bytes::from_static(include_bytes!("overlay.js")));
    answer("text/javascript; charset=utf-8", text)
}

fn answer(kind: &'static str, body: ResponseBody) -> Response<ResponseBody> {
    let mut response = Response::new(body);
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    response
        .headers_mut()
        .insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// The stream of a page: who answers now, and then what the keeper says, until either ends.
fn events(build: &str, keeper: &Link, page: &str, context: Context) -> Response<ResponseBody> {
    let first = format!("event: live\ndata: {build}\n\n");
    let heard = listen(keeper, page)
        .inspect_err(|error| log::debug!("`dev` cannot be heard: {error}"))
        .ok();
    let state = (Some(Bytes::from(first)), heard, context.drain);
    let frames = stream::unfold(state, |(first, mut heard, drain)| async move {
        if let Some(first) = first {
            return Some((Ok::<_, BoxError>(Frame::data(first)), (None, heard, drain)));
        }
        let told = async {
            drain.wait().await;
            None
        };
        let said = async {
            match &mut heard {
                Some(keeper) => read(keeper).await,
                None => future::pending().await,
            }
        };
        let bytes = future::or(told, said).await?;
        Some((Ok(Frame::data(bytes)), (None, heard, drain)))
    });
    answer(
        "text/event-stream",
        ResponseBody::Stream(Box::pin(StreamBody::new(frames))),
    )
}

fn listen(keeper: &Link, page: &str) -> std::io::Result<Async<UnixStream>> {
    let page: String = page
        .chars()
        .filter(|c| c.is_ascii_alphanumeric() || "-=".contains(*c))
        .collect();
    // a line of a few bytes into an empty socket: it does not wait
    Async::new(keeper.call(&format!("{PAGE} {page}"), "")?)
}

async fn read(keeper: &mut Async<UnixStream>) -> Option<Bytes> {
    let mut buffer = [0; 4096];
    match keeper.read(&mut buffer).await {
        Ok(0) | Err(_) => None,
        Ok(count) => Some(Bytes::copy_from_slice(&buffer[..count])),
    }
}

/// The answer with the script in it, if it is a whole page.
async fn with_script(
    response: Response<ResponseBody>,
    wanted: Wanted,
    build: &str,
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
                    log::error!("the body of a page could not be read: {error}");
                    return error_response(StatusCode::INTERNAL_SERVER_ERROR, ErrorFormat::Html);
                }
            }
        }
        other => return Response::from_parts(head, other),
    };
    let lower = page.to_ascii_lowercase();
    if wanted == Wanted::Unsaid && !is_document(&lower) {
        return Response::from_parts(head, ResponseBody::Full(page));
    }
    let tag = tag(build, nonce(&head.headers));
    // what is kept by a browser would be another build's
    for name in [header::ETAG, header::LAST_MODIFIED, header::ACCEPT_RANGES] {
        head.headers.remove(name);
    }
    head.headers
        .insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    let (before, after) = page.split_at(place(&lower));
    let mut whole = BytesMut::with_capacity(page.len() + tag.len());
    whole.extend_from_slice(before);
    whole.extend_from_slice(tag.as_bytes());
    whole.extend_from_slice(after);
    Response::from_parts(head, ResponseBody::Full(whole.freeze()))
}

fn is_html(headers: &HeaderMap) -> bool {
    let kind = headers
        .get(header::CONTENT_TYPE)
        .and_then(|kind| kind.to_str().ok())
        .unwrap_or_default();
    let essence = kind.split(';').next().unwrap_or_default().trim();
    essence.eq_ignore_ascii_case("text/html") && !headers.contains_key(header::CONTENT_ENCODING)
}

fn is_document(lower: &[u8]) -> bool {
    [&b"<!doctype"[..], b"<html", b"</body"]
        .into_iter()
        .any(|mark| last(lower, mark).is_some())
}

/// Where the script goes: at the end of the body.
fn place(lower: &[u8]) -> usize {
    last(lower, b"</body")
        .or_else(|| last(lower, b"</html"))
        .unwrap_or(lower.len())
}

fn last(text: &[u8], mark: &[u8]) -> Option<usize> {
    text.windows(mark.len()).rposition(|window| window == mark)
}

fn tag(build: &str, nonce: Option<String>) -> String {
    let nonce = nonce.map_or(String::new(), |nonce| format!(" nonce=\"{nonce}\""));
    format!(
        "<script src=\"{SCRIPT}\" data-build=\"{build}\" data-events=\"{EVENTS}?{build}\"{nonce}></script>"
    )
}

/// The nonce by which the page's Content-Security-Policy knows its own scripts (CSP Level 3, section 2.3.1).
fn nonce(headers: &HeaderMap) -> Option<String> {
    let policies = headers
        .get_all(header::CONTENT_SECURITY_POLICY)
        .iter()
        .filter_map(|value| value.to_str().ok());
    let directives: Vec<&str> = policies
        .flat_map(|policies| policies.split([',', ';']))
        .map(str::trim)
        .collect();
    // the most particular one decides
    ["script-src-elem", "script-src", "default-src"]
        .into_iter()
        .find_map(|name| {
            let mut sources = directives
                .iter()
                .map(|directive| directive.split_ascii_whitespace());
            let found = sources
                .find_map(|mut words| words.next()?.eq_ignore_ascii_case(name).then_some(words));
            found?.find_map(|source| {
                let nonce = source.strip_prefix("'nonce-")?.strip_suffix('\'')?;
                let is_base64 = |c: char| c.is_ascii_alphanumeric() || "+/-_=".contains(c);
                nonce.chars().all(is_base64).then(|| nonce.to_owned())
            })
        })
}

#[cfg(test)]
mod tests {
    use async_std::task::block_on;

    use super::*;

    fn page(kind: &'static str, text: &'static str) -> Response<ResponseBody> {
        let mut response = Response::new(ResponseBody::Full(Bytes::from_static(text.as_bytes())));
        response
            .headers_mut()
            .insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
        response
            .headers_mut()
            .insert(header::ETAG, HeaderValue::from_static("\"1\""));
        response
    }

    fn scripted(response: Response<ResponseBody>, wanted: Wanted) -> (HeaderMap, String) {
        let (head, body) = block_on(with_script(response, wanted, "b")).into_parts();
        let bytes = block_on(body.collect()).unwrap().to_bytes();
        (head.headers, String::from_utf8(bytes.to_vec()).unwrap())
    }

    const TAG: &str = r#"<script src="/__slackwater/dev.js" data-build="b" data-events="/__slackwater/dev?b"></script>"#;

    #[test]
    fn a_page_gets_the_script_at_the_end_of_its_body() {
        let (headers, text) = scripted(
            page("text/html; charset=utf-8", "<BODY>x</BODY></html>"),
            Wanted::Unsaid,
        );
        assert_eq!(text, format!("<BODY>x{TAG}</BODY></html>"));
        assert_eq!(headers.get(header::ETAG), None);
        assert_eq!(headers[header::CACHE_CONTROL], "no-store");
        let (_, text) = scripted(page("text/html", "<h1>x"), Wanted::Page);
        assert_eq!(text, format!("<h1>x{TAG}"));
    }

    #[test]
    fn what_is_no_whole_page_stays_as_it_is() {
        let (headers, text) = scripted(page("text/html", "<li>x"), Wanted::Unsaid);
        assert_eq!(
            (text.as_str(), headers.contains_key(header::ETAG)),
            ("<li>x", true)
        );
        assert_eq!(
            scripted(page("text/plain", "<html>"), Wanted::Page).1,
            "<html>"
        );
        let mut compressed = page("text/html", "<html>");
        compressed
            .headers_mut()
            .insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        assert_eq!(scripted(compressed, Wanted::Page).1, "<html>");
        let mut part = page("text/html", "<html>");
        *part.status_mut() = StatusCode::PARTIAL_CONTENT;
        assert_eq!(scripted(part, Wanted::Page).1, "<html>");
    }

    #[test]
    fn the_script_carries_the_nonce_of_the_policy() {
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
    fn a_browser_says_what_it_asks_for() {
        let by = |method: Method, destination: Option<&str>| {
            let mut request = Request::new(());
            *request.method_mut() = method;
            if let Some(destination) = destination {
                request
                    .headers_mut()
                    .insert("sec-fetch-dest", destination.parse().unwrap());
            }
            Wanted::by(&request)
        };
        assert_eq!(by(Method::GET, Some("document")), Wanted::Page);
        assert_eq!(by(Method::GET, Some("empty")), Wanted::Other);
        assert_eq!(by(Method::GET, None), Wanted::Unsaid);
        assert_eq!(by(Method::HEAD, None), Wanted::Other);
    }
}
