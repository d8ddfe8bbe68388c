//! Additions to tide requests: the drain signal, the disconnection of the client, and the body limit.

use std::future::Future;

use tide::{Middleware, Next, Request};

use crate::http::bridge::RequestContext;
use crate::http::DrainSignal;

/// Methods that slackwater adds to a tide request.
///
/// ```
/// use slackwater::prelude::*;
///
/// async fn upload(mut request: slackwater::Request<()>) -> tide::Result {
///     request.set_body_limit(64 << 20);
///     let bytes = request.body_bytes().await?;
///     Ok(format!("{} bytes", bytes.len()).into())
/// }
/// ```
pub trait RequestExt {
    /// Resolves when the generation of this request begins to drain: at a reload, an upgrade or a shutdown.
    ///
    /// Use it in handlers that otherwise run for a long time, such as event streams. The future does not borrow the
    /// request.
    ///
    /// ```
    /// use slackwater::prelude::*;
    ///
    /// async fn wait(request: slackwater::Request<()>) -> tide::Result {
    ///     request.draining().await;
    ///     Ok("the server is draining".into())
    /// }
    /// ```
    fn draining(&self) -> impl Future<Output = ()> + Send + 'static;

    /// Resolves when the client disconnects or half-closes. Use it to cancel expensive work.
    ///
    /// Without it, a handler runs to its end. The future does not borrow the request. After the response has been
    /// sent it has no defined meaning.
    ///
    /// The server cannot distinguish a client that disconnected from a client that only closed its sending side and
    /// waits for the response. It sends the response in both cases, so return a meaningful one.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// use futures_lite::future::or;
    /// use slackwater::prelude::*;
    ///
    /// async fn report(request: slackwater::Request<()>) -> tide::Result {
    ///     let work = async {
    ///         async_std::task::sleep(Duration::from_secs(60)).await;
    ///         Ok("the report".into())
    ///     };
    ///     let hung_up = request.hung_up();
    ///     or(work, async move {
    ///         hung_up.await;
    ///         Ok(slackwater::Response::new(503))
    ///     })
    ///     .await
    /// }
    /// ```
    fn hung_up(&self) -> impl Future<Output = ()> + Send + 'static;

    /// Sets the limit on the body in bytes, in place of `http.body_limit`. A longer body is answered 413.
    ///
    /// Call it before reading the body.
    fn set_body_limit(&self, bytes: u64);

    /// Removes the limit on the body. Read such a body in chunks: a handler that collects it lets the client decide
    /// how much memory the server uses.
    ///
    /// ```
    /// use slackwater::prelude::*;
    ///
    /// async fn discard(request: slackwater::Request<()>) -> tide::Result {
    ///     request.any_body_length();
    ///     let bytes = async_std::io::copy(request, async_std::io::sink()).await?;
    ///     Ok(format!("{bytes} bytes").into())
    /// }
    /// ```
    fn any_body_length(&self);
}

impl<S> RequestExt for Request<S> {
    fn draining(&self) -> impl Future<Output = ()> + Send + 'static {
        let drain = drain_signal(self);
        async move {
            drain.wait().await;
        }
    }

    fn hung_up(&self) -> impl Future<Output = ()> + Send + 'static {
        context(self)
            .map(|context| context.client.clone())
            .unwrap_or_default()
            .hung_up()
    }

    fn set_body_limit(&self, bytes: u64) {
        set_limit(self, Some(bytes));
    }

    fn any_body_length(&self) {
        set_limit(self, None);
    }
}

/// Returns the signal of the generation that answers the request.
pub(super) fn drain_signal<S>(request: &Request<S>) -> DrainSignal {
    context(request)
        .map(|context| context.drain.clone())
        .unwrap_or_default()
}

/// Returns the limit on the request's body in bytes; `None` means unlimited.
#[cfg(feature = "ws")]
pub(super) fn body_limit<S>(request: &Request<S>) -> Option<u64> {
    context(request).and_then(|context| context.limit.get())
}

/// Returns the values that the HTTP layer attached to the request; `None` if no slackwater server received it.
pub(super) fn context<S>(request: &Request<S>) -> Option<&RequestContext> {
    AsRef::<tide::http::Request>::as_ref(request).ext().get()
}

fn set_limit<S>(request: &Request<S>, bytes: Option<u64>) {
    if let Some(context) = context(request) {
        context.limit.set(bytes);
    }
}

/// A middleware that sets the body limit of a route, in place of `http.body_limit`.
///
/// ```
/// use slackwater::{App, BodyLimit};
///
/// let mut app = App::new();
/// app.at("/avatar").with(BodyLimit::bytes(256 << 10)).put(|_| async { Ok("") });
/// app.at("/backup").with(BodyLimit::none()).put(|_| async { Ok("") });
/// ```
#[derive(Clone, Copy, Debug)]
pub struct BodyLimit(Option<u64>);

impl BodyLimit {
    /// Limits the body to `bytes`. A longer body is answered 413.
    #[must_use]
    pub fn bytes(bytes: u64) -> Self {
        BodyLimit(Some(bytes))
    }

    /// Removes the limit.
    #[must_use]
    pub fn none() -> Self {
        BodyLimit(None)
    }
}

#[tide::utils::async_trait]
impl<S: Clone + Send + Sync + 'static> Middleware<S> for BodyLimit {
    async fn handle(&self, request: Request<S>, next: Next<'_, S>) -> tide::Result {
        set_limit(&request, self.0);
        Ok(next.run(request).await)
    }
}
