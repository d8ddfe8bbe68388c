//! Reads and writes the values of each type: durations, sizes, choices, `"none"` and `"auto"`.

use std::marker::PhantomData;
use std::path::PathBuf;
use std::time::Duration;

use bytesize::ByteSize;
use figment::value::{Dict, Empty, Num, Value};
use serde::de::{self, Visitor};

use super::suggest::suggestion;
use super::{FirstProcess, Handshake, LogFormat, UpgradeMode};

/// Reads and writes a type of setting. `read` accepts every value that `show` returns.
pub(super) trait Codec {
    type Value;
    /// Describes the accepted values: `a size such as "2MiB"`.
    fn expects() -> String;
    fn read(raw: RawValue<'_>) -> Result<Self::Value, String>;
    fn show(value: &Self::Value) -> Value;
}

/// A value as its source contains it.
#[derive(Clone, Copy)]
pub(super) struct RawValue<'a> {
    pub(super) value: &'a Value,
    pub(super) form: ValueForm,
}

/// The form of a value: typed, or text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ValueForm {
    /// A value from TOML or from the application: a string is a string.
    Typed,
    /// Text from the environment or the command line, which is converted to the type of the setting.
    Text,
}

impl<'a> RawValue<'a> {
    pub(super) fn string(&self) -> Option<&'a str> {
        self.value.as_str()
    }

    fn integer(&self) -> Option<i128> {
        match (self.form, self.value) {
            (ValueForm::Text, Value::String(_, text)) => text.trim().parse().ok(),
            (_, Value::Num(_, number)) => integer(*number),
            _ => None,
        }
    }

    fn boolean(&self) -> Option<bool> {
        match (self.form, self.value) {
            (ValueForm::Text, Value::String(_, text)) => boolean(text),
            (_, value) => value.to_bool(),
        }
    }

    pub(super) fn expected(&self, what: &str) -> String {
        format!("expected {what}, found {}", describe(self.value))
    }
}

/// Parses `true`, `false`, `1` or `0`, the booleans of the environment and the command line.
pub(super) fn boolean(text: &str) -> Option<bool> {
    match text.trim() {
        "true" | "1" => Some(true),
        "false" | "0" => Some(false),
        _ => None,
    }
}

/// Returns the number if it is an integer.
pub(super) fn integer(number: Num) -> Option<i128> {
    number
        .to_i128()
        .or_else(|| i128::try_from(number.to_u128()?).ok())
}

/// Returns the text of a TOML date or time, which figment represents as a table with this single key.
pub(super) fn datetime(table: &Dict) -> Option<&str> {
    table.get("$__toml_private_datetime")?.as_str()
}

/// Passes an integer to the visitor as `i64` if it fits, else as `u64` or `i128`.
pub(super) fn visit_integer<'de, V: Visitor<'de>, E: de::Error>(
    number: i128,
    visitor: V,
) -> Result<V::Value, E> {
    match (i64::try_from(number), u64::try_from(number)) {
        (Ok(number), _) => visitor.visit_i64(number),
        (_, Ok(number)) => visitor.visit_u64(number),
        _ => visitor.visit_i128(number),
    }
}

/// Describes a value for error messages: `string "abc"`, `integer 5`, `a table`.
pub(super) fn describe(value: &Value) -> String {
    match value {
        Value::String(_, text) => format!("string {text:?}"),
        Value::Char(_, char) => format!("string {:?}", char.to_string()),
        Value::Bool(_, bool) => format!("boolean {bool}"),
        Value::Num(_, number) => match (integer(*number), number.to_f64()) {
            (Some(whole), _) => format!("integer {whole}"),
            (None, float) => format!("number {}", float.unwrap_or_default()),
        },
        Value::Empty(..) => "nothing".into(),
        Value::Dict(..) => "a table".into(),
        Value::Array(..) => "a list".into(),
    }
}

/// The integer types of settings.
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

fn narrow<N: Number>(number: i128, min: u64, format: fn(i128) -> String) -> Result<N, String> {
    if number < i128::from(min) {
        return Err(format!(
            "must be at least {}, found {}",
            format(min.into()),
            format(number)
        ));
    }
    N::try_from(number).map_err(|_| {
        format!(
            "must be at most {}, found {}",
            format(N::MAX),
            format(number)
        )
    })
}

/// An integer that is at least `MIN`.
pub(super) struct Integer<N, const MIN: u64>(PhantomData<N>);

impl<N: Number, const MIN: u64> Codec for Integer<N, MIN> {
    type Value = N;

    fn expects() -> String {
        "a whole number".into()
    }

    fn read(raw: RawValue<'_>) -> Result<N, String> {
        let number = raw
            .integer()
            .ok_or_else(|| raw.expected(&Self::expects()))?;
        narrow(number, MIN, |number| number.to_string())
    }

    fn show(value: &N) -> Value {
        Num::from(value.widen()).into()
    }
}

/// A number of bytes from `MIN` to `MAX`: `"2MiB"`, or an integer.
pub(super) struct Size<N, const MIN: u64, const MAX: u64 = { u64::MAX }>(PhantomData<N>);

impl<N: Number, const MIN: u64, const MAX: u64> Codec for Size<N, MIN, MAX> {
    type Value = N;

    fn expects() -> String {
        r#"a size such as "2MiB""#.into()
    }

