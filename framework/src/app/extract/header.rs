//! Extractor of headers into the fields of a struct.

use std::borrow::Cow;
use std::future::{ready, Future};

use serde::de::value::{Error, MapDeserializer};
use serde::de::{self, DeserializeOwned, Visitor};
use serde::forward_to_deserialize_any;
use tide::http::headers::HeaderName;
use tide::{Request, StatusCode};

use super::text::Text;
use super::{deserialize::deserialize, FromRequest};
use crate::app::Rejection;

/// Headers, deserialized into the struct `T`.
///
/// A field's name is the header's name with `_` in place of `-`. An optional header is an `Option`. If a header
/// occurs several times, the last value is used. If a header is missing or deserialization fails, the response is 400
/// and names the field.
///
/// ```
/// use slackwater::prelude::*;
///
/// #[derive(serde::Deserialize)]
/// struct Client { user_agent: String, x_retries: Option<u32> }
///
/// #[get("/")]
/// async fn index(Header(client): Header<Client>) -> String {
///     format!("{}, {} times", client.user_agent, client.x_retries.unwrap_or(0) + 1)
/// }
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Header<T>(pub T);

impl<S, T: DeserializeOwned + Send> FromRequest<S> for Header<T> {
    fn from_request(
        request: &mut Request<S>,
    ) -> impl Future<Output = Result<Self, Rejection>> + Send {
        let headers: &tide::http::Headers = request.as_ref();
        let value = deserialize(|| HeaderFields(headers));
        ready(value.map(Header).map_err(|error| {
            let is_missing = error.is_missing();
            let rejection = error.reject(StatusCode::BadRequest, "header");
            if is_missing {
                rejection.absent()
            } else {
                rejection
            }
        }))
    }
}

/// A deserializer that reads the headers that the fields of a struct name.
struct HeaderFields<'a>(&'a tide::http::Headers);

impl<'de> de::Deserializer<'de> for HeaderFields<'de> {
    type Error = Error;

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        let entries = fields.iter().filter_map(|field| {
            let name = HeaderName::from_bytes(field.replace('_', "-").into_bytes()).ok()?;
            let value = self.0.get(name)?.last().as_str();
            Some((*field, Text(Cow::Borrowed(value))))
        });
        visitor.visit_map(MapDeserializer::new(entries))
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Error> {
        Err(de::Error::custom(
            "`Header<T>` needs a struct with one field for each header",
        ))
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct
        seq tuple tuple_struct map enum identifier ignored_any
    }
}
