//! A request in the making.

use async_std::future::timeout;
use bytes::Bytes;
use hyper::header::{HeaderName, HeaderValue, CONTENT_TYPE, HOST};
use hyper::{HeaderMap, Method, Uri};
use serde::Serialize;

use super::answer::Answer;
use super::client::{Client, Target};
use super::PATIENCE;
use crate::error::{BoxError, Result};

/// A request of a [`Client`]; what is wrong with it, [`send`](RequestBuilder::send) says.
///
/// ```
/// # async fn doc(client: slackwater::testing::Client) -> slackwater::Result<()> {
/// let answer = client.post("/todos").header("x-user", "Ann").json(&["tea", "milk"]).send().await?;
/// assert_eq!(answer.status(), 201);
/// # Ok(()) }
/// ```
#[must_use = "it is sent with `send()`"]
#[derive(Debug)]
pub struct RequestBuilder<'a> {
    client: &'a Client,
    request: Result<Asked>,
}

/// The request itself.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) method: Method,
    pub(super) target: Uri,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

impl<'a> RequestBuilder<'a> {
    pub(super) fn new(client: &'a Client, method: Method, path: &str) -> Self {
        let request = Asked::new(method, path);
        RequestBuilder { client, request }
    }

    pub(super) fn named(client: &'a Client, method: &str, path: &str) -> Self {
        let method = Method::from_bytes(method.as_bytes())
            .map_err(|_| format!("{method:?} is no method").into());
        RequestBuilder {
            client,
            request: method.and_then(|method| Asked::new(method, path)),
        }
    }

    fn change(mut self, change: impl FnOnce(&mut Asked) -> Result<()>) -> Self {
        self.request = self
            .request
            .and_then(|mut request| change(&mut request).map(|()| request));
        self
    }

    /// One more header.
    ///
    /// ```
    /// # fn doc(client: &slackwater::testing::Client) {
    /// let request = client.get("/me").header("authorization", "Bearer secret");
    /// # }
    /// ```
    pub fn header(self, name: &str, value: &str) -> Self {
        self.change(|request| {
            let known = HeaderName::from_bytes(name.as_bytes())
                .map_err(|_| format!("{name:?} is no header's name"))?;
            let value = HeaderValue::from_str(value)
                .map_err(|_| format!("{value:?} cannot be a header's value"))?;
            // there is one Host, and the one that is said counts
            if known == HOST {
                request.headers.insert(known, value);
            } else {
                request.headers.append(known, value);
            }
            Ok(())
        })
    }

    /// A body as it is.
    ///
    /// ```
    /// # fn doc(client: &slackwater::testing::Client) {
    /// let request = client.post("/echo").body("hello");
    /// # }
    /// ```
    pub fn body(self, body: impl Into<Bytes>) -> Self {
        self.change(|request| {
            request.body = body.into();
            Ok(())
        })
    }

    fn typed(self, kind: &'static str, body: Result<Vec<u8>>) -> Self {
        self.change(|request| {
            request.body = body?.into();
            request
                .headers
                .insert(CONTENT_TYPE, HeaderValue::from_static(kind));
            Ok(())
        })
    }

    /// A body in JSON, and says so.
    ///
    /// ```
    /// # fn doc(client: &slackwater::testing::Client) {
    /// let request = client.post("/todos").json(&["tea", "milk"]);
    /// # }
    /// ```
    pub fn json(self, value: &impl Serialize) -> Self {
        self.typed(
            "application/json",
            serde_json::to_vec(value).map_err(BoxError::from),
        )
    }

    /// A body as a browser's form sends it.
    ///
    /// ```
    /// # fn doc(client: &slackwater::testing::Client) {
    /// let request = client.post("/login").form(&[("name", "Ann"), ("password", "secret")]);
    /// # }
    /// ```
    pub fn form(self, fields: &impl Serialize) -> Self {
        let body = serde_html_form::to_string(fields).map(String::into_bytes);
        self.typed(
            "application/x-www-form-urlencoded",
            body.map_err(BoxError::from),
        )
    }

    /// Sends it, and returns with the head of the answer.
    ///
    /// # Errors
    /// When the request cannot be made, or no answer came within a minute.
    ///
    /// ```
    /// # async fn doc(client: slackwater::testing::Client) -> slackwater::Result<()> {
    /// let answer = client.get("/").send().await?;
    /// # Ok(()) }
    /// ```
    pub async fn send(self) -> Result<Answer> {
        let request = self.request?;
        let asked = format!("{} {}", request.method, request.target);
        let answer = async {
            match &self.client.0 {
                Target::Inside(inside) => inside.send(request).await,
                Target::Outside(outside) => outside.send(request).await,
            }
        };
        timeout(PATIENCE, answer)
            .await
            .map_err(|_| format!("{asked}: no answer within {PATIENCE:?}"))?
    }
}

impl Asked {
    fn new(method: Method, path: &str) -> Result<Self> {
        let target: Uri = path
            .parse()
            .map_err(|error| format!("{path:?} is no path: {error}"))?;
        let mut headers = HeaderMap::new();
        headers.insert(HOST, HeaderValue::from_static("localhost"));
        Ok(Asked {
            method,
            target,
            headers,
            body: Bytes::new(),
        })
    }

    /// A question that every server answers and no route sees.
    pub(super) fn of_server() -> Result<Self> {
        Asked::new(Method::OPTIONS, "*")
    }

    /// As hyper's request, with a body of the kind that its way needs.
    pub(super) fn into_request<B>(self, body: impl FnOnce(Bytes) -> B) -> hyper::Request<B> {
        let mut request = hyper::Request::new(body(self.body));
        *request.method_mut() = self.method;
        *request.uri_mut() = self.target;
        *request.headers_mut() = self.headers;
        request
    }
}