    fn read(raw: RawValue<'_>) -> Result<N, String> {
        let parsed = || {
            Some(i128::from(
                raw.string()?.trim().parse::<ByteSize>().ok()?.as_u64(),
            ))
        };
        let bytes = raw
            .integer()
            .or_else(parsed)
            .ok_or_else(|| raw.expected(&Self::expects()))?;
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

/// Formats a number of bytes in the largest unit that leaves no remainder.
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

/// A duration of at least `MIN` milliseconds.
pub(super) struct MinDuration<const MIN: u64>;

/// The upper limit on durations: a much longer one could overflow when it is added to an `Instant`. This is the length
/// of a year in humantime, so that messages print it as "1year".
const LONGEST: Duration = Duration::from_secs(31_557_600);

impl<const MIN: u64> Codec for MinDuration<MIN> {
    type Value = Duration;

    fn expects() -> String {
        r#"a duration such as "30s""#.into()
    }

    fn read(raw: RawValue<'_>) -> Result<Duration, String> {
        if let Some(number) = raw.integer() {
            return Err(format!(
                "{}; add a unit, as in \"{number}s\"",
                raw.expected(&Self::expects())
            ));
        }
        let parsed = raw
            .string()
            .and_then(|text| humantime::parse_duration(text.trim()).ok());
        let duration = parsed.ok_or_else(|| raw.expected(&Self::expects()))?;
        if duration < Duration::from_millis(MIN) {
            return Err(format!(
                "must be at least {MIN}ms, found {}",
                duration_text(duration)
            ));
        }
        if duration > LONGEST {
            return Err(format!(
                "must be at most {}, found {}",
                duration_text(LONGEST),
                duration_text(duration)
            ));
        }
        Ok(duration)
    }

    fn show(value: &Duration) -> Value {
        duration_text(*value).into()
    }
}

fn duration_text(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match duration.subsec_nanos() {
        0 if seconds < 120 => format!("{seconds}s"),
        _ => humantime::format_duration(duration).to_string(),
    }
}

/// `"none"`, or a value that `C` accepts.
pub(super) struct OrNone<C>(PhantomData<C>);

/// `"auto"`, or a value that `C` accepts.
pub(super) struct OrAuto<C>(PhantomData<C>);

macro_rules! or_word { ($($Codec:ident: $word:literal),*) => { $(
    impl<C: Codec> Codec for $Codec<C> {
        type Value = Option<C::Value>;

        fn expects() -> String {
            format!("{} or {:?}", C::expects(), $word)
        }

        fn read(raw: RawValue<'_>) -> Result<Self::Value, String> {
            if raw.string() == Some($word) {
                return Ok(None);
            }
            C::read(raw).map(Some).map_err(|message| match message.split_once(", found ") {
                Some((expected, found)) => format!("{expected} or {:?}, found {found}", $word),
                None => message,
            })
        }

        fn show(value: &Self::Value) -> Value {
            value.as_ref().map_or($word.into(), C::show)
        }
    }
)* } }
or_word!(OrNone: "none", OrAuto: "auto");

/// `true` or `false`.
pub(super) struct Boolean;

impl Codec for Boolean {
    type Value = bool;

    fn expects() -> String {
        "true or false".into()
    }

    fn read(raw: RawValue<'_>) -> Result<bool, String> {
        raw.boolean().ok_or_else(|| raw.expected(&Self::expects()))
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

    fn read(raw: RawValue<'_>) -> Result<String, String> {
        raw.string()
            .map(str::to_owned)
            .ok_or_else(|| raw.expected(&Self::expects()))
    }

    fn show(value: &String) -> Value {
        value.as_str().into()
    }
}

/// A path of the file system; `""` means none.
pub(super) struct OptionalPath;

impl Codec for OptionalPath {
    type Value = Option<PathBuf>;

    fn expects() -> String {
        r#"a path or """#.into()
    }

    fn read(raw: RawValue<'_>) -> Result<Option<PathBuf>, String> {
        let text = raw.string().ok_or_else(|| raw.expected(&Self::expects()))?;
        if text.contains('\0') {
            return Err(raw.expected("a path without NUL"));
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

/// A path of a URL; `""` means none.
pub(super) struct RoutePath;

impl Codec for RoutePath {
    type Value = String;

    fn expects() -> String {
        r#"a path that begins with "/", or """#.into()
    }

    fn read(raw: RawValue<'_>) -> Result<String, String> {
        let plain = |path: &str| {
            !path.contains(|c: char| c.is_whitespace() || c.is_control() || "?#".contains(c))
        };
        match raw.string() {
            Some(path) if path.is_empty() || path.starts_with('/') && plain(path) => {
                Ok(path.to_owned())
            }
            _ => Err(raw.expected(&Self::expects())),
        }
    }

    fn show(value: &String) -> Value {
        value.as_str().into()
    }
}

/// A variant of an enum, by its name.
pub(super) struct Choice<T>(PhantomData<T>);

/// An enum whose variants have names in settings.
pub(super) trait NamedVariants: Copy + PartialEq + 'static {
    const NAMES: &'static [(&'static str, Self)];
}

macro_rules! names { ($($Type:ty { $($name:literal => $value:path),* })*) => { $(
    impl NamedVariants for $Type {
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

impl<T: NamedVariants> Codec for Choice<T> {
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

    fn read(raw: RawValue<'_>) -> Result<T, String> {
        let text = raw.string().unwrap_or_default();
        let found = T::NAMES.iter().find(|(name, _)| *name == text);
        found.map(|(_, value)| *value).ok_or_else(|| {
            let near = suggestion(text, T::NAMES.iter().map(|(name, _)| *name));
            format!("{}{near}", raw.expected(&Self::expects()))
        })
    }

    fn show(value: &T) -> Value {
        match T::NAMES.iter().find(|(_, variant)| variant == value) {
            Some((name, _)) => (*name).into(),
            None => Value::from(Empty::None),
        }
    }
}
