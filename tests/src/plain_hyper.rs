//! A server on hyper alone. The table of raw requests compares slackwater's answers with its answers.

use std::convert::Infallible;
use std::io;
use std::net::{TcpListener, TcpStream};
use std::pin::Pin;
use std::task::{ready, Context, Poll};

use async_io::Async;
use bytes::Bytes;
use futures_lite::{AsyncRead, AsyncWrite};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};

use crate::addr::Addr;

/// hyper with its defaults, in a task of this process that ends with the process.
#[derive(Clone, Debug)]
pub struct PlainHyper {
    addr: Addr,
}

type Body = BoxBody<Bytes, hyper::Error>;

impl PlainHyper {
    /// Starts the server on a free loopback port.
    ///
    /// # Panics
    ///
    /// Panics if no port is free.
    #[must_use]
    pub fn start() -> Self {
        let listener =
            Async::new(TcpListener::bind("127.0.0.1:0").expect("a free port")).expect("a listener");
        let addr = listener
            .get_ref()
            .local_addr()
            .expect("a bound listener has an address");
        async_std::task::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let connection = hyper::server::conn::http1::Builder::new().serve_connection(
                    Io(stream),
                    service_fn(|request| async { Ok::<_, Infallible>(answer(request).await) }),
                );
                // the client checks how the connection ends
                async_std::task::spawn(async { drop(connection.await) });
            }
        });
        PlainHyper { addr: addr.into() }
    }

    /// Returns the address it listens on.
    #[must_use]
    pub fn addr(&self) -> Addr {
        self.addr.clone()
    }
}

/// Answers the routes of `tests/raw/README.md`.
async fn answer(request: Request<Incoming>) -> Response<Body> {
    let path = request.uri().path().to_owned();
    match (request.method(), path.as_str()) {
        (&Method::GET | &Method::HEAD, "/") => with(StatusCode::OK, "root"),
        (&Method::POST, "/any") => match request.into_body().collect().await {
            Ok(body) => with(StatusCode::OK, body.to_bytes().len().to_string()),
            Err(_) => with(StatusCode::BAD_REQUEST, ""),
        },
        (&Method::POST, "/echo") => Response::new(request.into_body().boxed()),
        (_, "/" | "/any" | "/echo") => {
            let mut response = with(StatusCode::METHOD_NOT_ALLOWED, "");
            response
                .headers_mut()
                .insert("allow", "GET, HEAD".parse().expect("a valid value"));
            response
        }
        _ => match path
            .strip_prefix("/status/")
            .and_then(|number| number.parse::<u16>().ok())
        {
            Some(number) => with(
                StatusCode::from_u16(number).unwrap_or(StatusCode::NOT_FOUND),
                "body",
            ),
            None => with(StatusCode::NOT_FOUND, ""),
        },
    }
}

fn with(status: StatusCode, body: impl Into<Bytes>) -> Response<Body> {
    let mut response = Response::new(
        Full::new(body.into())
            .map_err(|never| match never {})
            .boxed(),
    );
    *response.status_mut() = status;
    response
}

/// Implements hyper's I/O traits for a socket of async-io.
struct Io(Async<TcpStream>);

impl Read for Io {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        mut buf: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let mut chunk = [0; 4096];
        let want = buf.remaining().min(chunk.len());
        let count = ready!(Pin::new(&mut self.0).poll_read(cx, &mut chunk[..want]))?;
        buf.put_slice(&chunk[..count]);
        Poll::Ready(Ok(()))
    }
}

impl Write for Io {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_close(cx)
    }
}
