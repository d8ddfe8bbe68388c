//! Checks the transfer codings of a request. hyper checks only the last one, and a handler would take a body that is
//! coded in another way for plain data.

use hyper::header::TRANSFER_ENCODING;
use hyper::{HeaderMap, StatusCode};

/// Returns the status to answer if the transfer codings of a request are not accepted: 501 for a coding other than
/// `chunked` (RFC 9112, section 6.1), 400 for `chunked` more than once.
///
/// hyper has checked the rest: `chunked` comes last; if there is a `Content-Length` as well, it is ignored and the
/// connection is closed after the answer (RFC 9112, section 6.3).
pub(super) fn error_status(headers: &HeaderMap) -> Option<StatusCode> {
    let mut lines = headers.get_all(TRANSFER_ENCODING).iter();
    let (first, more) = (lines.next()?, lines.next().is_some());
    if !more && first.as_bytes().eq_ignore_ascii_case(b"chunked") {
        return None;
    }
    let lists = headers
        .get_all(TRANSFER_ENCODING)
        .iter()
        .map(|line| line.as_bytes());
    let codings = lists
        .flat_map(|list| list.split(|&byte| byte == b','))
        .map(<[u8]>::trim_ascii);
    let mut chunked = 0;
    for coding in codings.filter(|coding| !coding.is_empty()) {
        if !coding.eq_ignore_ascii_case(b"chunked") {
            return Some(StatusCode::NOT_IMPLEMENTED);
        }
        chunked += 1;
    }
    (chunked != 1).then_some(StatusCode::BAD_REQUEST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_single_chunked_coding_is_accepted() {
        for (lines, expected) in [
            (&[][..], None),
            (&["chunked"], None),
            (&["Chunked"], None),
            (&[" , chunked,"], None),
            (&["chunked, chunked"], Some(400)),
            (&["chunked", "chunked"], Some(400)),
            (&["gzip, chunked"], Some(501)),
            (&["identity", "chunked"], Some(501)),
            (&["chunked;a=b"], Some(501)),
            (&["xchunked"], Some(501)),
        ] {
            let mut headers = HeaderMap::new();
            for line in lines {
                headers.append(TRANSFER_ENCODING, line.parse().unwrap());
            }
            assert_eq!(
                error_status(&headers).map(|status| status.as_u16()),
                expected,
                "{lines:?}"
            );
        }
    }
}
