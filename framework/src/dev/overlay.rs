//! Wraps the application under `APP dev`: adds a script to HTML pages and sends events to it.

mod inject;

use std::os::unix::net::UnixStream;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{self, Poll};
use std::time::{SystemTime, UNIX_EPOCH};

use async_io::Async;
use bytes::Bytes;
use futures_lite::{future, stream, AsyncReadExt};
use http_body::{Body, Frame};
use http_body_util::StreamBody;
use hyper::header::{self, HeaderValue};
use hyper::{Request, Response};

use super::client::DevClient;
use super::protocol::PAGE;
use crate::app::{Application, ApplicationParts, BoxFuture, Hook};
use crate::config::LoadedConfig;
use crate::error::{BoxError, Error};
use crate::http::{BoundedBody, Context, Reply, RequestBody, ResponseBody, Service};
use crate::setup::{Reason, Setup};
use inject::{with_script, Injection};

/// The path of the script.
const SCRIPT: &str = "/__slackwater/dev.js";
/// The path of the event stream.
const EVENTS: &str = "/__slackwater/dev";

/// The frames of the event stream are a few bytes long, so `longest` has no effect.
impl<S> BoundedBody for StreamBody<S>
where
    StreamBody<S>: Body<Data = Bytes, Error = BoxError> + Send,
{
    fn poll_piece(
        self: Pin<&mut Self>,
        cx: &mut task::Context<'_>,
        _: usize,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        self.poll_frame(cx)
    }
}

/// An application whose pages reload after each change.
pub(crate) struct OverlayApplication {
    application: Arc<dyn Application>,
    dev: DevClient,
}

impl OverlayApplication {
    pub(crate) fn new(application: Arc<dyn Application>, dev: DevClient) -> Self {
        OverlayApplication { application, dev }
    }
}

impl Application for OverlayApplication {
    fn build(
        &self,
        settings: &mut LoadedConfig,
        setup: Setup,
    ) -> BoxFuture<Result<ApplicationParts, Error>> {
        let (dev, generation, reason) = (self.dev.clone(), setup.generation(), setup.reason());
        let parts = self.application.build(settings, setup);
        Box::pin(async move {
            let mut parts = parts
                .await
                .inspect_err(|error| dev.report_failure(failure_title(reason), &error.chain()))?;
            let hooks = std::mem::take(&mut parts.on_ready);
            parts.on_ready = hooks
                .into_iter()
                .map(|hook| with_failure_report(hook, reason, &dev))
                .collect();
            dev.report_built();
            parts.service = Arc::new(OverlayService {
                inner: parts.service,
                build_id: build_id(generation).into(),
                dev,
            });
            Ok(parts)
        })
    }

    fn read(&self, settings: &mut LoadedConfig) -> Result<(), Error> {
        self.application.read(settings)
    }
}

fn failure_title(reason: Reason) -> &'static str {
    match reason {
        Reason::Reload => "The reload was refused, the previous settings stay in force",
        _ => "The new code does not start",
    }
}

/// Wraps an `on_ready` hook so that open pages show its error.
fn with_failure_report(hook: Hook, reason: Reason, dev: &DevClient) -> Hook {
    let dev = dev.clone();
    Box::new(move || {
        let run = hook();
        Box::pin(async move {
            run.await.inspect_err(|error| {
                dev.report_failure(failure_title(reason), &format!("on_ready: {error}"));
            })
        })
    })
}

/// Returns an identifier that differs between processes and between generations of a process.
fn build_id(generation: u64) -> String {
    static STARTED: OnceLock<u128> = OnceLock::new();
    let now = || {
        SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| since.as_nanos())
    };
    format!("{:x}-{generation}", STARTED.get_or_init(now))
}

/// Serves the script and the event stream, and passes all other requests to the application.
struct OverlayService {
    inner: Arc<dyn Service>,
    build_id: Arc<str>,
    dev: DevClient,
}

impl Service for OverlayService {
    fn call(&self, mut request: Request<RequestBody>, context: Context) -> Reply {
        match request.uri().path() {
            SCRIPT => return Reply::ready(script()),
            EVENTS => {
                let page = request.uri().query().unwrap_or_default();
                return Reply::ready(event_stream(&self.build_id, &self.dev, page, context));
            }
            _ => {}
        }
        let injection = Injection::for_request(&request);
        if injection == Injection::Never {
            return self.inner.call(request, context);
        }
        // the response must be complete and not compressed
        for name in [
            header::ACCEPT_ENCODING,
            header::IF_NONE_MATCH,
            header::IF_MODIFIED_SINCE,
            header::RANGE,
        ] {
            request.headers_mut().remove(name);
        }
        let (reply, build_id) = (self.inner.call(request, context), self.build_id.clone());
        Reply::new(async move { with_script(reply.response.await, injection, &build_id).await })
    }
}

fn script() -> Response<ResponseBody> {
    let text = ResponseBody::Full(Bytes::from_static(include_bytes!("overlay.js")));
    uncached("text/javascript; charset=utf-8", text)
}

fn uncached(content_type: &'static str, body: ResponseBody) -> Response<ResponseBody> {
    let mut response = Response::new(body);
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
        .headers_mut()
        .insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// Returns the event stream of a page: first the id of the build that serves, then the events of the
/// `dev` process. It ends when this process drains or the `dev` process closes it.
fn event_stream(
    build_id: &str,
    dev: &DevClient,
    page: &str,
    context: Context,
) -> Response<ResponseBody> {
    let first = format!("event: live\ndata: {build_id}\n\n");
    let connection = open_page(dev, page)
        .inspect_err(|error| log::debug!("cannot connect to `dev`: {error}"))
        .ok();
    let state = (Some(Bytes::from(first)), connection, context.drain);
    let frames = stream::unfold(state, |(first, mut connection, drain)| async move {
        if let Some(first) = first {
            return Some((
                Ok::<_, BoxError>(Frame::data(first)),
                (None, connection, drain),
            ));
        }
        let drained = async {
            drain.wait().await;
            None
        };
        let events = async {
            match &mut connection {
                Some(connection) => read(connection).await,
                None => future::pending().await,
            }
        };
        let bytes = future::or(drained, events).await?;
        Some((Ok(Frame::data(bytes)), (None, connection, drain)))
    });
    uncached(
        "text/event-stream",
        ResponseBody::Stream(Box::pin(StreamBody::new(frames))),
    )
}

fn open_page(dev: &DevClient, page: &str) -> std::io::Result<Async<UnixStream>> {
    let page: String = page
        .chars()
        .filter(|c| c.is_ascii_alphanumeric() || "-=".contains(*c))
        .collect();
    // this does not block: the message is a few bytes and the socket's buffer is empty
    Async::new(dev.connect(&format!("{PAGE} {page}"), "")?)
}

/// Reads the next events. Returns `None` when the `dev` process has closed the connection.
async fn read(connection: &mut Async<UnixStream>) -> Option<Bytes> {
    let mut buffer = [0; 4096];
    match connection.read(&mut buffer).await {
        Ok(0) | Err(_) => None,
        Ok(count) => Some(Bytes::copy_from_slice(&buffer[..count])),
    }
}
