//! Tests of the whole bridge: scripted requests, answered by a tide server.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{self, Poll};

use bytes::Bytes;
use futures_lite::future::{block_on, poll_fn};
use futures_lite::io::{AsyncReadExt, BufReader, Cursor};
use futures_lite::{AsyncBufRead, AsyncRead};
use http_body::{Body as _, Frame, SizeHint};
use http_body_util::BodyExt;
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::{Request, Response, StatusCode, Version};
use tide::Server;

use super::*;
use crate::app::{App, RequestExt};
use crate::http::{BodyError, Client, DrainSignal, Endpoints, Tunnel, Upgrade};
use crate::sync::token::token;

/// A request body that returns `frames` in order. An empty frame makes the body return `Pending` once.
struct ScriptedBody {
    frames: VecDeque<Result<Frame<Bytes>, BodyError>>,
    length: Option<u64>,
    polls: Arc<Mutex<usize>>,
}

impl ScriptedBody {
    fn of(frames: impl IntoIterator<Item = Result<Frame<Bytes>, BodyError>>) -> Self {
        ScriptedBody {
            frames: frames.into_iter().collect(),
            length: None,
            polls: Arc::default(),
        }
    }

    fn text(text: &'static str) -> Self {
        let mut body = ScriptedBody::of(data(text));
        body.length = Some(text.len() as u64);
        body
    }

    fn empty() -> Self {
        let mut body = ScriptedBody::of([]);
        body.length = Some(0);
        body
    }
}

fn data(text: &'static str) -> Vec<Result<Frame<Bytes>, BodyError>> {
    text.as_bytes()
        .chunks(4)
        .map(|chunk| Ok(Frame::data(Bytes::from_static(chunk))))
        .collect()
}

