//! Responses that consist of a body: text, bytes, streams, files.

use std::borrow::Cow;

use bytes::Bytes;
use tide::{Body, Response, StatusCode};

use super::IntoResponse;
use crate::app::extract::BodyStream;

impl IntoResponse for Body {
    fn into_response(self) -> Response {
        let mut response = Response::new(StatusCode::Ok);
        response.set_body(self);
        response
    }
}

impl IntoResponse for BodyStream {
    fn into_response(self) -> Response {
        self.into_body().into_response()
    }
}

/// Implements [`IntoResponse`] by converting the value into tide's body.
macro_rules! bodies {
    ($($kind:ty, $value:ident => $body:expr;)*) => {
        $(
            impl IntoResponse for $kind {
                fn into_response(self) -> Response {
                    let $value = self;
                    $body.into_response()
                }
            }
        )*
    };
}

bodies! {
    String, text => Body::from_string(text);
    &'static str, text => Body::from_string(text.to_owned());
    Cow<'static, str>, text => Body::from_string(text.into_owned());
    Vec<u8>, bytes => Body::from_bytes(bytes);
    &'static [u8], bytes => Body::from_bytes(bytes.to_vec());
    Bytes, bytes => Body::from_bytes(bytes.into());
}
