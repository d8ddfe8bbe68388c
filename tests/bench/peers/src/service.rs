//! The routes for hyper alone.

use std::convert::Infallible;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::{Method, Request, Response, StatusCode};

use crate::{bytes, HELLO};

/// Answers a request.
///
/// # Errors
///
/// Never fails; hyper requires a `Result`.
pub async fn answer(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let path = request.uri().path();
    let body = match (request.method(), path.strip_prefix("/bytes/")) {
        (&Method::GET, None) if path == "/" => Bytes::from_static(HELLO.as_bytes()),
        (&Method::GET, Some(n)) => bytes(n.parse().unwrap_or(0)),
        (&Method::POST, None) if path == "/upload" => count(request.into_body()).await,
        _ => {
            let mut response = Response::new(Full::default());
            *response.status_mut() = StatusCode::NOT_FOUND;
            return Ok(response);
        }
    };
    Ok(Response::new(Full::new(body)))
}

async fn count(mut body: Incoming) -> Bytes {
    let mut count = 0;
    while let Some(Ok(frame)) = body.frame().await {
        count += frame.data_ref().map_or(0, Bytes::len);
    }
    count.to_string().into()
}
