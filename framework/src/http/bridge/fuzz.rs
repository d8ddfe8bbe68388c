//! tide's half of the fuzz targets: a server whose one endpoint reads the body and answers as it is planned.

use std::sync::Arc;

use bytes::Bytes;
use futures_lite::io::{BufReader, Cursor};
use http_body::Body;
use hyper::{Request, Response};
use tide::http::headers::{HeaderName, HeaderValue};

use super::{Allow, Answering, BodyLimit, Context, ResponseBody};
use crate::http::BodyError;

/// What the endpoint answers.
pub(crate) struct Plan<'a> {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(&'a [u8], &'a [u8])>,
    pub(crate) body: Vec<&'a [u8]>,
}

impl Plan<'_> {
    /// As http-types takes it: a status or a header that it refuses is a handler's own panic.
    fn response(&self) -> tide::Response {
        let status = tide::StatusCode::try_from(self.status).unwrap_or(tide::StatusCode::Ok);
        let mut response = tide::Response::new(status);
        if let [length, body @ ..] = &self.body[..] {
            let body = body.concat();
            // an odd first byte says how long the body claims to be; an even one says nothing
            let claimed = length
                .first()
                .filter(|byte| *byte % 2 == 1)
                .map(|byte| usize::from(*byte) / 2);
            response.set_body(tide::Body::from_reader(
                BufReader::new(Cursor::new(body)),
                claimed,
            ));
        }
        for (name, value) in &self.headers {
            let name = HeaderName::from_bytes(name.to_vec());
            if let (Ok(name), Ok(value)) = (name, HeaderValue::from_bytes(value.to_vec())) {
                response.append_header(name, value);
            }
        }
        response
    }
}

/// Sends a request through the bridge and back.
pub(crate) async fn answer<B>(
    plan: Plan<'_>,
    allow: Allow,
    request: Request<B>,
    context: Context,
) -> Response<ResponseBody>
where
    B: Body<Data = Bytes, Error = BodyError> + Send + Sync + Unpin + 'static,
{
    let planned = Arc::new(std::sync::Mutex::new(Some(plan.response())));
    let mut server = tide::new();
    let endpoint = move |mut request: tide::Request<()>| {
        let planned = planned.clone();
        async move {
            request.body_bytes().await?;
            let response = planned.lock().ok().and_then(|mut planned| planned.take());
            Ok(response.unwrap_or_else(|| tide::Response::new(404)))
        }
    };
    server.at("/").get(endpoint.clone()).post(endpoint.clone());
    server.at("/*").all(endpoint);
    let (head, body) = request.into_parts();
    Arc::new(Answering { server, allow })
        .answer(head, body, BodyLimit::new(None), context)
        .await
}
