//! The table of raw requests: what is sent, what must come back, and what becomes of the connection. Its form is
//! described in `tests/raw/README.md`.

use std::fs;
use std::path::{Path, PathBuf};

/// One raw request, or several on one connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Case {
    /// The file and the name, for whoever reads the failure.
    pub name: String,
    /// What decides.
    pub rfc: String,
    /// What is sent.
    pub bytes: Vec<u8>,
    /// Whether the client ends what it sends afterwards.
    pub then: Then,
    /// What must come back, and become of the connection.
    pub right: Expected,
    /// Where plain hyper differs.
    pub hyper: Option<Differs>,
}

/// What a client does when it has sent everything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Then {
    /// It waits.
    Waits,
    /// It ends what it sends, and reads on.
    Ends,
}

/// What must come back, and what becomes of the connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expected {
    /// In their order.
    pub answers: Vec<Right>,
    /// After the last one.
    pub fate: Fate,
}

/// One right answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Right {
    /// The three digits.
    pub status: u16,
    /// Its body, where that matters.
    pub body: Option<String>,
    /// To HEAD: whatever the headers say, no body follows.
    pub to_head: bool,
    /// Headers that it has; without a value, with any.
    pub with: Vec<(String, Option<String>)>,
    /// Headers that it does not have.
    pub without: Vec<String>,
}

/// What becomes of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It answers one more request.
    Kept,
    /// It ends, and nothing more comes.
    Closed,
    /// One of the two, as the last answer says.
    Either,
    /// It ends, in the orderly way or not.
    Cut,
    /// Nobody can say.
    Any,
}

/// What plain hyper does instead, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Differs {
    /// The statuses, in their order.
    pub statuses: Vec<u16>,
    /// What becomes of the connection.
    pub fate: Fate,
    /// The reason.
    pub why: String,
}

/// All cases of the table, file by file.
///
/// # Panics
///
/// Where a file cannot be read, or a line is not understood: with file and line.
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
    parse(&file, &text).unwrap_or_else(|fault| panic!("{}: {fault}", path.display()))
}

fn parse(file: &str, text: &str) -> Result<Vec<Case>, String> {
    let mut cases: Vec<Case> = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let fault = |why: &str| format!("line {}: {why}: {line}", number + 1);
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if let Some(name) = line.strip_prefix("== ") {
            cases.push(Case::named(format!("{file}: {name}")));
            continue;
        }
        let case = cases
            .last_mut()
            .ok_or_else(|| fault("before the first case"))?;
        case.add(line).ok_or_else(|| fault("not understood"))?;
    }
    match cases.iter().find(|case| case.rfc.is_empty()) {
        Some(case) => Err(format!("{}: nothing decides", case.name)),
        None => Ok(cases),
    }
}

impl Case {
    fn named(name: String) -> Self {
        let right = Expected {
            answers: Vec::new(),
            fate: Fate::Either,
        };
        Case {
            name,
            rfc: String::new(),
            bytes: Vec::new(),
            then: Then::Waits,
            right,
            hyper: None,
        }
    }

    /// Takes one more line.
    fn add(&mut self, line: &str) -> Option<()> {
        let answers = &mut self.right.answers;
        if line == ">|" {
            self.then = Then::Ends;
        } else if let Some(bytes) = line.strip_prefix("> ") {
            self.bytes.extend(unescaped(bytes)?);
        } else if let Some(answer) = line.strip_prefix("< ") {
            answers.push(Right::parse(answer)?);
        } else if let Some(header) = line.strip_prefix("<+ ") {
            let (name, value) = match header.split_once(": ") {
                Some((name, value)) => (name, Some(value.to_owned())),
                None => (header, None),
            };
            answers.last_mut()?.with.push((name.to_owned(), value));
        } else if let Some(name) = line.strip_prefix("<- ") {
            answers.last_mut()?.without.push(name.to_owned());
        } else if let Some(fate) = line.strip_prefix("= ") {
            self.right.fate = Fate::parse(fate)?;
        } else if let Some(differs) = line.strip_prefix("hyper: ") {
            self.hyper = Some(Differs::parse(differs)?);
        } else {
            self.rfc = line.strip_prefix("§ ")?.to_owned();
        }
        Some(())
    }
}

