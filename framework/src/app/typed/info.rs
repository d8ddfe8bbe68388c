//! [`RouteInfo`]: the description of a typed route.

use std::fmt;

use tide::http::Method;

/// The description of a typed route: its methods, its path, and its position in the source.
///
/// ```
/// use slackwater::{prelude::*, Handler};
///
/// /// The number of todos.
/// #[get("/count")]
/// async fn count() -> String { "3".into() }
///
/// let info = <count as Handler<()>>::INFO;
/// assert!(info.name().ends_with("::count") && info.line() > 0);
/// assert_eq!(info.doc(), "The number of todos.");
/// ```
#[derive(Clone, Copy)]
pub struct RouteInfo {
    methods: &'static [Method],
    path: &'static str,
    segments: &'static [&'static str],
    name: &'static str,
    doc: &'static str,
    position: (&'static str, u32),
    #[cfg(feature = "openapi")]
    pub(crate) describe: fn(&mut crate::openapi::Operation<'_>),
}

impl RouteInfo {
    #[doc(hidden)]
    #[must_use]
    pub const fn new(
        methods: &'static [Method],
        path: &'static str,
        segments: &'static [&'static str],
        name: &'static str,
        doc: &'static str,
        position: (&'static str, u32),
    ) -> Self {
        RouteInfo {
            methods,
            path,
            segments,
            name,
            doc,
            position,
            #[cfg(feature = "openapi")]
            describe: |_| (),
        }
    }

    #[cfg(feature = "openapi")]
    #[doc(hidden)]
    #[must_use]
    pub const fn described(mut self, describe: fn(&mut crate::openapi::Operation<'_>)) -> Self {
        self.describe = describe;
        self
    }

    /// Returns the methods that the route answers.
    #[must_use]
    pub const fn methods(&self) -> &'static [Method] {
        self.methods
    }

    /// Returns the path in the attribute, without the prefix that the route is mounted under.
    #[must_use]
    pub const fn path(&self) -> &'static str {
        self.path
    }

    /// Returns the names of the segments in the path.
    pub(crate) const fn segments(&self) -> &'static [&'static str] {
        self.segments
    }

    /// Returns the path of the function: `shop::todo::list`.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        self.name
    }

    /// Returns the function's doc comment; empty if it has none.
    #[must_use]
    pub const fn doc(&self) -> &'static str {
        self.doc
    }

    /// Returns the source file, as `file!` does.
    #[must_use]
    pub const fn file(&self) -> &'static str {
        self.position.0
    }

    /// Returns the line of the attribute.
    #[must_use]
    pub const fn line(&self) -> u32 {
        self.position.1
    }
}

impl fmt::Debug for RouteInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let RouteInfo {
            methods,
            path,
            name,
            position,
            ..
        } = self;
        f.debug_struct("RouteInfo")
            .field("methods", methods)
            .field("path", path)
            .field("name", name)
            .field("position", position)
            .finish_non_exhaustive()
    }
}
