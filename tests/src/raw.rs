//! The table of raw requests: the bytes to send, the answers to expect, and the state of the connection afterwards.
//! `tests/raw/README.md` describes the format.

use std::fs;
use std::path::{Path, PathBuf};

/// A case of the table: a raw request, or several on the same connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Case {
    /// The file and the name, for failure messages.
    pub name: String,
    /// The rule that decides.
    pub rfc: String,
    /// The bytes to send.
    pub bytes: Vec<u8>,
    /// The client's action after the last byte.
    pub then: AfterSending,
    /// The correct result.
    pub expected: Expected,
    /// The result of plain hyper, if it differs.
    pub hyper: Option<Difference>,
}

/// The client's action after the last byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AfterSending {
    /// Waits for answers.
    Wait,
    /// Closes the sending side and waits for answers.
    HalfClose,
}

/// The answers, and the state of the connection afterwards.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expected {
    /// The answers, in order.
    pub answers: Vec<ExpectedAnswer>,
    /// The state of the connection after the last answer.
    pub end: ExpectedEnd,
}

/// A correct answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExpectedAnswer {
    /// The status code.
    pub status: u16,
    /// The body, if the case checks it.
    pub body: Option<String>,
    /// True for an answer to HEAD: no body follows, regardless of the headers.
    pub to_head: bool,
    /// Required headers. `None` accepts any value.
    pub with: Vec<(String, Option<String>)>,
    /// Forbidden headers.
    pub without: Vec<String>,
}

/// The state of a connection after the last answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExpectedEnd {
    /// Open: it answers one more request.
    Kept,
    /// Closed with a FIN, without further bytes.
    Closed,
    /// Kept or closed, as the last answer announces.
    Either,
    /// Closed, with a FIN or by a reset.
    Cut,
    /// Not checked.
    Any,
}

/// The different result of plain hyper, with the reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// The status codes, in order.
    pub statuses: Vec<u16>,
    /// The state of the connection after the last answer.
    pub end: ExpectedEnd,
    /// The reason.
    pub why: String,
}

/// Reads all cases of the table, file by file.
///
/// # Panics
///
/// Panics if a file cannot be read or a line cannot be parsed; the message names file and line.
#[must_use]
pub fn table() -> Vec<Case> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("raw");
    let entries = fs::read_dir(&dir).unwrap_or_else(|error| panic!("{}: {error}", dir.display()));
    let paths = entries.flatten().map(|entry| entry.path());
    let mut files: Vec<PathBuf> = paths
        .filter(|path| path.extension().is_some_and(|kind| kind == "txt"))
        .collect();
    files.sort();
    files.iter().flat_map(|path| read(path)).collect()
}

