//! How the values of each type are read and written: durations, sizes, choices, `"none"` and `"auto"`.

use std::marker::PhantomData;
use std::path::PathBuf;
use std::time::Duration;

use bytesize::ByteSize;
use figment::value::{Dict, Empty, Num, Value};
use serde::de::{self, Visitor};

use super::nearest::suggestion;
use super::{FirstProcess, Handshake, LogFormat, UpgradeMode};

/// Reads and writes one type of setting. What `show` gives, `read` takes.
pub(super) trait Codec {
    type Value;
    /// What may stand there, in words: `a size such as "2MiB"`.
    fn expects() -> String;
    fn read(given: Given<'_>) -> Result<Self::Value, String>;
    fn show(value: &Self::Value) -> Value;
}

/// A value as it was given.
#[derive(Clone, Copy)]
pub(super) struct Given<'a> {
    pub(super) value: &'a Value,
    pub(super) form: Form,
}

/// Whether what was given has a type of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// From TOML or the application: a string is a string.
    Typed,
    /// From the environment or the command line: text that takes the type of its target.
    Text,
}

impl<'a> Given<'a> {
    pub(super) fn string(&self) -> Option<&'a str> {
        self.value.as_str()
    }

    fn whole(&self) -> Option<i128> {
        match (self.form, self.value) {
            (Form::Text, Value::String(_, text)) => text.trim().parse().ok(),
            (_, Value::Num(_, number)) => whole(*number),
            _ => None,
        }
    }

    fn switch(&self) -> Option<bool> {
        match (self.form, self.value) {
            (Form::Text, Value::String(_, text)) => switch(text),
            (_, value) => value.to_bool(),
        }
    }

    pub(super) fn expected(&self, what: &str) -> String {
        format!("expected {what}, found {}", describe(self.value))
    }
}

/// `true`, `false`, `1` or `0`, as they are written outside of TOML.
pub(super) fn switch(text: &str) -> Option<bool> {
    match text.trim() {
        "true" | "1" => Some(true),
        "false" | "0" => Some(false),
        _ => None,
    }
}

/// The number, if it is whole.
pub(super) fn whole(number: Num) -> Option<i128> {
    number
        .to_i128()
        .or_else(|| i128::try_from(number.to_u128()?).ok())
}

/// A date or time of TOML, which figment has as a table with this one key.
pub(super) fn datetime(table: &Dict) -> Option<&str> {
    table.get("$__toml_private_datetime")?.as_str()
}

/// Hands on a whole number as the type it fits.
pub(super) fn visit_whole<'de, V: Visitor<'de>, E: de::Error>(
    number: i128,
    visitor: V,
) -> Result<V::Value, E> {
    match (i64::try_from(number), u64::try_from(number)) {
        (Ok(number), _) => visitor.visit_i64(number),
        (_, Ok(number)) => visitor.visit_u64(number),
        _ => visitor.visit_i128(number),
    }
}

/// A value in words: `string "abc"`, `integer 5`, `a table`.
pub(super) fn describe(value: &Value) -> String {
    match value {
        Value::String(_, text) => format!("string {text:?}"),
        Value::Char(_, char) => format!("string {:?}", char.to_string()),
        Value::Bool(_, bool) => format!("boolean {bool}"),
        Value::Num(_, number) => match (whole(*number), number.to_f64()) {
            (Some(whole), _) => format!("integer {whole}"),
            (None, float) => format!("number {}", float.unwrap_or_default()),
        },
        Value::Empty(..) => "nothing".into(),
        Value::Dict(..) => "a table".into(),
        Value::Array(..) => "a list".into(),
    }
}

/// The numbers a setting is kept in.
pub(super) trait Number: Copy + TryFrom<i128> {
    const MAX: i128;
    fn widen(self) -> i128;
}

macro_rules! numbers { ($($type:ty),*) => { $(
    impl Number for $type {
        const MAX: i128 = <$type>::MAX as i128;
        fn widen(self) -> i128 { self as i128 }
    }
)* } }
numbers!(i32, u64, usize);

fn narrow<N: Number>(number: i128, min: u64, spell: fn(i128) -> String) -> Result<N, String> {
    if number < i128::from(min) {
        return Err(format!(
            "must be at least {}, found {}",
            spell(min.into()),
            spell(number)
        ));
    }
    N::try_from(number)
        .map_err(|_| format!("must be at most {}, found {}", spell(N::MAX), spell(number)))
}

/// A whole number, `MIN` or more.
pub(super) struct Whole<N, const MIN: u64>(PhantomData<N>);

