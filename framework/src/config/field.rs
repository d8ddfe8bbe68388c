//! The description of a key: name, accepted values, when a change takes effect, and how it is read into `Config`.

use std::fmt;

use figment::value::Value;

use super::values::RawValue;
use super::Config;

/// A key of the framework's settings.
pub(crate) struct Field {
    /// The key with dots, as in `--set` and in the file: `http.body_limit`.
    pub(crate) key: &'static str,
    /// The accepted values, in words.
    pub(crate) expects: fn() -> String,
    pub(crate) class: Class,
    /// A description of one line.
    pub(crate) about: &'static str,
    /// A value other than the default, as TOML.
    pub(crate) example: &'static str,
    /// Stores a value in `Config`, or returns why it is not accepted.
    pub(super) read: fn(&mut Config, RawValue<'_>) -> Result<(), String>,
    /// Returns the value in its canonical spelling; `Empty` if it is unset.
    pub(super) show: fn(&Config) -> Value,
}

/// The time at which a change of a key takes effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Class {
    /// At the reload.
    Live,
    /// With the next request of each connection.
    NextRequest,
    /// In a new process, after an upgrade.
    Upgrade,
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Class::Live => "live",
            Class::NextRequest => "next request",
            Class::Upgrade => "upgrade",
        })
    }
}

impl Field {
    /// Returns the field of this name.
    pub(crate) fn find(key: &str) -> Option<&'static Field> {
        Config::FIELDS.iter().find(|field| field.key == key)
    }

    /// Returns true if `name` is a table of keys, such as `http`.
    pub(crate) fn is_section(name: &str) -> bool {
        Config::FIELDS.iter().any(|field| {
            field
                .key
                .split_once('.')
                .is_some_and(|(section, _)| section == name)
        })
    }
}

/// Returns the environment variable that sets a key: `SLACKWATER_HTTP__BODY_LIMIT`.
pub(super) fn variable(prefix: &str, key: &str) -> String {
    format!("{prefix}{}", key.replace('.', "__").to_uppercase())
}

/// Declares `Config`, its sections, their defaults and `Config::FIELDS`. A field is
/// `/// description`, then `name: Type as Codec = default, Class, example as TOML;`.
macro_rules! settings {
    (
        $(#[$meta:meta])* $Config:ident {
            $( $(#[doc = $about:literal])+ $name:ident: $type:ty as $codec:ty = $default:expr, $class:ident, $example:literal; )*
        }
        $(
            $(#[$section_meta:meta])* $Section:ident at $section:ident {
                $( $(#[doc = $s_about:literal])+ $s_name:ident: $s_type:ty as $s_codec:ty = $s_default:expr, $s_class:ident, $s_example:literal; )*
            }
        )*
    ) => {
        $(#[$meta])*
        #[derive(Clone, Debug, PartialEq)]
        pub(crate) struct $Config {
            $( $(#[doc = $about])+ pub(crate) $name: $type, )*
            $( pub(crate) $section: $Section, )*
        }

        $(
            $(#[$section_meta])*
            #[derive(Clone, Debug, PartialEq)]
            pub(crate) struct $Section {
                $( $(#[doc = $s_about])+ pub(crate) $s_name: $s_type, )*
            }
        )*

        impl Default for $Config {
            fn default() -> Self {
                $Config {
                    $( $name: $default, )*
                    $( $section: $Section { $( $s_name: $s_default, )* }, )*
                }
            }
        }

        impl $Config {
            /// Every key, in the order of the reference.
            pub(crate) const FIELDS: &'static [$crate::config::Field] = &[
                $( $crate::config::field::settings!(@field stringify!($name), [$($about)+], $codec, $class, $example, [$name]), )*
                $( $( $crate::config::field::settings!(@field
                    concat!(stringify!($section), ".", stringify!($s_name)), [$($s_about)+], $s_codec, $s_class, $s_example, [$section.$s_name]
                ), )* )*
            ];
        }
    };
    (@field $key:expr, [$($about:literal)+], $codec:ty, $class:ident, $example:literal, [$($place:tt)+]) => {
        $crate::config::Field {
            key: $key,
            expects: <$codec as $crate::config::values::Codec>::expects,
            class: $crate::config::Class::$class,
            about: concat!($($about),+).trim_ascii(),
            example: $example,
            read: |config, raw| {
                config.$($place)+ = <$codec as $crate::config::values::Codec>::read(raw)?;
                Ok(())
            },
            show: |config| <$codec as $crate::config::values::Codec>::show(&config.$($place)+),
        }
    };
}
pub(super) use settings;
