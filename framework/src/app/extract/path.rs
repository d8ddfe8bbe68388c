//! Extractor of all path segments.

use std::borrow::Cow;
use std::future::{ready, Future};

use serde::de::value::{Error, MapDeserializer, SeqDeserializer};
use serde::de::{self, DeserializeOwned, Visitor};
use serde::forward_to_deserialize_any;
use tide::{Request, StatusCode};

use super::deserialize::deserialize;
use super::text::{decoded, Text};
use super::FromRequest;
use crate::app::typed::RouteInfo;
use crate::app::Rejection;

/// All segments of the route's path, deserialized into `T`.
///
/// `T` is a tuple (in the order of the segments), a struct (by the names of the segments), or a single value if there
/// is only one segment. If deserialization fails, the response is 404, because no resource has this path.
///
/// ```
/// use slackwater::prelude::*;
///
/// #[derive(serde::Deserialize)]
/// struct Place { shelf: u32, row: u32 }
///
/// #[get("/books/:shelf/:row")]
/// async fn by_name(Path(place): Path<Place>) -> String {
///     format!("shelf {}, row {}", place.shelf, place.row)
/// }
///
/// #[get("/boxes/:shelf/:row")]
/// async fn in_order(Path((shelf, row)): Path<(u32, u32)>) -> String {
///     format!("shelf {shelf}, row {row}")
/// }
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Path<T>(pub T);

impl<S, T: DeserializeOwned + Send> FromRequest<S> for Path<T> {
    /// Always fails: the names of the segments are known only in [`from_route`](FromRequest::from_route).
    fn from_request(_: &mut Request<S>) -> impl Future<Output = Result<Self, Rejection>> + Send {
        let detail =
            "`Path<T>` works only as an argument of a typed route; elsewhere use `request.param(name)`";
        ready(Err(Rejection::new(StatusCode::InternalServerError, detail)))
    }

    fn from_route(
        request: &mut Request<S>,
        route: &'static RouteInfo,
    ) -> impl Future<Output = Result<Self, Rejection>> + Send {
        ready(read(request, route.segments()).map(Path))
    }
}

fn read<S, T: DeserializeOwned>(
    request: &Request<S>,
    names: &'static [&'static str],
) -> Result<T, Rejection> {
    let value = |name: &&'static str| Ok((*name, decoded(request, name)?));
    let segments = names
        .iter()
        .map(value)
        .collect::<Result<Vec<_>, Rejection>>()?;
    deserialize(|| Segments(&segments)).map_err(|error| error.reject(StatusCode::NotFound, "path"))
}

/// A deserializer of segments with their names.
struct Segments<'a>(&'a [(&'static str, Cow<'a, str>)]);

impl<'a> Segments<'a> {
    fn texts(self) -> impl Iterator<Item = Text<'a>> {
        self.0.iter().map(|(_, text)| Text(Cow::Borrowed(&**text)))
    }

    fn in_order<V: Visitor<'a>>(self, visitor: V) -> Result<V::Value, Error> {
        let mut segments = SeqDeserializer::new(self.texts());
        let value = visitor.visit_seq(&mut segments)?;
        segments.end()?;
        Ok(value)
    }

    fn by_name<V: Visitor<'a>>(self, visitor: V) -> Result<V::Value, Error> {
        let named = self
            .0
            .iter()
            .map(|(name, text)| (*name, Text(Cow::Borrowed(&**text))));
        visitor.visit_map(MapDeserializer::new(named))
    }

    fn only(self) -> Result<Text<'a>, Error> {
        match self.0.len() {
            1 => self
                .texts()
                .next()
                .ok_or_else(|| de::Error::custom("the path has no segment")),
            n => Err(de::Error::custom(format!(
                "the path has {n} segments, but the type takes one"
            ))),
        }
    }
}

/// Deserializes a single value, if there is only one segment.
macro_rules! only {
    ($($method:ident)*) => {
        $(
            fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
                self.only()?.$method(visitor)
            }
        )*
    };
}

impl<'de> de::Deserializer<'de> for Segments<'de> {
    type Error = Error;

    only! {
        deserialize_bool deserialize_char deserialize_str deserialize_string
        deserialize_i8 deserialize_i16 deserialize_i32 deserialize_i64 deserialize_i128
        deserialize_u8 deserialize_u16 deserialize_u32 deserialize_u64 deserialize_u128
        deserialize_f32 deserialize_f64
    }

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.0.len() {
            1 => self.only()?.deserialize_any(visitor),
            _ => self.by_name(visitor),
        }
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.in_order(visitor)
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, Error> {
        self.in_order(visitor)
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: usize,
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.in_order(visitor)
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.by_name(visitor)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.by_name(visitor)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.only()?.deserialize_enum(name, variants, visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_some(self)
    }

    forward_to_deserialize_any! { bytes byte_buf unit unit_struct identifier ignored_any }
}
