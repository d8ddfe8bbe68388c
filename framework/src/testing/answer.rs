//! An answer: its head, and its body as it comes.

use std::fmt;
use std::pin::Pin;

use bytes::Bytes;
use http_body::Body;
use http_body_util::BodyExt;
use hyper::http::response::Parts;
use serde::de::DeserializeOwned;

use crate::error::{BoxError, Result};

/// What a [`Client`](super::Client) was answered.
///
/// ```
/// # async fn doc(client: slackwater::testing::Client) -> slackwater::Result<()> {
/// let answer = client.get("/todos/1").send().await?;
/// assert_eq!(answer.status(), 200);
/// assert_eq!(answer.header("content-type"), Some("application/json"));
/// let todo: serde_json::Value = answer.json().await?;
/// # Ok(()) }
/// ```
pub struct Answer {
    head: Parts,
    body: Pin<Box<dyn Body<Data = Bytes, Error = BoxError> + Send>>,
}

impl Answer {
    pub(super) fn new<B>(response: hyper::Response<B>) -> Self
    where
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        let (head, body) = response.into_parts();
        Answer {
            head,
            body: Box::pin(body.map_err(Into::into)),
        }
    }

    /// Its status.
    ///
    /// ```
    /// # fn doc(answer: slackwater::testing::Answer) { assert_eq!(answer.status(), 200); }
    /// ```
    #[must_use]
    pub fn status(&self) -> u16 {
        self.head.status.as_u16()
    }

    /// The first value of a header.
    ///
    /// ```
    /// # fn doc(answer: slackwater::testing::Answer) { assert_eq!(answer.header("location"), Some("/todos/7")); }
    /// ```
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.headers.get(name)?.to_str().ok()
    }

    /// All values of a header, such as `set-cookie`.
    ///
    /// ```
    /// # fn doc(answer: slackwater::testing::Answer) { assert_eq!(answer.headers("set-cookie").count(), 2); }
    /// ```
    pub fn headers<'a>(&'a self, name: &str) -> impl Iterator<Item = &'a str> {
        self.head
            .headers
            .get_all(name)
            .iter()
            .filter_map(|value| value.to_str().ok())
    }

    /// The next piece of the body, for one that goes on; none at its end.
    ///
    /// # Errors
    /// When the body broke off.
    ///
    /// ```
    /// # async fn doc(mut answer: slackwater::testing::Answer) -> slackwater::Result<()> {
    /// while let Some(piece) = answer.piece().await? {
    ///     println!("{} bytes", piece.len());
    /// }
    /// # Ok(()) }
    /// ```
    pub async fn piece(&mut self) -> Result<Option<Bytes>> {
        while let Some(frame) = self.body.frame().await {
            // trailers are no piece of it
            if let Ok(data) = frame?.into_data() {
                return Ok(Some(data));
            }
        }
        Ok(None)
    }

    /// All of the body.
    ///
    /// # Errors
    /// When it broke off.
    ///
    /// ```
    /// # async fn doc(answer: slackwater::testing::Answer) -> slackwater::Result<()> {
    /// assert_eq!(answer.bytes().await?.len(), 5);
    /// # Ok(()) }
    /// ```
    pub async fn bytes(self) -> Result<Bytes> {
        Ok(self.body.collect().await?.to_bytes())
    }

    /// The body as text.
    ///
    /// # Errors
    /// When it broke off, or is none.
    ///
    /// ```
    /// # async fn doc(answer: slackwater::testing::Answer) -> slackwater::Result<()> {
    /// assert_eq!(answer.text().await?, "Hello");
    /// # Ok(()) }
    /// ```
    pub async fn text(self) -> Result<String> {
        Ok(String::from_utf8(self.bytes().await?.into())?)
    }

    /// The body read as JSON.
    ///
    /// # Errors
    /// When it broke off, or is none that fits.
    ///
    /// ```
    /// # async fn doc(answer: slackwater::testing::Answer) -> slackwater::Result<()> {
    /// let titles: Vec<String> = answer.json().await?;
    /// # Ok(()) }
    /// ```
    pub async fn json<T: DeserializeOwned>(self) -> Result<T> {
        let bytes = self.bytes().await?;
        serde_json::from_slice(&bytes)
            .map_err(|error| format!("{error}, in {:?}", String::from_utf8_lossy(&bytes)).into())
    }
}

impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Answer")
            .field("status", &self.head.status)
            .field("headers", &self.head.headers)
            .finish_non_exhaustive()
    }
}
