//! What is known of a typed route without calling it.

use std::fmt;

use tide::http::Method;

/// What is known of a typed route: its methods, its path, and where it stands.
///
/// ```
/// use slackwater::{prelude::*, Handler};
///
/// /// How many there are.
/// #[get("/count")]
/// async fn count() -> String { "3".into() }
///
/// let info = <count as Handler<()>>::INFO;
/// assert!(info.name().ends_with("::count") && info.line() > 0);
/// assert_eq!(info.doc(), "How many there are.");
/// ```
#[derive(Clone, Copy)]
pub struct RouteInfo {
    methods: &'static [Method],
    path: &'static str,
    segments: &'static [&'static str],
    name: &'static str,
    doc: &'static str,
    place: (&'static str, u32),
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
        place: (&'static str, u32),
    ) -> Self {
        RouteInfo {
            methods,
            path,
            segments,
            name,
            doc,
            place,
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

    /// The methods it answers.
    ///
    /// ```
    /// # fn doc(info: slackwater::RouteInfo) { for method in info.methods() { println!("{method}"); } }
    /// ```
    #[must_use]
    pub const fn methods(&self) -> &'static [Method] {
        self.methods
    }

    /// Its path as the attribute says it, without what it is mounted under.
    ///
    /// ```
    /// # fn doc(info: slackwater::RouteInfo) { println!("{}", info.path()); }
    /// ```
    #[must_use]
    pub const fn path(&self) -> &'static str {
        self.path
    }

    /// The names of the segments in its path.
    pub(crate) const fn segments(&self) -> &'static [&'static str] {
        self.segments
    }

    /// The function with its modules: `shop::todo::list`.
    ///
    /// ```
    /// # fn doc(info: slackwater::RouteInfo) { println!("{}", info.name()); }
    /// ```
    #[must_use]
    pub const fn name(&self) -> &'static str {
        self.name
    }

    /// The function's doc comment; empty, if it has none.
    ///
    /// ```
    /// # fn doc(info: slackwater::RouteInfo) { println!("{}", info.doc()); }
    /// ```
    #[must_use]
    pub const fn doc(&self) -> &'static str {
        self.doc
    }

    /// The file it stands in, as the compiler was told it.
    ///
    /// ```
    /// # fn doc(info: slackwater::RouteInfo) { println!("{}:{}", info.file(), info.line()); }
    /// ```
    #[must_use]
    pub const fn file(&self) -> &'static str {
        self.place.0
    }

    /// The line of its attribute.
    ///
    /// ```
    /// # fn doc(info: slackwater::RouteInfo) { println!("{}:{}", info.file(), info.line()); }
    /// ```
    #[must_use]
    pub const fn line(&self) -> u32 {
        self.place.1
    }
}

impl fmt::Debug for RouteInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let RouteInfo {
            methods,
            path,
            name,
            place,
            ..
        } = self;
        f.debug_struct("RouteInfo")
            .field("methods", methods)
            .field("path", path)
            .field("name", name)
            .field("place", place)
            .finish_non_exhaustive()
    }
}
