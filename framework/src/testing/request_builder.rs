//! The public builder of a request of the test client.

use async_std::future::timeout;
use bytes::Bytes;
use hyper::header::{HeaderName, HeaderValue, CONTENT_TYPE, HOST};
use hyper::Method;
use serde::Serialize;

use super::backend::Backend;
use super::request::TestRequest;
use super::response::TestResponse;
use super::TIMEOUT;
use crate::error::{BoxError, Result};

/// A request of a [`Client`](super::Client). An invalid method, path, header or body is reported by
/// [`send`](RequestBuilder::send).
///
/// ```
/// # async fn doc(client: slackwater::testing::Client) -> slackwater::Result<()> {
/// let response = client.post("/todos").header("x-user", "Ann").json(&["tea", "milk"]).send().await?;
/// assert_eq!(response.status(), 201);
/// let response = client.post("/login").form(&[("name", "Ann"), ("password", "secret")]).send().await?;
/// assert_eq!(response.status(), 303);
/// # Ok(()) }
/// ```
#[must_use = "the request is sent by `send()`"]
#[derive(Debug)]
pub struct RequestBuilder<'a> {
    backend: &'a Backend,
    request: Result<TestRequest>,
}

impl<'a> RequestBuilder<'a> {
    pub(super) fn new(backend: &'a Backend, method: Method, path: &str) -> Self {
        let request = TestRequest::new(method, path);
        RequestBuilder { backend, request }
    }

    /// Parses the method as well.
    pub(super) fn with_method_name(backend: &'a Backend, method: &str, path: &str) -> Self {
        let method = Method::from_bytes(method.as_bytes())
            .map_err(|_| format!("{method:?} is not a valid method").into());
        RequestBuilder {
            backend,
            request: method.and_then(|method| TestRequest::new(method, path)),
        }
    }

    /// Changes the request, unless an earlier call has failed.
    fn change(mut self, change: impl FnOnce(&mut TestRequest) -> Result<()>) -> Self {
        self.request = self
            .request
            .and_then(|mut request| change(&mut request).map(|()| request));
        self
    }

    /// Adds a header. `host` replaces the default, `localhost`.
    pub fn header(self, name: &str, value: &str) -> Self {
        self.change(|request| {
            let name = HeaderName::from_bytes(name.as_bytes())
                .map_err(|_| format!("{name:?} is not a valid header name"))?;
            let value = HeaderValue::from_str(value)
                .map_err(|_| format!("{value:?} is not a valid header value"))?;
            if name == HOST {
                request.headers.insert(name, value);
            } else {
                request.headers.append(name, value);
            }
            Ok(())
        })
    }

    /// Sets the body. The content type is not set.
    pub fn body(self, body: impl Into<Bytes>) -> Self {
        self.change(|request| {
            request.body = body.into();
            Ok(())
        })
    }

    fn body_of_type(self, content_type: &'static str, body: Result<Vec<u8>>) -> Self {
        self.change(|request| {
            request.body = body?.into();
            request
                .headers
                .insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
            Ok(())
        })
    }

    /// Sets a JSON body, and `content-type: application/json`.
    pub fn json(self, value: &impl Serialize) -> Self {
        self.body_of_type(
            "application/json",
            serde_json::to_vec(value).map_err(BoxError::from),
        )
    }

    /// Sets a body as a browser's form sends it, and
    /// `content-type: application/x-www-form-urlencoded`.
    pub fn form(self, fields: &impl Serialize) -> Self {
        let body = serde_html_form::to_string(fields).map(String::into_bytes);
        self.body_of_type(
            "application/x-www-form-urlencoded",
            body.map_err(BoxError::from),
        )
    }

    /// Sends the request, and returns when the head of the response has arrived.
    ///
    /// # Errors
    /// The request is invalid, the connection failed, or no response arrived within 60 seconds.
    pub async fn send(self) -> Result<TestResponse> {
        let request = self.request?;
        let request_line = format!("{} {}", request.method, request.uri);
        timeout(TIMEOUT, self.backend.send(request))
            .await
            .map_err(|_| format!("{request_line}: no response within {TIMEOUT:?}"))?
    }
}
