//! The body as it is: bytes or text.

use std::future::Future;
use std::io;

use bytes::Bytes;
use futures_lite::AsyncReadExt;
use tide::http::headers::CONTENT_TYPE;
use tide::{Request, StatusCode};

use super::FromRequest;
use crate::app::Rejection;
use crate::http::BodyError;

/// How much is set aside at once for a body that says how long it is.
const AT_ONCE: usize = 64 << 10;

impl<S> FromRequest<S> for Bytes {
    const READS_BODY: bool = true;

    fn from_request(
        request: &mut Request<S>,
    ) -> impl Future<Output = Result<Self, Rejection>> + Send {
        let body = bytes(request);
        async { body.await.map(Bytes::from) }
    }
}

impl<S> FromRequest<S> for Vec<u8> {
    const READS_BODY: bool = true;

    fn from_request(
        request: &mut Request<S>,
    ) -> impl Future<Output = Result<Self, Rejection>> + Send {
        bytes(request)
    }
}

impl<S> FromRequest<S> for String {
    const READS_BODY: bool = true;

    fn from_request(
        request: &mut Request<S>,
    ) -> impl Future<Output = Result<Self, Rejection>> + Send {
        let body = bytes(request);
        async {
            String::from_utf8(body.await?)
                .map_err(|_| Rejection::bad_request("the body is not UTF-8"))
        }
    }
}

/// All of the body.
pub(super) fn bytes<S>(
    request: &mut Request<S>,
) -> impl Future<Output = Result<Vec<u8>, Rejection>> + Send {
    let body = request.take_body();
    async {
        let mut bytes = Vec::with_capacity(body.len().unwrap_or(0).min(AT_ONCE));
        let mut reader = body.into_reader();
        reader.read_to_end(&mut bytes).await.map_err(unreadable)?;
        Ok(bytes)
    }
}

/// Why a body could not be read to its end; the same statuses as the bridge gives.
pub(super) fn unreadable(error: io::Error) -> Rejection {
    let known = error
        .get_ref()
        .and_then(|inner| inner.downcast_ref::<BodyError>())
        .copied();
    let (status, detail) = match known {
        Some(BodyError::TooLarge) => (
            StatusCode::PayloadTooLarge,
            "the body is longer than is taken here",
        ),
        Some(BodyError::TimedOut) => (StatusCode::RequestTimeout, "the body did not come in time"),
        Some(BodyError::Stopping) => (StatusCode::ServiceUnavailable, "the server stops"),
        Some(BodyError::Cut) | None => (StatusCode::BadRequest, "the body did not come whole"),
    };
    Rejection::new(status, detail).because(error)
}

/// Whether the body says that it is of a type that will do. Parameters such as the charset do not matter.
pub(super) fn is_of_type<S>(request: &Request<S>, will_do: impl Fn(&str) -> bool) -> bool {
    let said = request
        .header(CONTENT_TYPE)
        .map_or("", |values| values.last().as_str());
    let essence = said.split(';').next().unwrap_or("").trim();
    will_do(essence)
        || essence.bytes().any(|byte| byte.is_ascii_uppercase())
            && will_do(&essence.to_ascii_lowercase())
}

/// 415, with what was wanted. A request without any body has just not sent one.
pub(super) fn unsupported<S>(request: &Request<S>, wanted: &str) -> Rejection {
    let said = request
        .header(CONTENT_TYPE)
        .map(|values| values.last().as_str());
    let found = said.map_or("no content type".to_owned(), |said| format!("{said:?}"));
    let rejection = Rejection::new(
        StatusCode::UnsupportedMediaType,
        format!("the body has to be {wanted}, and is said to be of {found}"),
    );
    if said.is_none() && request.is_empty() == Some(true) {
        rejection.absent()
    } else {
        rejection
    }
}