impl<N: Number, const MIN: u64> Codec for Whole<N, MIN> {
    type Value = N;

    fn expects() -> String {
        "a whole number".into()
    }

    fn read(given: Given<'_>) -> Result<N, String> {
        let number = given
            .whole()
            .ok_or_else(|| given.expected(&Self::expects()))?;
        narrow(number, MIN, |number| number.to_string())
    }

    fn show(value: &N) -> Value {
        Num::from(value.widen()).into()
    }
}

/// A number of bytes, `MIN` or more: `"2MiB"`, or a bare integer.
pub(super) struct Size<N, const MIN: u64, const MAX: u64 = { u64::MAX }>(PhantomData<N>);

impl<N: Number, const MIN: u64, const MAX: u64> Codec for Size<N, MIN, MAX> {
    type Value = N;

    fn expects() -> String {
        r#"a size such as "2MiB""#.into()
    }

    fn read(given: Given<'_>) -> Result<N, String> {
        let parsed = || {
            Some(i128::from(
                given.string()?.trim().parse::<ByteSize>().ok()?.as_u64(),
            ))
        };
        let bytes = given
            .whole()
            .or_else(parsed)
            .ok_or_else(|| given.expected(&Self::expects()))?;
        if bytes > i128::from(MAX) {
            return Err(format!(
                "must be at most {}, found {}",
                size_text(MAX.into()),
                size_text(bytes)
            ));
        }
        narrow(bytes, MIN, size_text)
    }

    fn show(value: &N) -> Value {
        size_text(value.widen()).into()
    }
}

/// Bytes in the largest unit that leaves no remainder.
fn size_text(bytes: i128) -> String {
    let units = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];
    match units
        .into_iter()
        .find(|(_, unit)| bytes != 0 && bytes % unit == 0)
    {
        Some((name, unit)) => format!("{}{name}", bytes / unit),
        None => format!("{bytes}B"),
    }
}

/// A duration of `MIN` milliseconds or more.
pub(super) struct Span<const MIN: u64>;

/// Longer ones would be of no use, and could not always be added to a point in time. It is what humantime calls a
/// year, so that it is said as one.
const LONGEST: Duration = Duration::from_secs(31_557_600);

impl<const MIN: u64> Codec for Span<MIN> {
    type Value = Duration;

    fn expects() -> String {
        r#"a duration such as "30s""#.into()
    }

    fn read(given: Given<'_>) -> Result<Duration, String> {
        if let Some(number) = given.whole() {
            return Err(format!(
                "{}; with its unit: \"{number}s\"",
                given.expected(&Self::expects())
            ));
        }
        let parsed = given
            .string()
            .and_then(|text| humantime::parse_duration(text.trim()).ok());
        let span = parsed.ok_or_else(|| given.expected(&Self::expects()))?;
        if span < Duration::from_millis(MIN) {
            return Err(format!(
                "must be at least {MIN}ms, found {}",
                span_text(span)
            ));
        }
        if span > LONGEST {
            return Err(format!(
                "must be at most {}, found {}",
                span_text(LONGEST),
                span_text(span)
            ));
        }
        Ok(span)
    }

    fn show(value: &Duration) -> Value {
        span_text(*value).into()
    }
}

fn span_text(span: Duration) -> String {
    let seconds = span.as_secs();
    match span.subsec_nanos() {
        0 if seconds < 120 => format!("{seconds}s"),
        _ => humantime::format_duration(span).to_string(),
    }
}

/// `"none"`, or what `C` reads.
pub(super) struct OrNone<C>(PhantomData<C>);

/// `"auto"`, or what `C` reads.
pub(super) struct OrAuto<C>(PhantomData<C>);

macro_rules! or_word { ($($Codec:ident: $word:literal),*) => { $(
    impl<C: Codec> Codec for $Codec<C> {
        type Value = Option<C::Value>;

        fn expects() -> String {
            format!("{} or {:?}", C::expects(), $word)
        }

        fn read(given: Given<'_>) -> Result<Self::Value, String> {
            if given.string() == Some($word) {
                return Ok(None);
            }
            C::read(given).map(Some).map_err(|what| match what.split_once(", found ") {
                Some((expected, found)) => format!("{expected} or {:?}, found {found}", $word),
                None => what,
            })
        }

        fn show(value: &Self::Value) -> Value {
            value.as_ref().map_or($word.into(), C::show)
        }
    }
)* } }
or_word!(OrNone: "none", OrAuto: "auto");

/// `true` or `false`.
pub(super) struct Switch;

