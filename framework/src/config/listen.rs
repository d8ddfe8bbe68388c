//! The entries of `listen`: `HOST:PORT`, `unix:PATH`, `fd:NAME`.

use std::fmt;
use std::net::Ipv6Addr;
use std::path::PathBuf;

use figment::value::{Empty, Value};

use super::layers::parse_inline;
use super::values::{Codec, RawValue, ValueForm};

/// An entry of `listen`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Listen {
    /// `HOST:PORT`. The host is a name or an address; an IPv6 address has no brackets here.
    Tcp { host: String, port: u16 },
    /// `unix:PATH`: a Unix socket.
    Unix(PathBuf),
    /// `fd:NAME`: an inherited socket.
    Fd(String),
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Listen::Tcp { host, port } if host.contains(':') => write!(f, "[{host}]:{port}"),
            Listen::Tcp { host, port } => write!(f, "{host}:{port}"),
            Listen::Unix(path) => write!(f, "unix:{}", path.display()),
            Listen::Fd(name) => write!(f, "fd:{name}"),
        }
    }
}

impl Listen {
    pub(crate) fn parse(entry: &str) -> Result<Listen, String> {
        if let Some(path) = entry.strip_prefix("unix:") {
            let valid = !path.is_empty() && !path.contains('\0');
            return valid
                .then(|| Listen::Unix(path.into()))
                .ok_or_else(|| wrong(entry, "a path is missing"));
        }
        if let Some(name) = entry.strip_prefix("fd:") {
            return (!name.is_empty())
                .then(|| Listen::Fd(name.into()))
                .ok_or_else(|| wrong(entry, "a name is missing"));
        }
        let no_address = |port: &str| {
            format!("the address is missing; write \"127.0.0.1:{port}\" for this machine or \"0.0.0.0:{port}\" for every address")
        };
        let (host, port) = match entry.rsplit_once(':') {
            Some(("" | "*", port)) => return Err(wrong(entry, &no_address(port))),
            Some(parts) => parts,
            None if entry.parse::<u16>().is_ok() => return Err(wrong(entry, &no_address(entry))),
            None => return Err(wrong(entry, "the port is missing")),
        };
        let host = host_of(host).map_err(|why| wrong(entry, &why))?;
        let port = port
            .parse()
            .map_err(|_| wrong(entry, &format!("{port:?} is not a port (0 to 65535)")))?;
        Ok(Listen::Tcp { host, port })
    }
}

fn host_of(host: &str) -> Result<String, String> {
    if let Some(address) = host
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
    {
        let without_zone = address.split('%').next().unwrap_or_default();
        let valid = without_zone.parse::<Ipv6Addr>().is_ok();
        return valid
            .then(|| address.into())
            .ok_or_else(|| format!("{address:?} is not an IPv6 address"));
    }
    if host.contains("//") {
        return Err("it is a URL, not an address; remove the scheme before the host".into());
    }
    if host.contains(':') {
        return Err("write an IPv6 address in brackets, as in \"[::1]:8080\"".into());
    }
    let name = |c: char| c.is_alphanumeric() || "-._".contains(c);
    host.chars()
        .all(name)
        .then(|| host.into())
        .ok_or_else(|| format!("{host:?} is not a host name"))
}

fn wrong(entry: &str, why: &str) -> String {
    format!("expected {}, found {entry:?}: {why}", Addresses::expects())
}

/// The codec of `listen`: an entry or a list of entries.
pub(super) struct Addresses;

impl Codec for Addresses {
    type Value = Option<Vec<Listen>>;

    fn expects() -> String {
        "HOST:PORT, unix:PATH or fd:NAME".into()
    }

    fn read(raw: RawValue<'_>) -> Result<Self::Value, String> {
        let mut addresses = Vec::new();
        for entry in listen_entries(raw)? {
            let address = Listen::parse(entry.trim())?;
            if addresses.contains(&address) {
                return Err(format!("{entry:?} is listed twice"));
            }
            addresses.push(address);
        }
        if addresses.is_empty() {
            return Err(
                "the list is empty; leave the key out to serve inherited sockets or 127.0.0.1:8080"
                    .into(),
            );
        }
        Ok(Some(addresses))
    }

    fn show(value: &Self::Value) -> Value {
        match value.as_deref() {
            None => Value::from(Empty::None),
            Some([one]) => one.to_string().into(),
            Some(list) => list
                .iter()
                .map(Listen::to_string)
                .collect::<Vec<_>>()
                .into(),
        }
    }
}

fn listen_entries(raw: RawValue<'_>) -> Result<Vec<String>, String> {
    match (raw.form, raw.value) {
        (_, Value::Array(_, list)) => strings(list),
        (ValueForm::Text, Value::String(_, text)) => match parse_inline(text) {
            Some(Value::Array(_, list)) => strings(&list),
            _ => Ok(text.split(',').map(str::to_owned).collect()),
        },
        (ValueForm::Typed, Value::String(_, text)) => Ok(vec![text.clone()]),
        _ => Err(raw.expected(&format!("{} or a list of them", Addresses::expects()))),
    }
}

fn strings(list: &[Value]) -> Result<Vec<String>, String> {
    let string = |value| {
        let entry = RawValue {
            value,
            form: ValueForm::Typed,
        };
        entry
            .string()
            .map(str::to_owned)
            .ok_or_else(|| entry.expected(&Addresses::expects()))
    };
    list.iter().map(string).collect()
}