impl http_body::Body for ScriptedBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut task::Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        *self.polls.lock().unwrap() += 1;
        match self.frames.pop_front() {
            Some(Ok(frame)) if frame.data_ref().is_some_and(Bytes::is_empty) => {
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            frame => Poll::Ready(frame),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.length == Some(0) || (self.frames.is_empty() && self.length.is_some())
    }

    fn size_hint(&self) -> SizeHint {
        self.length
            .map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

/// A reader that returns pieces in order, then an error if there is one. An empty piece makes it return `Pending` once.
struct ScriptedReader(VecDeque<&'static [u8]>, Option<io::ErrorKind>);

impl AsyncRead for ScriptedReader {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut task::Context<'_>,
        buf: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let piece = match (self.0.pop_front(), self.1) {
            (Some([]), _) => {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            (Some(piece), _) => piece,
            (None, Some(kind)) => return Poll::Ready(Err(kind.into())),
            (None, None) => return Poll::Ready(Ok(0)),
        };
        let taken = piece.len().min(buf.len());
        buf[..taken].copy_from_slice(&piece[..taken]);
        if taken < piece.len() {
            self.0.push_front(&piece[taken..]);
        }
        Poll::Ready(Ok(taken))
    }
}

fn pieces(
    pieces: &[&'static str],
    end: Option<io::ErrorKind>,
) -> impl AsyncBufRead + Send + Sync + Unpin {
    BufReader::new(ScriptedReader(
        pieces.iter().map(|piece| piece.as_bytes()).collect(),
        end,
    ))
}

fn context() -> Context {
    let endpoints = Endpoints {
        peer: "127.0.0.1:5000".into(),
        local: "127.0.0.1:8080".into(),
    };
    Context {
        endpoints: Arc::new(endpoints),
        client: Client::default(),
        drain: DrainSignal::default(),
    }
}

fn get(path: &str) -> Request<ScriptedBody> {
    request("GET", path, ScriptedBody::empty())
}

fn request(method: &str, path: &str, body: ScriptedBody) -> Request<ScriptedBody> {
    Request::builder()
        .method(method)
        .uri(path)
        .header("host", "example.com")
        .body(body)
        .unwrap()
}

fn bridge<S: Clone>(server: &Server<S>) -> Arc<Bridge<S>> {
    Arc::new(Bridge {
        server: server.clone(),
        allow: Allow::of([("GET", "/own"), ("PUT", "/own")]),
    })
}

fn respond<S: Clone + Send + Sync + 'static>(
    server: &Server<S>,
    request: Request<ScriptedBody>,
) -> Response<ResponseBody> {
    let (head, body) = request.into_parts();
    block_on(bridge(server).answer(head, body, BodyLimit::new(Some(8)), context()))
}

fn server(build: impl FnOnce(&mut App)) -> Server<()> {
    let mut app = App::new();
    build(&mut app);
    std::mem::take(app.tide_mut())
}

/// Returns a server that answers every request with the same response.
fn fixed(response: impl Fn() -> tide::Response + Send + Sync + 'static) -> Server<()> {
    server(|app| {
        let response = Arc::new(response);
        app.at("/").all(move |_| {
            let response = response();
            async { Ok(response) }
        });
    })
}

fn collect(body: ResponseBody) -> Result<(Bytes, Option<HeaderMap>), crate::BoxError> {
    let collected = block_on(body.collect())?;
    let trailers = collected.trailers().cloned();
    Ok((collected.to_bytes(), trailers))
}

fn text(response: Response<ResponseBody>) -> String {
    String::from_utf8(collect(response.into_body()).unwrap().0.to_vec()).unwrap()
}

fn problem(response: Response<ResponseBody>) -> serde_json::Value {
    assert_eq!(
        response.headers()[header::CONTENT_TYPE],
        "application/problem+json"
    );
    serde_json::from_str(&text(response)).unwrap()
}

#[test]
fn a_handler_receives_every_part_of_a_request() {
    let server = server(|app| {
        app.at("/a/:b")
            .put(|mut request: tide::Request<()>| async move {
                let header = |name| request.header(name).map(ToString::to_string);
                let (many, kind) = (header("x-many").unwrap(), header("content-type"));
                let body = request.body_string().await?;
                Ok(format!(
                    "{} {} {:?} {:?} {:?} {} {:?} {:?} {body}",
                    request.method(),
                    request.url(),
                    request.version().unwrap(),
                    request.peer_addr().unwrap(),
                    request.local_addr().unwrap(),
                    request.param("b")?,
                    many,
                    kind,
                ))
            });
    });
    let mut request = request("PUT", "/a/%20?c=d", ScriptedBody::text("body text"));
    *request.version_mut() = Version::HTTP_10;
    request
        .headers_mut()
        .append("x-many", HeaderValue::from_static("1"));
    request
        .headers_mut()
        .append("x-many", HeaderValue::from_static("2"));
    assert_eq!(
        text(respond(&server, request)),
        "PUT http://example.com/a/%20?c=d Http1_0 \"127.0.0.1:5000\" \"127.0.0.1:8080\" %20 \
         \"[\\\"1\\\", \\\"2\\\"]\" None body text"
    );
}

#[test]
fn an_unknown_method_is_answered_501_and_methods_are_case_sensitive() {
    let server = fixed(|| "here".into());
    for (method, status) in [
        ("BREW", 501),
        ("get", 501),
        ("PROPFIND", 200),
        ("DELETE", 200),
    ] {
        assert_eq!(
            respond(&server, request(method, "/", ScriptedBody::empty())).status(),
            status,
            "{method}"
        );
    }
}

#[test]
fn a_header_that_is_not_ascii_is_answered_400() {
    let server = fixed(|| "here".into());
    let mut request = get("/");
    request
        .headers_mut()
        .insert("x-name", HeaderValue::from_bytes(b"J\xc3\xbcrgen").unwrap());
    let response = respond(&server, request);
    assert_eq!(response.status(), 400);
    assert_eq!(response.headers()[header::CONNECTION], "close");
    assert_eq!(problem(response)["detail"], "a header is not plain ASCII");
}

#[test]
fn options_of_the_whole_server_is_answered_without_a_route() {
    let response = respond(
        &server(|_| {}),
        request("OPTIONS", "*", ScriptedBody::empty()),
    );
    assert_eq!(response.status(), 204);
}

#[test]
fn http_1_0_cannot_upgrade() {
    let server = server(|app| {
        app.at("/").get(|request: tide::Request<()>| async move {
            Ok(request
                .header("upgrade")
                .map_or("nothing".to_owned(), ToString::to_string))
        });
    });
    let mut request = get("/");
    request
        .headers_mut()
        .insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    *request.version_mut() = Version::HTTP_10;
    assert_eq!(text(respond(&server, request)), "nothing");
}

#[test]
fn a_body_is_not_polled_before_a_handler_reads_it() {
    let server = fixed(|| "not read".into());
    let body = ScriptedBody::text("never read");
    let polls = body.polls.clone();
    assert_eq!(
        text(respond(&server, request("POST", "/", body))),
        "not read"
    );
    assert_eq!(*polls.lock().unwrap(), 0);
}

#[test]
fn a_body_streams_through_and_its_trailers_arrive() {
    let server = server(|app| {
        app.at("/")
            .post(|mut request: tide::Request<()>| async move {
                let trailers = AsMut::<tide::http::Request>::as_mut(&mut request).recv_trailers();
                let body = request.body_string().await?;
                let trailers = trailers.await.unwrap();
                Ok(format!("{body} {}", trailers["x-sum"].as_str()))
            });
    });
    let mut frames = data("some text");
    frames.insert(1, Ok(Frame::data(Bytes::new())));
    let mut fields = HeaderMap::new();
    fields.insert("x-sum", HeaderValue::from_static("42"));
    frames.push(Ok(Frame::trailers(fields)));
    assert_eq!(
        text(respond(
            &server,
            request("POST", "/", ScriptedBody::of(frames))
        )),
        "some text 42"
    );
}

#[test]
fn a_body_that_cannot_be_read_decides_the_status_of_an_error() {
    let server = server(|app| {
        app.at("/fails")
            .post(|mut request: tide::Request<()>| async move {
                let error = request.body_bytes().await.unwrap_err();
                let source = error
                    .downcast_ref::<io::Error>()
                    .unwrap()
                    .get_ref()
                    .unwrap();
                assert!(source.is::<BodyError>());
                Err::<&str, _>(error)
            });
        app.at("/recovers")
            .post(|mut request: tide::Request<()>| async move {
                let _ = request.body_bytes().await;
                Ok("fine")
            });
    });
    for (error, status) in [
        (BodyError::TooLarge, 413),
        (BodyError::TimedOut, 408),
        (BodyError::Cut, 400),
        (BodyError::Stopping, 503),
    ] {
        let body = || ScriptedBody::of(data("some").into_iter().chain([Err(error)]));
        let response = respond(&server, request("POST", "/fails", body()));
        assert_eq!(response.status(), status);
        assert_eq!(
            response.headers().contains_key(header::CONNECTION),
            status == 408
        );
        assert_eq!(problem(response)["status"], status);
        assert_eq!(
            respond(&server, request("POST", "/recovers", body())).status(),
            200
        );
    }
}

#[test]
fn a_route_can_change_the_limit_of_its_body() {
    use crate::app::BodyLimit as Limit;
    let server = server(|app| {
        app.at("/own").get(|request: tide::Request<()>| async move {
            request.set_body_limit(16);
            Ok("")
        });
        app.at("/any").get(|request: tide::Request<()>| async move {
            request.any_body_length();
            Ok("")
        });
        app.at("/with")
            .with(Limit::bytes(32))
            .get(|_| async { Ok("") });
    });
    for (path, bytes) in [
        ("/own", 16),
        ("/any", u64::MAX),
        ("/with", 32),
        ("/none", 8),
    ] {
        let limit = BodyLimit::new(Some(8));
        let (head, body) = get(path).into_parts();
        block_on(bridge(&server).answer(head, body, limit.clone(), context()));
        assert_eq!(
            format!("{limit:?}"),
            format!("{:?}", BodyLimit::new(Some(bytes))),
            "{path}"
        );
    }
}

#[test]
fn a_handler_is_notified_of_the_drain() {
    let server = server(|app| {
        app.at("/").get(|request: tide::Request<()>| async move {
            let draining = request.draining();
            drop(request);
            draining.await;
            Ok("finished")
        });
    });
    let (trigger, draining) = token();
    let context = Context {
        drain: DrainSignal::new(draining, std::time::Duration::ZERO),
        ..context()
    };
    let (head, body) = get("/").into_parts();
    let bridge = bridge(&server);
    let mut answer = bridge.answer(head, body, BodyLimit::new(None), context);
    assert!(block_on(futures_lite::future::poll_once(&mut answer)).is_none());
    trigger.fire();
    assert_eq!(text(block_on(answer)), "finished");
}

#[test]
fn a_short_body_becomes_one_buffer_and_any_other_is_streamed() {
    let whole = respond(&fixed(|| "Hello".into()), get("/"));
    assert!(matches!(whole.body(), ResponseBody::Full(bytes) if bytes == "Hello"));
    assert_eq!(
        whole.headers()[header::CONTENT_TYPE],
        "text/plain;charset=utf-8"
    );

    let long = "x".repeat(200_000);
    let expected = long.clone();
    let streamed = respond(&fixed(move || long.clone().into()), get("/"));
    assert!(matches!(streamed.body(), ResponseBody::Stream(_)));
    assert_eq!(streamed.body().size_hint().exact(), Some(200_000));
    assert!(text(streamed) == expected);

    let unknown = respond(
        &fixed(|| body(pieces(&["a", "", "b"], None), None)),
        get("/"),
    );
    assert_eq!(unknown.body().size_hint().exact(), None);
    assert_eq!(text(unknown), "ab");

    let slow = respond(
        &fixed(|| body(pieces(&["a", "", "bc"], None), Some(2))),
        get("/"),
    );
    assert_eq!(slow.body().size_hint().exact(), Some(2));
    assert_eq!(
        text(slow),
        "ab",
        "bytes past the declared length are not sent"
    );

    let in_pieces = respond(
        &fixed(|| body(pieces(&["a", "b", "c"], None), Some(3))),
        get("/"),
    );
    assert!(matches!(in_pieces.body(), ResponseBody::Full(bytes) if bytes == "abc"));
}

fn body(
    reader: impl AsyncBufRead + Send + Sync + Unpin + 'static,
    length: Option<usize>,
) -> tide::Response {
    tide::Body::from_reader(reader, length).into()
}

#[test]
fn a_body_that_fails_or_is_too_short_is_answered_500_before_the_head_and_is_an_error_after_it() {
    let fails = Some(io::ErrorKind::BrokenPipe);
    for (parts, end, length) in [(&["a"][..], None, 5), (&[], fails, 5)] {
        let parts: Vec<&'static str> = parts.to_vec();
        let response = respond(
            &fixed(move || body(pieces(&parts, end), Some(length))),
            get("/"),
        );
        assert_eq!(response.status(), 500);
    }
    for (parts, end, length) in [
        (&["a", "", "b"][..], None, Some(5)),
        (&["", "a"], fails, None),
    ] {
        let parts: Vec<&'static str> = parts.to_vec();
        let response = respond(&fixed(move || body(pieces(&parts, end), length)), get("/"));
        assert_eq!(response.status(), 200);
        assert!(collect(response.into_body()).is_err());
    }
}

/// A reader that returns a larger number than the length of the buffer when it is read directly.
struct OverstatingReader;

impl AsyncRead for OverstatingReader {
    fn poll_read(
        self: Pin<&mut Self>,
        _: &mut task::Context<'_>,
        buf: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(buf.len() + 100_000))
    }
}

impl AsyncBufRead for OverstatingReader {
    fn poll_fill_buf(self: Pin<&mut Self>, _: &mut task::Context<'_>) -> Poll<io::Result<&[u8]>> {
        Poll::Ready(Ok(b"a short buffer"))
    }
    fn consume(self: Pin<&mut Self>, _: usize) {}
}

#[test]
fn a_reader_that_overstates_what_it_read_is_an_error() {
    let response = respond(&fixed(|| body(OverstatingReader, None)), get("/"));
    assert!(collect(response.into_body()).is_err());
}

#[test]
fn head_has_the_length_of_get_and_never_polls_the_body() {
    let head = |server: &Server<()>| respond(server, request("HEAD", "/", ScriptedBody::empty()));
    let known = head(&fixed(|| body(OverstatingReader, Some(1 << 40))));
    assert_eq!(known.headers()[header::CONTENT_LENGTH], "1099511627776");
    assert!(matches!(known.body(), ResponseBody::Empty));

    let unknown = head(&fixed(|| body(OverstatingReader, None)));
    assert!(!unknown.headers().contains_key(header::CONTENT_LENGTH));
    assert!(matches!(unknown.body(), ResponseBody::Empty));

    let own = head(&fixed(|| {
        tide::Response::builder(200)
            .header("content-length", "7")
            .build()
    }));
    assert_eq!(own.headers()[header::CONTENT_LENGTH], "7");

    let missing = respond(&server(|_| {}), request("HEAD", "/", ScriptedBody::empty()));
    assert!(matches!(missing.body(), ResponseBody::Empty));
    let length = missing.headers()[header::CONTENT_LENGTH]
        .to_str()
        .unwrap()
        .to_owned();
    assert_eq!(
        text(respond(&server(|_| {}), get("/"))).len().to_string(),
        length
    );
}

#[test]
fn a_status_without_a_body_has_no_body() {
    for status in [204, 304] {
        let response = respond(
            &fixed(move || {
                tide::Response::builder(status)
                    .body("text")
                    .header("content-length", "4")
                    .build()
            }),
            get("/"),
        );
        assert_eq!(response.status(), status);
        assert!(matches!(response.body(), ResponseBody::Empty));
        assert!(!response.headers().contains_key(header::CONTENT_LENGTH));
    }
}

#[test]
fn a_handler_cannot_break_the_framing() {
    let response = respond(
        &fixed(|| {
            tide::Response::builder(200)
                .body("text")
                .header("content-length", "99")
                .header("transfer-encoding", "gzip")
                .header("connection", "x-own, keep-alive")
                .header("keep-alive", "timeout=5")
                .header("upgrade", "h2c")
                .header("x-own", "kept")
                .build()
        }),
        get("/"),
    );
    let mut names: Vec<_> = response.headers().keys().map(HeaderName::as_str).collect();
    names.sort_unstable();
    assert_eq!(names, ["content-type", "x-own"]);
    assert_eq!(response.body().size_hint().exact(), Some(4));

    let closing = fixed(|| {
        tide::Response::builder(200)
            .header("connection", "x, Close")
            .build()
    });
    assert_eq!(
        respond(&closing, get("/")).headers()[header::CONNECTION],
        "close"
    );
}

#[test]
fn a_header_with_a_line_break_is_answered_500() {
    for (name, value) in [("x-own", "a\r\nset-cookie: b"), ("x own", "a"), ("", "a")] {
        let server = fixed(move || {
            tide::Response::builder(200)
                .body("text")
                .header(name, value)
                .build()
        });
        let response = respond(&server, get("/"));
        assert_eq!(response.status(), 500);
        assert!(!response.headers().contains_key(header::SET_COOKIE));
    }
}

#[test]
fn every_value_of_a_header_is_sent() {
    let response = respond(
        &fixed(|| {
            let mut response = tide::Response::new(200);
            response.append_header("set-cookie", "a=1");
            response.append_header("set-cookie", "b=2");
            response
        }),
        get("/"),
    );
    let values: Vec<_> = response
        .headers()
        .get_all(header::SET_COOKIE)
        .iter()
        .collect();
    assert_eq!(values, ["a=1", "b=2"]);
}

#[test]
fn trailers_follow_a_body_of_unknown_length() {
    let server = fixed(|| {
        let mut response = tide::Response::new(200);
        response.set_body("text");
        let sender = AsMut::<tide::http::Response>::as_mut(&mut response).send_trailers();
        let mut trailers = tide::http::Trailers::new();
        trailers.insert("x-sum", "42");
        trailers.insert("x-bad", "4\r\n2");
        block_on(sender.send(trailers));
        response
    });
    let response = respond(&server, get("/"));
    assert_eq!(response.body().size_hint().exact(), None);
    let (bytes, trailers) = collect(response.into_body()).unwrap();
    assert_eq!(bytes, "text");
    let trailers = trailers.unwrap();
    assert_eq!(
        (trailers.len(), &trailers["x-sum"]),
        (1, &HeaderValue::from_static("42"))
    );
}

#[test]
fn an_error_without_a_body_receives_one() {
    #[derive(Debug)]
    struct Secret;
    impl std::fmt::Display for Secret {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("the database does not answer")
        }
    }
    impl std::error::Error for Secret {}

    let mut app = App::new();
    app.at("/err")
        .get(|_| async { Err::<&str, _>(tide::Error::new(503, Secret)) });
    app.at("/own")
        .get(|_| async { Ok(tide::Response::builder(418).body("teapot").build()) });
    app.with(tide::utils::Before(
        |request: tide::Request<()>| async move { request },
    ));
    let mut server = std::mem::take(app.tide_mut());
    server
        .at("/plain")
        .get(|_| async { Ok(tide::Response::new(500)) });

    let failed = respond(&server, get("/err"));
    assert_eq!(failed.status(), 503);
    let failed = problem(failed);
    assert_eq!(
        (&failed["title"], &failed["status"]),
        (&"Service Unavailable".into(), &503.into())
    );
    let cause = cfg!(debug_assertions).then_some("the database does not answer");
    assert_eq!(failed["cause"].as_str(), cause);

    assert_eq!(problem(respond(&server, get("/plain")))["status"], 500);
    assert_eq!(
        problem(respond(&server, get("/missing")))["title"],
        "Not Found"
    );
    let not_allowed = respond(&server, request("POST", "/own", ScriptedBody::empty()));
    assert_eq!(not_allowed.headers()[header::ALLOW], "GET, HEAD, PUT");
    assert_eq!(problem(not_allowed)["status"], 405);
    assert_eq!(text(respond(&server, get("/own"))), "teapot");
}

#[test]
fn errors_of_a_tide_server_that_the_application_created_have_a_body() {
    let mut external = tide::new();
    external.at("/").get(|_| async { Ok("root") });
    external
        .at("/a//b")
        .get(|_| async { Err::<&str, _>(tide::Error::from_str(502, "upstream")) });
    let built = App::from(external).build().unwrap();
    drop(built);
    let mut external = tide::new();
    external
        .at("/a//b")
        .get(|_| async { Err::<&str, _>(tide::Error::from_str(502, "upstream")) });
    let server = crate::app::with_cause_middleware(external);
    let problem = problem(respond(&server, get("/a//b")));
    assert_eq!(problem["status"], 502);
    assert_eq!(
        problem["cause"].as_str(),
        cfg!(debug_assertions).then_some("upstream")
    );
}

#[test]
fn a_handler_can_take_over_the_connection() {
    let server = server(|app| {
        app.at("/ws").get(|_| async {
            let mut response = tide::Response::new(101);
            response.insert_header("upgrade", "websocket");
            response.insert_header("connection", "Upgrade");
            let upgrade = AsMut::<tide::http::Response>::as_mut(&mut response)
                .recv_upgrade()
                .await;
            async_std::task::spawn(async move {
                use futures_lite::AsyncWriteExt;
                let mut connection = upgrade.await.unwrap();
                let mut received = String::new();
                connection.read_to_string(&mut received).await.unwrap();
                connection.write_all(b"received").await.unwrap();
            });
            Ok(response)
        });
        app.at("/none")
            .get(|_| async { Ok(tide::Response::new(101)) });
        app.at("/early")
            .get(|_| async { Ok(tide::Response::new(103)) });
    });
    let response = respond(&server, get("/ws"));
    assert_eq!(response.status(), StatusCode::SWITCHING_PROTOCOLS);
    assert_eq!(response.headers()[header::UPGRADE], "websocket");
    assert_eq!(response.headers()[header::CONNECTION], "upgrade");

    let (written, answer) = async_channel::bounded(1);
    let upgrade = response.extensions().get::<Upgrade>().unwrap();
    let tunnel: Box<dyn Tunnel> = Box::new(ScriptedTunnel {
        input: Cursor::new(b"hello".to_vec()),
        written,
    });
    upgrade.start(tunnel);
    assert_eq!(block_on(answer.recv()).unwrap(), b"received");

    assert_eq!(respond(&server, get("/none")).status(), 500);
    assert_eq!(respond(&server, get("/early")).status(), 500);
}

/// A tunnel with scripted input. It sends each write to a channel.
struct ScriptedTunnel {
    input: Cursor<Vec<u8>>,
    written: async_channel::Sender<Vec<u8>>,
}

impl AsyncRead for ScriptedTunnel {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut task::Context<'_>,
        buf: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.input).poll_read(cx, buf)
    }
}

impl futures_lite::AsyncWrite for ScriptedTunnel {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut task::Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.written.try_send(buf.to_vec()).unwrap();
        Poll::Ready(Ok(buf.len()))
    }
    fn poll_flush(self: Pin<&mut Self>, _: &mut task::Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
    fn poll_close(self: Pin<&mut Self>, _: &mut task::Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[test]
fn a_dropped_upgrade_resolves_the_handlers_future_without_a_connection() {
    let mut response = tide::http::Response::new(101);
    let receiver = block_on(response.recv_upgrade());
    drop(upgrade::of(&mut response));
    drop(response);
    assert!(block_on(receiver).is_none());
}

#[test]
fn a_body_is_dropped_when_its_last_byte_is_read() {
    let body = ScriptedBody::text("last");
    let alive = Arc::downgrade(&body.polls);
    let mut reader = reader::BodyReader::new(body, Default::default(), None);
    block_on(poll_fn(|cx| {
        Pin::new(&mut reader)
            .poll_fill_buf(cx)
            .map(|read| read.map(<[u8]>::len))
    }))
    .unwrap();
    assert!(alive.upgrade().is_none());
    let mut text = String::new();
    block_on(reader.read_to_string(&mut text)).unwrap();
    assert_eq!(text, "last");
}