fn read(path: &Path) -> Vec<Case> {
    let text =
        fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let file = path.file_stem().unwrap_or_default().to_string_lossy();
    parse(&file, &text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn parse(file: &str, text: &str) -> Result<Vec<Case>, String> {
    let mut cases: Vec<Case> = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let error = |why: &str| format!("line {}: {why}: {line}", number + 1);
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if let Some(name) = line.strip_prefix("== ") {
            cases.push(Case::named(format!("{file}: {name}")));
            continue;
        }
        let case = cases
            .last_mut()
            .ok_or_else(|| error("before the first case"))?;
        case.add(line).ok_or_else(|| error("cannot be parsed"))?;
    }
    match cases.iter().find(|case| case.rfc.is_empty()) {
        Some(case) => Err(format!("{}: no rule (§)", case.name)),
        None => Ok(cases),
    }
}

impl Case {
    fn named(name: String) -> Self {
        let right = Expected {
            answers: Vec::new(),
            end: ExpectedEnd::Either,
        };
        Case {
            name,
            rfc: String::new(),
            bytes: Vec::new(),
            then: AfterSending::Wait,
            expected: right,
            hyper: None,
        }
    }

    /// Parses one more line of the case.
    fn add(&mut self, line: &str) -> Option<()> {
        let answers = &mut self.expected.answers;
        if line == ">|" {
            self.then = AfterSending::HalfClose;
        } else if let Some(bytes) = line.strip_prefix("> ") {
            self.bytes.extend(unescaped(bytes)?);
        } else if let Some(answer) = line.strip_prefix("< ") {
            answers.push(ExpectedAnswer::parse(answer)?);
        } else if let Some(header) = line.strip_prefix("<+ ") {
            let (name, value) = match header.split_once(": ") {
                Some((name, value)) => (name, Some(value.to_owned())),
                None => (header, None),
            };
            answers.last_mut()?.with.push((name.to_owned(), value));
        } else if let Some(name) = line.strip_prefix("<- ") {
            answers.last_mut()?.without.push(name.to_owned());
        } else if let Some(fate) = line.strip_prefix("= ") {
            self.expected.end = ExpectedEnd::parse(fate)?;
        } else if let Some(differs) = line.strip_prefix("hyper: ") {
            self.hyper = Some(Difference::parse(differs)?);
        } else {
            self.rfc = line.strip_prefix("§ ")?.to_owned();
        }
        Some(())
    }
}

impl ExpectedAnswer {
    fn parse(text: &str) -> Option<Self> {
        let (status, rest) = text.split_once(' ').unwrap_or((text, ""));
        let body = rest
            .strip_prefix('"')
            .and_then(|rest| rest.strip_suffix('"'))
            .map(str::to_owned);
        let to_head = rest == "head";
        let is_valid = rest.is_empty() || to_head || body.is_some();
        let status = status.parse().ok().filter(|_| is_valid)?;
        Some(ExpectedAnswer {
            status,
            body,
            to_head,
            ..ExpectedAnswer::default()
        })
    }
}

impl ExpectedEnd {
    fn parse(text: &str) -> Option<Self> {
        match text {
            "kept" => Some(ExpectedEnd::Kept),
            "closed" => Some(ExpectedEnd::Closed),
            "either" => Some(ExpectedEnd::Either),
            "cut" => Some(ExpectedEnd::Cut),
            "any" => Some(ExpectedEnd::Any),
            _ => None,
        }
    }
}

impl Difference {
    fn parse(text: &str) -> Option<Self> {
        let (result, why) = text.split_once(", ")?;
        let mut words: Vec<&str> = result.split(' ').collect();
        let fate = ExpectedEnd::parse(words.pop()?)?;
        let statuses = words
            .into_iter()
            .map(|word| word.parse().ok())
            .collect::<Option<_>>()?;
        Some(Difference {
            statuses,
            end: fate,
            why: why.to_owned(),
        })
    }
}

/// Returns the bytes of a line: escapes as in Rust, `{3*ab}` for `ababab`.
fn unescaped(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let length = match first {
            '\\' => {
                let (byte, length) = escape(rest)?;
                bytes.push(byte);
                length
            }
            '{' => {
                let (inner, _) = rest[1..].split_once('}')?;
                let (count, text) = inner.split_once('*')?;
                bytes.extend(unescaped(text)?.repeat(count.parse().ok()?));
                inner.len() + 2
            }
            other => {
                let mut buffer = [0; 4];
                bytes.extend(other.encode_utf8(&mut buffer).bytes());
                other.len_utf8()
            }
        };
        rest = &rest[length..];
    }
    Some(bytes)
}

/// Returns the byte of an escape sequence, and the length of the sequence.
fn escape(text: &str) -> Option<(u8, usize)> {
    match text.as_bytes().get(1)? {
        b'r' => Some((b'\r', 2)),
        b'n' => Some((b'\n', 2)),
        b't' => Some((b'\t', 2)),
        b'0' => Some((0, 2)),
        b'\\' => Some((b'\\', 2)),
        b'x' => Some((u8::from_str_radix(text.get(2..4)?, 16).ok()?, 4)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_and_repetitions_are_expanded() {
        assert_eq!(
            unescaped(r"a\r\n\t\0\\\xff{3*b\n}").unwrap(),
            b"a\r\n\t\0\\\xffb\nb\nb\n"
        );
        for wrong in [r"\q", r"\x1", "{3*a", "{x*a}", r"\"] {
            assert_eq!(unescaped(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn all_lines_of_a_case_are_parsed() {
        let text = "# a comment\n\n== one\n§ 9112 3\n> GET\n>  /\n>|\n< 200 \"ok\"\n<+ A: b\n<- C\n< 404 head\n= closed\n\
                    hyper: 200 kept, it is so\n";
        let cases = parse("file", text).unwrap();
        let [case] = &cases[..] else {
            panic!("{cases:?}")
        };
        assert_eq!(
            (case.name.as_str(), &case.bytes[..], case.then),
            ("file: one", &b"GET /"[..], AfterSending::HalfClose)
        );
        let [first, second] = &case.expected.answers[..] else {
            panic!("{case:?}")
        };
        assert_eq!(
            (first.status, first.body.as_deref(), second.to_head),
            (200, Some("ok"), true)
        );
        assert_eq!(
            (
                &first.with[0].0[..],
                first.with[0].1.as_deref(),
                &first.without[0][..]
            ),
            ("A", Some("b"), "C")
        );
        assert_eq!(case.hyper.as_ref().unwrap().statuses, [200]);
    }

    #[test]
    fn an_invalid_line_is_reported_with_its_number() {
        for (text, expected) in [
            ("> GET\n", "line 1: before"),
            ("== a\nnonsense\n", "line 2: cannot be parsed"),
            ("== a\n§ 1\n= maybe\n", "line 3"),
            ("== a\n§ 1\n< 2OO\n", "line 3"),
            ("== a\n§ 1\nhyper: 200 kept\n", "line 3"),
            ("== a\n", "no rule"),
        ] {
            let error = parse("file", text).unwrap_err();
            assert!(error.contains(expected), "{error}");
        }
    }
}