impl Right {
    fn parse(text: &str) -> Option<Self> {
        let (status, rest) = text.split_once(' ').unwrap_or((text, ""));
        let body = rest
            .strip_prefix('"')
            .and_then(|rest| rest.strip_suffix('"'))
            .map(str::to_owned);
        let to_head = rest == "head";
        let understood = rest.is_empty() || to_head || body.is_some();
        let status = status.parse().ok().filter(|_| understood)?;
        Some(Right {
            status,
            body,
            to_head,
            ..Right::default()
        })
    }
}

impl Fate {
    fn parse(text: &str) -> Option<Self> {
        match text {
            "kept" => Some(Fate::Kept),
            "closed" => Some(Fate::Closed),
            "either" => Some(Fate::Either),
            "cut" => Some(Fate::Cut),
            "any" => Some(Fate::Any),
            _ => None,
        }
    }
}

impl Differs {
    fn parse(text: &str) -> Option<Self> {
        let (what, why) = text.split_once(", ")?;
        let mut words: Vec<&str> = what.split(' ').collect();
        let fate = Fate::parse(words.pop()?)?;
        let statuses = words
            .into_iter()
            .map(|word| word.parse().ok())
            .collect::<Option<_>>()?;
        Some(Differs {
            statuses,
            fate,
            why: why.to_owned(),
        })
    }
}

/// What a line stands for: escapes as in Rust, `{3*ab}` for `ababab`.
fn unescaped(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let taken = match first {
            '\\' => {
                let (byte, taken) = escape(rest)?;
                bytes.push(byte);
                taken
            }
            '{' => {
                let (inner, _) = rest[1..].split_once('}')?;
                let (count, what) = inner.split_once('*')?;
                bytes.extend(unescaped(what)?.repeat(count.parse().ok()?));
                inner.len() + 2
            }
            other => {
                let mut buffer = [0; 4];
                bytes.extend(other.encode_utf8(&mut buffer).bytes());
                other.len_utf8()
            }
        };
        rest = &rest[taken..];
    }
    Some(bytes)
}

/// The byte that an escape stands for, and its length.
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
    fn bytes_are_read_as_they_are_meant() {
        assert_eq!(
            unescaped(r"a\r\n\t\0\\\xff{3*b\n}").unwrap(),
            b"a\r\n\t\0\\\xffb\nb\nb\n"
        );
        for wrong in [r"\q", r"\x1", "{3*a", "{x*a}", r"\"] {
            assert_eq!(unescaped(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_case_is_read_whole() {
        let text = "# a comment\n\n== one\n§ 9112 3\n> GET\n>  /\n>|\n< 200 \"ok\"\n<+ A: b\n<- C\n< 404 head\n= closed\n\
                    hyper: 200 kept, it is so\n";
        let cases = parse("file", text).unwrap();
        let [case] = &cases[..] else {
            panic!("{cases:?}")
        };
        assert_eq!(
            (case.name.as_str(), &case.bytes[..], case.then),
            ("file: one", &b"GET /"[..], Then::Ends)
        );
        let [first, second] = &case.right.answers[..] else {
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
    fn what_is_not_understood_is_named_by_its_line() {
        for (text, said) in [
            ("> GET\n", "line 1: before"),
            ("== a\nnonsense\n", "line 2: not understood"),
            ("== a\n§ 1\n= maybe\n", "line 3"),
            ("== a\n§ 1\n< 2OO\n", "line 3"),
            ("== a\n§ 1\nhyper: 200 kept\n", "line 3"),
            ("== a\n", "nothing decides"),
        ] {
            let fault = parse("file", text).unwrap_err();
            assert!(fault.contains(said), "{fault}");
        }
    }
}
