//! Deserializes a text, such as a path segment or a header, into any type that can be parsed from one.

use std::borrow::Cow;

use percent_encoding::percent_decode_str;
use serde::de::value::Error;
use serde::de::{self, DeserializeOwned, IntoDeserializer, Unexpected, Visitor};
use serde::forward_to_deserialize_any;
use tide::{Request, StatusCode};

use super::deserialize::ValueError;
use crate::app::{FieldError, Rejection};

/// Deserializes the path segment `name`.
///
/// # Errors
/// 404 if the segment cannot be deserialized into `T`, 400 if it is not UTF-8.
pub fn segment<S, T: DeserializeOwned>(
    request: &Request<S>,
    name: &'static str,
) -> Result<T, Rejection> {
    let text = decoded(request, name)?;
    T::deserialize(Text(text)).map_err(|error| not_found(&error, name))
}

fn not_found(error: &Error, name: &str) -> Rejection {
    let mut error = ValueError::without_path(error);
    error.set_path(name);
    error.reject(StatusCode::NotFound, "path")
}

/// Returns the percent-decoded segment `name`.
pub(super) fn decoded<'a, S>(
    request: &'a Request<S>,
    name: &str,
) -> Result<Cow<'a, str>, Rejection> {
    // fails only if the handler was added to a path that does not contain the segment
    let raw = request.param(name).map_err(|_| {
        let detail = format!("the path of this route has no segment {name:?}");
        Rejection::new(StatusCode::InternalServerError, detail)
    })?;
    percent_decode_str(raw).decode_utf8().map_err(|_| {
        let error = FieldError::new("path", name, "not UTF-8");
        Rejection::bad_request(error.to_string()).field(error)
    })
}

/// A deserializer that parses a text into the requested type.
pub(super) struct Text<'a>(pub(super) Cow<'a, str>);

/// Defines methods that parse the text with `FromStr`.
macro_rules! parsed {
    ($($method:ident $visit:ident)*) => {
        $(
            fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
                match self.0.parse() {
                    Ok(value) => visitor.$visit(value),
                    Err(_) => Err(de::Error::invalid_value(Unexpected::Str(&self.0), &visitor)),
                }
            }
        )*
    };
}

impl<'de> de::Deserializer<'de> for Text<'de> {
    type Error = Error;

    parsed! {
        deserialize_bool visit_bool
        deserialize_i8 visit_i8 deserialize_i16 visit_i16 deserialize_i32 visit_i32 deserialize_i64 visit_i64
        deserialize_i128 visit_i128
        deserialize_u8 visit_u8 deserialize_u16 visit_u16 deserialize_u32 visit_u32 deserialize_u64 visit_u64
        deserialize_u128 visit_u128
        deserialize_f32 visit_f32 deserialize_f64 visit_f64
        deserialize_char visit_char
    }

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.0 {
            Cow::Borrowed(text) => visitor.visit_borrowed_str(text),
            Cow::Owned(text) => visitor.visit_string(text),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_some(self)
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
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_enum(self.0.into_deserializer())
    }

    forward_to_deserialize_any! {
        str string bytes byte_buf unit unit_struct seq tuple tuple_struct map struct identifier ignored_any
    }
}

impl<'de> IntoDeserializer<'de, Error> for Text<'de> {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;

    fn read<T: DeserializeOwned>(text: &str) -> Result<T, String> {
        T::deserialize(Text(Cow::Borrowed(text))).map_err(|error| error.to_string())
    }

    #[derive(Debug, Deserialize, PartialEq)]
    #[serde(rename_all = "lowercase")]
    enum Color {
        Red,
        Green,
    }

    #[derive(Debug, Deserialize, PartialEq)]
    struct Id(u64);

    #[test]
    fn text_is_deserialized_into_numbers_enums_and_newtypes() {
        assert_eq!(read("7"), Ok(7_u8));
        assert_eq!(read("-7"), Ok(-7_i64));
        assert_eq!(read("0.5"), Ok(0.5));
        assert_eq!(read("true"), Ok(true));
        assert_eq!(read("x"), Ok('x'));
        assert_eq!(read("text"), Ok("text".to_owned()));
        assert_eq!(read("127.0.0.1"), Ok(std::net::Ipv4Addr::LOCALHOST));
        assert_eq!(read("green"), Ok(Color::Green));
        assert_eq!(read("9"), Ok(Id(9)));
        assert_eq!(read("9"), Ok(Some(9_u64)));
    }

    #[test]
    fn an_error_contains_the_expected_and_the_found_value() {
        assert_eq!(
            read::<u8>("300").unwrap_err(),
            "invalid value: string \"300\", expected u8"
        );
        assert_eq!(
            read::<u64>("").unwrap_err(),
            "invalid value: string \"\", expected u64"
        );
        assert_eq!(
            read::<bool>("yes").unwrap_err(),
            "invalid value: string \"yes\", expected a boolean"
        );
        assert!(read::<Color>("blue")
            .unwrap_err()
            .contains("expected `red` or `green`"));
        assert!(read::<Vec<u8>>("1")
            .unwrap_err()
            .contains("expected a sequence"));
        assert!(read::<std::net::Ipv4Addr>("localhost").is_err());
    }
}
