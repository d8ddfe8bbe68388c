//! Cookies, in and out.

use std::future::{ready, Future};

use tide::http::cookies::Cookie;
use tide::http::headers::COOKIE;
use tide::{Request, Response};

use super::FromRequest;
use crate::app::{Rejection, ResponsePart};

/// The cookies of a request; given back before the answer, with those that are to be set or removed.
///
/// ```
/// use slackwater::prelude::*;
/// use slackwater::Cookie;
///
/// #[get("/visits")]
/// async fn visits(mut cookies: Cookies) -> (Cookies, String) {
///     let visits: u64 = cookies.get("visits").and_then(|text| text.parse().ok()).unwrap_or(0) + 1;
///     cookies.set(Cookie::build("visits", visits.to_string()).http_only(true).finish());
///     (cookies, format!("{visits} times"))
/// }
/// ```
#[derive(Clone, Debug, Default)]
pub struct Cookies {
    sent: Vec<Cookie<'static>>,
    changes: Vec<Change>,
}

#[derive(Clone, Debug)]
enum Change {
    Set(Cookie<'static>),
    Remove(Cookie<'static>),
}

impl Cookies {
    /// The value of a cookie that the client sent.
    ///
    /// ```
    /// # fn doc(cookies: slackwater::Cookies) -> Option<String> {
    /// cookies.get("session").map(str::to_owned)
    /// # }
    /// ```
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.sent
            .iter()
            .find(|cookie| cookie.name() == name)
            .map(Cookie::value)
    }

    /// Sets a cookie, with the answer that these cookies stand before.
    ///
    /// ```
    /// # use slackwater::{Cookie, Cookies};
    /// # fn doc(mut cookies: Cookies) {
    /// cookies.set(Cookie::new("theme", "dark"));
    /// # }
    /// ```
    pub fn set(&mut self, cookie: Cookie<'static>) {
        self.changes.push(Change::Set(cookie));
    }

    /// Lets the client forget a cookie that was set for the path `/`; for another path, [`set`](Cookies::set) one with
    /// that path and a maximal age of zero.
    ///
    /// ```
    /// # fn doc(mut cookies: slackwater::Cookies) {
    /// cookies.remove("session");
    /// # }
    /// ```
    pub fn remove(&mut self, name: impl Into<String>) {
        self.changes.push(Change::Remove(
            Cookie::build(name.into(), "").path("/").finish(),
        ));
    }
}

impl<S> FromRequest<S> for Cookies {
    fn from_request(
        request: &mut Request<S>,
    ) -> impl Future<Output = Result<Self, Rejection>> + Send {
        let values = request.header(COOKIE);
        let pairs = values
            .iter()
            .flat_map(|values| values.iter())
            .flat_map(|value| value.as_str().split(';'));
        // RFC 6265, section 5.4: one that is no pair is not for us
        let sent = pairs
            .filter_map(|pair| Cookie::parse_encoded(pair.trim().to_owned()).ok())
            .collect();
        ready(Ok(Cookies {
            sent,
            changes: Vec::new(),
        }))
    }
}

impl ResponsePart for Cookies {
    fn apply(self, response: &mut Response) {
        for change in self.changes {
            match change {
                Change::Set(cookie) => response.insert_cookie(cookie),
                Change::Remove(cookie) => response.remove_cookie(cookie),
            }
        }
    }
}
