//! Cookies of the request and of the response.

use std::future::{ready, Future};

use tide::http::cookies::Cookie;
use tide::http::headers::COOKIE;
use tide::{Request, Response};

use super::FromRequest;
use crate::app::{Rejection, ResponsePart};

/// The cookies of a request, and changes to the cookies of the client.
///
/// To send the changes, return the `Cookies` as a [`ResponsePart`](crate::ResponsePart).
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
    received: Vec<Cookie<'static>>,
    changes: Vec<CookieChange>,
}

#[derive(Clone, Debug)]
enum CookieChange {
    Set(Cookie<'static>),
    Remove(Cookie<'static>),
}

impl Cookies {
    /// Returns the value of a cookie that the client sent.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.received
            .iter()
            .find(|cookie| cookie.name() == name)
            .map(Cookie::value)
    }

    /// Sets a cookie in the response.
    pub fn set(&mut self, cookie: Cookie<'static>) {
        self.changes.push(CookieChange::Set(cookie));
    }

    /// Removes a cookie with the path `/` from the client. To remove a cookie with another path,
    /// [`set`](Cookies::set) one with that path and a `Max-Age` of zero.
    pub fn remove(&mut self, name: impl Into<String>) {
        self.changes.push(CookieChange::Remove(
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
        // text that is not a `name=value` pair (RFC 6265, section 4.2.1) is ignored
        let received = pairs
            .filter_map(|pair| Cookie::parse_encoded(pair.trim().to_owned()).ok())
            .collect();
        ready(Ok(Cookies {
            received,
            changes: Vec::new(),
        }))
    }
}

impl ResponsePart for Cookies {
    fn apply(self, response: &mut Response) {
        for change in self.changes {
            match change {
                CookieChange::Set(cookie) => response.insert_cookie(cookie),
                CookieChange::Remove(cookie) => response.remove_cookie(cookie),
            }
        }
    }
}