impl Codec for Switch {
    type Value = bool;

    fn expects() -> String {
        "true or false".into()
    }

    fn read(given: Given<'_>) -> Result<bool, String> {
        given
            .switch()
            .ok_or_else(|| given.expected(&Self::expects()))
    }

    fn show(value: &bool) -> Value {
        (*value).into()
    }
}

/// Any string.
pub(super) struct Text;

impl Codec for Text {
    type Value = String;

    fn expects() -> String {
        "a string".into()
    }

    fn read(given: Given<'_>) -> Result<String, String> {
        given
            .string()
            .map(str::to_owned)
            .ok_or_else(|| given.expected(&Self::expects()))
    }

    fn show(value: &String) -> Value {
        value.as_str().into()
    }
}

/// A path of the file system; `""` is none.
pub(super) struct OptionalPath;

impl Codec for OptionalPath {
    type Value = Option<PathBuf>;

    fn expects() -> String {
        r#"a path or """#.into()
    }

    fn read(given: Given<'_>) -> Result<Option<PathBuf>, String> {
        let text = given
            .string()
            .ok_or_else(|| given.expected(&Self::expects()))?;
        if text.contains('\0') {
            return Err(given.expected("a path without NUL"));
        }
        Ok((!text.is_empty()).then(|| PathBuf::from(text)))
    }

    fn show(value: &Option<PathBuf>) -> Value {
        value
            .as_ref()
            .map_or_else(String::new, |path| path.to_string_lossy().into_owned())
            .into()
    }
}

/// A path of the server; `""` is none.
pub(super) struct Route;

impl Codec for Route {
    type Value = String;

    fn expects() -> String {
        r#"a path that begins with "/", or """#.into()
    }

    fn read(given: Given<'_>) -> Result<String, String> {
        let plain = |path: &str| {
            !path.contains(|c: char| c.is_whitespace() || c.is_control() || "?#".contains(c))
        };
        match given.string() {
            Some(path) if path.is_empty() || path.starts_with('/') && plain(path) => {
                Ok(path.to_owned())
            }
            _ => Err(given.expected(&Self::expects())),
        }
    }

    fn show(value: &String) -> Value {
        value.as_str().into()
    }
}

/// One of a few words.
pub(super) struct Choice<T>(PhantomData<T>);

/// A type whose values have names.
pub(super) trait Named: Copy + PartialEq + 'static {
    const NAMES: &'static [(&'static str, Self)];
}

macro_rules! names { ($($Type:ty { $($name:literal => $value:path),* })*) => { $(
    impl Named for $Type {
        const NAMES: &'static [(&'static str, Self)] = &[$(($name, $value)),*];
    }
)* } }
names! {
    FirstProcess { "auto" => FirstProcess::Auto, "exit" => FirstProcess::Exit, "stay" => FirstProcess::Stay }
    UpgradeMode { "auto" => UpgradeMode::Auto, "manual" => UpgradeMode::Manual }
    Handshake { "slackwater" => Handshake::Slackwater, "notify" => Handshake::Notify, "none" => Handshake::None }
    LogFormat { "auto" => LogFormat::Auto, "pretty" => LogFormat::Pretty, "json" => LogFormat::Json, "off" => LogFormat::Off }
    log::LevelFilter {
        "off" => log::LevelFilter::Off, "error" => log::LevelFilter::Error, "warn" => log::LevelFilter::Warn,
        "info" => log::LevelFilter::Info, "debug" => log::LevelFilter::Debug, "trace" => log::LevelFilter::Trace
    }
}

impl<T: Named> Codec for Choice<T> {
    type Value = T;

    fn expects() -> String {
        let names: Vec<String> = T::NAMES
            .iter()
            .map(|(name, _)| format!("{name:?}"))
            .collect();
        match names.split_last() {
            Some((last, others)) => format!("{} or {last}", others.join(", ")),
            None => String::new(),
        }
    }

    fn read(given: Given<'_>) -> Result<T, String> {
        let text = given.string().unwrap_or_default();
        let found = T::NAMES.iter().find(|(name, _)| *name == text);
        found.map(|(_, value)| *value).ok_or_else(|| {
            let near = suggestion(text, T::NAMES.iter().map(|(name, _)| *name));
            format!("{}{near}", given.expected(&Self::expects()))
        })
    }

    fn show(value: &T) -> Value {
        match T::NAMES.iter().find(|(_, named)| named == value) {
            Some((name, _)) => (*name).into(),
            None => Value::from(Empty::None),
        }
    }
}
