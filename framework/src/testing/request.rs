//! A request of the test client, before the backend has chosen the type of its body.

use bytes::Bytes;
use hyper::header::{HeaderValue, HOST};
use hyper::{HeaderMap, Method, Uri};

use crate::error::Result;

/// A request with its whole body in memory.
#[derive(Debug)]
pub(super) struct TestRequest {
    pub(super) method: Method,
    pub(super) uri: Uri,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

impl TestRequest {
    /// Creates a request without a body, for the host `localhost`.
    ///
    /// # Errors
    /// `path` is not a valid request target.
    pub(super) fn new(method: Method, path: &str) -> Result<Self> {
        let uri: Uri = path
            .parse()
            .map_err(|error| format!("{path:?} is not a valid path: {error}"))?;
        let mut headers = HeaderMap::new();
        headers.insert(HOST, HeaderValue::from_static("localhost"));
        Ok(TestRequest {
            method,
            uri,
            headers,
            body: Bytes::new(),
        })
    }

    /// Creates `OPTIONS *`, which a server answers itself without calling a route.
    pub(super) fn options_of_server() -> Result<Self> {
        TestRequest::new(Method::OPTIONS, "*")
    }

    /// Converts to hyper's request, with the type of body that the backend needs.
    pub(super) fn into_hyper<B>(self, body: impl FnOnce(Bytes) -> B) -> hyper::Request<B> {
        let mut request = hyper::Request::new(body(self.body));
        *request.method_mut() = self.method;
        *request.uri_mut() = self.uri;
        *request.headers_mut() = self.headers;
        request
    }
}
