//! Tests at compile time if a type implements a trait, in the code that the route attributes generate.
//!
//! Each test is a pair of traits with a method of the same name. Method resolution finds the implementation for
//! `Probe<T>`, which requires the trait of `T`, before the implementation for `&Probe<T>`, which requires nothing.

use std::any::type_name;
use std::marker::PhantomData;

use schemars::{json_schema, JsonSchema};

use super::{DescribeRequest, DescribeResponse, Operation};

/// The receiver of the tests on `T`.
#[derive(Debug)]
pub struct Probe<T>(PhantomData<fn() -> T>);

impl<T> Probe<T> {
    /// Creates a probe.
    #[expect(clippy::new_without_default, reason = "only macros call it")]
    #[must_use]
    pub fn new() -> Self {
        Probe(PhantomData)
    }
}

/// Defines a pair of traits for each test.
macro_rules! probes {
    ($($known:ident $unknown:ident $method:ident($($argument:ident: $kind:ty),*) where $bound:ident: $yes:expr, else: $no:expr;)*) => {
        $(
            #[doc = "The case that `T` implements the trait."]
            pub trait $known {
                /// Adds the description of `T` to an operation.
                fn $method(&self, operation: &mut Operation<'_> $(, $argument: $kind)*);
            }

            impl<T: $bound> $known for Probe<T> {
                fn $method(&self, operation: &mut Operation<'_> $(, $argument: $kind)*) {
                    let describe: fn(&mut Operation<'_> $(, $kind)*) = $yes;
                    describe(operation $(, $argument)*);
                }
            }

            #[doc = "The case that `T` does not implement the trait."]
            pub trait $unknown {
                /// Adds a default description, or records that `T` has none.
                fn $method(&self, operation: &mut Operation<'_> $(, $argument: $kind)*);
            }

            impl<T> $unknown for &Probe<T> {
                fn $method(&self, operation: &mut Operation<'_> $(, $argument: $kind)*) {
                    let describe: fn(&mut Operation<'_> $(, $kind)*) = $no;
                    describe(operation $(, $argument)*);
                }
            }
        )*
    };
}

probes! {
    KnownSegment UnknownSegment segment(name: &'static str) where JsonSchema: |operation, name| {
        let schema = operation.schema::<T>();
        operation.parameter("path", name, true, schema);
    }, else: |operation, name| operation.parameter("path", name, true, json_schema!({ "type": "string" }));

    KnownRequest UnknownRequest request() where DescribeRequest: T::describe,
    else: |operation| operation.undescribed.push(type_name::<T>());

    KnownResponse UnknownResponse response() where DescribeResponse: T::describe,
    else: |operation| operation.undescribed.push(type_name::<T>());
}

/// Creates a [`RouteInfo`](crate::RouteInfo) with an OpenAPI description.
#[doc(hidden)]
#[macro_export]
macro_rules! __route_info {
    ($methods:expr, $path:expr, $segments:expr, $name:expr, $doc:expr, $place:expr, $describe:expr) => {
        $crate::RouteInfo::new($methods, $path, $segments, $name, $doc, $place).described($describe)
    };
}

/// Describes a route: its segments, its other arguments, its return type.
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
