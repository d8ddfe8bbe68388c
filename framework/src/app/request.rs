//! What a handler can ask of the framework: whether it is to finish, and how much of a body it takes.

use std::future::Future;
use std::time::Duration;

use tide::{Middleware, Next, Request};

use crate::http::bridge::Given;
use crate::sync::token::Token;

/// What slackwater adds to a tide request.
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
    /// Resolves when the generation that answers this request is told to finish: for handlers that would otherwise go
    /// on, such as event streams. It belongs to nobody: keep it as long as you like.
    ///
    /// ```
    /// use slackwater::prelude::*;
    ///
    /// async fn wait(request: slackwater::Request<()>) -> tide::Result {
    ///     request.draining().await;
    ///     Ok("going".into())
    /// }
    /// ```
    fn draining(&self) -> impl Future<Output = ()> + Send + 'static;

    /// Resolves when the client has ended what it sends, or is gone: for handlers whose work would be for nobody. Without
    /// it a handler runs to its end. It belongs to nobody: keep it as long as you like; once the request is answered it
    /// says nothing of note.
    ///
    /// A client that is gone and one that has only closed its sending half, and waits, look the same until something is
    /// sent to it. An answer is sent in either case, so whoever stops here should still give one that makes sense.
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
    ///         Ok("all of it".into())
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

    /// Takes a body of up to so many bytes, instead of `http.body_limit`; past it the answer is 413.
    ///
    /// Call it before the body is read.
    ///
    /// ```
    /// use slackwater::prelude::*;
    ///
    /// async fn avatar(mut request: slackwater::Request<()>) -> tide::Result {
    ///     request.set_body_limit(256 << 10);
    ///     Ok(format!("{} bytes", request.body_bytes().await?.len()).into())
    /// }
    /// ```
    fn set_body_limit(&self, bytes: u64);

    /// Takes a body of any length, instead of up to `http.body_limit`. Read it piece by piece, or a client decides how
    /// much memory this takes.
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
        let parting = parting(self);
        async move {
            parting.told().await;
        }
    }

    fn hung_up(&self) -> impl Future<Output = ()> + Send + 'static {
        given(self)
            .map(|given| given.client.clone())
            .unwrap_or_default()
            .hung_up()
    }

    fn set_body_limit(&self, bytes: u64) {
        limit(self, Some(bytes));
    }

    fn any_body_length(&self) {
        limit(self, None);
    }
}

/// When an answer that would otherwise go on is to end.
#[derive(Debug)]
pub(super) struct Parting {
    /// `None` for a request that no server of ours received, in a test of the handler alone: nothing ever drains.
    token: Option<Token>,
    spread: Duration,
}

impl Parting {
    /// Resolves when it is to end. Gives a share of `shutdown.close_spread`, another for each: so long after it this
    /// client should come back, lest all of them come at once.
    pub(super) async fn told(&self) -> Duration {
        match &self.token {
            Some(token) => token.wait().await,
            None => std::future::pending().await,
        }
        self.spread.mul_f64(fastrand::f64())
    }
}

pub(super) fn parting<S>(request: &Request<S>) -> Parting {
    let given = given(request);
    Parting {
        token: given.map(|given| given.draining.clone()),
        spread: given.map_or(Duration::ZERO, |given| given.spread),
    }
}

/// How many bytes of a body the request would take; `None`: any number.
#[cfg(feature = "ws")]
pub(super) fn body_limit<S>(request: &Request<S>) -> Option<u64> {
    given(request).and_then(|given| given.limit.get())
}

pub(super) fn given<S>(request: &Request<S>) -> Option<&Given> {
    AsRef::<tide::http::Request>::as_ref(request).ext().get()
}

fn limit<S>(request: &Request<S>, bytes: Option<u64>) {
    if let Some(given) = given(request) {
        given.limit.set(bytes);
    }
}

/// A middleware that gives a route a body limit of its own.
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
    /// Up to so many bytes.
    ///
    /// ```
    /// let limit = slackwater::BodyLimit::bytes(2 << 20);
    /// ```
    #[must_use]
    pub fn bytes(bytes: u64) -> Self {
        BodyLimit(Some(bytes))
    }

    /// Any length.
    ///
    /// ```
    /// let limit = slackwater::BodyLimit::none();
    /// ```
    #[must_use]
    pub fn none() -> Self {
        BodyLimit(None)
    }
}

#[tide::utils::async_trait]
impl<S: Clone + Send + Sync + 'static> Middleware<S> for BodyLimit {
    async fn handle(&self, request: Request<S>, next: Next<'_, S>) -> tide::Result {
        limit(&request, self.0);
        Ok(next.run(request).await)
    }
}
