//! The response to a request of the test client.

use std::fmt;
use std::pin::Pin;

use bytes::Bytes;
use http_body::Body;
use http_body_util::BodyExt;
use hyper::http::response::Parts;
use serde::de::DeserializeOwned;

use crate::error::{BoxError, Result};

/// A response that a [`Client`](super::Client) has received. Its body is read on demand.
///
/// ```
/// # async fn doc(client: slackwater::testing::Client) -> slackwater::Result<()> {
/// let response = client.get("/todos/1").send().await?;
/// assert_eq!(response.status(), 200);
/// assert_eq!(response.header("content-type"), Some("application/json"));
/// let todo: serde_json::Value = response.json().await?;
/// # Ok(()) }
/// ```
pub struct TestResponse {
    head: Parts,
    body: Pin<Box<dyn Body<Data = Bytes, Error = BoxError> + Send>>,
}

impl TestResponse {
    pub(super) fn new<B>(response: hyper::Response<B>) -> Self
    where
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        let (head, body) = response.into_parts();
        TestResponse {
            head,
            body: Box::pin(body.map_err(Into::into)),
        }
    }

    /// Returns the status code.
    #[must_use]
    pub fn status(&self) -> u16 {
        self.head.status.as_u16()
    }

    /// Returns the first value of a header.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.headers.get(name)?.to_str().ok()
    }

    /// Returns all values of a header that may occur several times, such as `set-cookie`.
    pub fn headers<'a>(&'a self, name: &str) -> impl Iterator<Item = &'a str> {
        self.head
            .headers
            .get_all(name)
            .iter()
            .filter_map(|value| value.to_str().ok())
    }

    /// Waits for the next piece of the body. Returns `None` at the end of the body. Use it for
    /// bodies that are streams.
    ///
    /// # Errors
    /// The body ended before it was complete.
    ///
    /// ```
    /// # async fn doc(mut response: slackwater::testing::TestResponse) -> slackwater::Result<()> {
    /// while let Some(piece) = response.piece().await? {
    ///     println!("{} bytes", piece.len());
    /// }
    /// # Ok(()) }
    /// ```
    pub async fn piece(&mut self) -> Result<Option<Bytes>> {
        while let Some(frame) = self.body.frame().await {
            // a frame with trailers has no data
            if let Ok(data) = frame?.into_data() {
                return Ok(Some(data));
            }
        }
        Ok(None)
    }

    /// Reads the whole body.
    ///
    /// # Errors
    /// The body ended before it was complete.
    pub async fn bytes(self) -> Result<Bytes> {
        Ok(self.body.collect().await?.to_bytes())
    }

    /// Reads the whole body as text.
    ///
    /// # Errors
    /// The body ended before it was complete, or is not UTF-8.
    pub async fn text(self) -> Result<String> {
        Ok(String::from_utf8(self.bytes().await?.into())?)
    }

    /// Reads the whole body as JSON.
    ///
    /// # Errors
    /// The body ended before it was complete, or is not JSON that can be deserialized into `T`.
    pub async fn json<T: DeserializeOwned>(self) -> Result<T> {
        let bytes = self.bytes().await?;
        serde_json::from_slice(&bytes)
            .map_err(|error| format!("{error}, in {:?}", String::from_utf8_lossy(&bytes)).into())
    }
}

impl fmt::Debug for TestResponse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TestResponse")
            .field("status", &self.head.status)
            .field("headers", &self.head.headers)
            .finish_non_exhaustive()
    }
}
