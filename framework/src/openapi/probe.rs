//! Whether a type describes itself, asked where the type is known: in what the route attributes write.
//!
//! A method of `Probe<T>` is found before one of `&Probe<T>`, so the first trait counts where `T` allows it, and else the
//! second.

use std::any::type_name;
use std::marker::PhantomData;

use schemars::{json_schema, JsonSchema};

use super::{DescribeRequest, DescribeResponse, Operation};

/// Asks about `T`.
#[derive(Debug)]
pub struct Probe<T>(PhantomData<fn() -> T>);

impl<T> Probe<T> {
    /// For `T`.
    #[expect(clippy::new_without_default, reason = "written by a macro only")]
    #[must_use]
    pub fn new() -> Self {
        Probe(PhantomData)
    }
}

/// One pair of traits for each question.
macro_rules! questions {
    ($($known:ident $unknown:ident $ask:ident($($given:ident: $kind:ty),*) where $bound:ident: $yes:expr, else: $no:expr;)*) => {
        $(
            #[doc = "It is known."]
            pub trait $known {
                /// Says it.
                fn $ask(&self, operation: &mut Operation<'_> $(, $given: $kind)*);
            }

            impl<T: $bound> $known for Probe<T> {
                fn $ask(&self, operation: &mut Operation<'_> $(, $given: $kind)*) {
                    let say: fn(&mut Operation<'_> $(, $kind)*) = $yes;
                    say(operation $(, $given)*);
                }
            }

            #[doc = "It is not."]
            pub trait $unknown {
                /// Says so.
                fn $ask(&self, operation: &mut Operation<'_> $(, $given: $kind)*);
            }

            impl<T> $unknown for &Probe<T> {
                fn $ask(&self, operation: &mut Operation<'_> $(, $given: $kind)*) {
                    let say: fn(&mut Operation<'_> $(, $kind)*) = $no;
                    say(operation $(, $given)*);
                }
            }
        )*
    };
}

questions! {
    KnownSegment UnknownSegment segment(name: &'static str) where JsonSchema: |operation, name| {
        let schema = operation.schema::<T>();
        operation.parameter("path", name, true, schema);
    }, else: |operation, name| operation.parameter("path", name, true, json_schema!({ "type": "string" }));

    KnownRequest UnknownRequest request() where DescribeRequest: T::describe,
    else: |operation| operation.undescribed.push(type_name::<T>());

    KnownResponse UnknownResponse response() where DescribeResponse: T::describe,
    else: |operation| operation.undescribed.push(type_name::<T>());
}

/// A [`RouteInfo`](crate::RouteInfo) that is described.
#[doc(hidden)]
#[macro_export]
macro_rules! __route_info {
    ($methods:expr, $path:expr, $segments:expr, $name:expr, $doc:expr, $place:expr, $describe:expr) => {
        $crate::RouteInfo::new($methods, $path, $segments, $name, $doc, $place).described($describe)
    };
}

/// What describes a route: its segments, its other arguments, its answer.
#[doc(hidden)]
#[macro_export]
macro_rules! __describe {
    ([$(($name:expr, $segment:ty),)*] [$($argument:ty,)*] $answer:ty) => {
        |operation: &mut $crate::openapi::Operation<'_>| {
            #[allow(unused_imports)]
            use $crate::openapi::probe::*;
            $((&Probe::<$segment>::new()).segment(operation, $name);)*
            $((&Probe::<$argument>::new()).request(operation);)*
            (&Probe::<$answer>::new()).response(operation);
        }
    };
}
