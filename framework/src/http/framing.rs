//! Codings of a request's body: hyper looks at the last one only, and a body in any other is not what a handler takes
//! it for.

use hyper::header::TRANSFER_ENCODING;
use hyper::{HeaderMap, StatusCode};

/// Why a request with these headers cannot be answered: it is coded in a way that nobody here undoes (501, RFC 9112,
/// section 6.1), or in chunks of chunks, which no honest client sends (400).
///
/// hyper has seen to the rest: `chunked` comes last, and a `Content-Length` beside it is ignored and the connection
/// closed (RFC 9112, section 6.3).
pub(super) fn fault(headers: &HeaderMap) -> Option<StatusCode> {
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
    fn one_chunked_is_all_that_is_taken() {
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
                fault(&headers).map(|status| status.as_u16()),
                expected,
                "{lines:?}"
            );
        }
    }
}
