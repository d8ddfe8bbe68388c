//! A tide server for the fuzz targets, whose only endpoint reads the body and returns a scripted response.
//!
//! The crate slackwater includes this file as its module `http::bridge::fuzz` if it is compiled with `--cfg fuzzing`.

use std::sync::Arc;

use bytes::Bytes;
use futures_lite::io::{BufReader, Cursor};
use http_body::Body;
use hyper::{Request, Response};
use tide::http::headers::{HeaderName, HeaderValue};

use super::{Allow, BodyLimit, Bridge, Context, ResponseBody};
use crate::http::BodyError;

/// The response of the endpoint.
pub(crate) struct ScriptedResponse<'a> {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(&'a [u8], &'a [u8])>,
    pub(crate) body: Vec<&'a [u8]>,
}

impl ScriptedResponse<'_> {
    /// Converts the response to tide's types. A status or a header that http-types does not accept is left out, because it
    /// would panic in the handler itself.
    fn to_tide(&self) -> tide::Response {
        let status = tide::StatusCode::try_from(self.status).unwrap_or(tide::StatusCode::Ok);
        let mut response = tide::Response::new(status);
        if let [length, body @ ..] = &self.body[..] {
            let body = body.concat();
            // an odd first byte is twice the declared length, plus one; after an even one no length is declared
            let declared = length
                .first()
                .filter(|byte| *byte % 2 == 1)
                .map(|byte| usize::from(*byte) / 2);
            response.set_body(tide::Body::from_reader(
                BufReader::new(Cursor::new(body)),
                declared,
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

/// Passes a request through the bridge to the endpoint, and the response back.
pub(crate) async fn answer<B>(
    response: ScriptedResponse<'_>,
    allow: Allow,
    request: Request<B>,
    context: Context,
) -> Response<ResponseBody>
where
    B: Body<Data = Bytes, Error = BodyError> + Send + Sync + Unpin + 'static,
{
    let scripted = Arc::new(std::sync::Mutex::new(Some(response.to_tide())));
    let mut server = tide::new();
    let endpoint = move |mut request: tide::Request<()>| {
        let scripted = scripted.clone();
        async move {
            request.body_bytes().await?;
            let response = scripted
                .lock()
                .ok()
                .and_then(|mut scripted| scripted.take());
            Ok(response.unwrap_or_else(|| tide::Response::new(404)))
        }
    };
    server.at("/").get(endpoint.clone()).post(endpoint.clone());
    server.at("/*").all(endpoint);
    let (head, body) = request.into_parts();
    Arc::new(Bridge { server, allow })
        .answer(head, body, BodyLimit::new(None), context)
        .await
}
