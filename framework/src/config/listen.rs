//! The entries of `listen`: `HOST:PORT`, `unix:PATH`, `fd:NAME`.

use std::fmt;
use std::net::Ipv6Addr;
use std::path::PathBuf;

use figment::value::{Empty, Value};

use super::layers::inline;
use super::values::{Codec, Form, Given};

/// One entry of `listen`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Listen {
    /// `HOST:PORT`; the host is a name or an address, without the brackets that IPv6 is written in.
    Tcp { host: String, port: u16 },
    /// `unix:PATH`
    Unix(PathBuf),
    /// `fd:NAME`
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
            let whole = !path.is_empty() && !path.contains('\0');
            return whole
                .then(|| Listen::Unix(path.into()))
                .ok_or_else(|| wrong(entry, "a path is missing"));
        }
        if let Some(name) = entry.strip_prefix("fd:") {
            return (!name.is_empty())
                .then(|| Listen::Fd(name.into()))
                .ok_or_else(|| wrong(entry, "a name is missing"));
        }
        let everywhere = |port: &str| {
            format!("the address is missing; write \"127.0.0.1:{port}\" for this machine or \"0.0.0.0:{port}\" for every address")
        };
        let (host, port) = match entry.rsplit_once(':') {
            Some(("" | "*", port)) => return Err(wrong(entry, &everywhere(port))),
            Some(parts) => parts,
            None if entry.parse::<u16>().is_ok() => return Err(wrong(entry, &everywhere(entry))),
            None => return Err(wrong(entry, "the port is missing")),
        };
        let host = host_of(host).map_err(|why| wrong(entry, &why))?;
        let port = port
            .parse()
            .map_err(|_| wrong(entry, &format!("{port:?} is no port (0 to 65535)")))?;
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
            .ok_or_else(|| format!("{address:?} is no IPv6 address"));
    }
    if host.contains("//") {
        return Err("it is an address, not a URL: leave out what is before the host".into());
    }
    if host.contains(':') {
        return Err("an IPv6 address stands in brackets, as in \"[::1]:8080\"".into());
    }
    let name = |c: char| c.is_alphanumeric() || "-._".contains(c);
    host.chars()
        .all(name)
        .then(|| host.into())
        .ok_or_else(|| format!("{host:?} is no name of a host"))
}

fn wrong(entry: &str, why: &str) -> String {
    format!("expected {}, found {entry:?}: {why}", Addresses::expects())
}

/// One entry or a list of them.
pub(super) struct Addresses;

impl Codec for Addresses {
    type Value = Option<Vec<Listen>>;

    fn expects() -> String {
        "HOST:PORT, unix:PATH or fd:NAME".into()
    }

    fn read(given: Given<'_>) -> Result<Self::Value, String> {
        let mut addresses = Vec::new();
        for entry in entries(given)? {
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

fn entries(given: Given<'_>) -> Result<Vec<String>, String> {
    match (given.form, given.value) {
        (_, Value::Array(_, list)) => strings(list),
        (Form::Text, Value::String(_, text)) => match inline(text) {
            Some(Value::Array(_, list)) => strings(&list),
            _ => Ok(text.split(',').map(str::to_owned).collect()),
        },
        (Form::Typed, Value::String(_, text)) => Ok(vec![text.clone()]),
        _ => Err(given.expected(&format!("{} or a list of them", Addresses::expects()))),
    }
}

fn strings(list: &[Value]) -> Result<Vec<String>, String> {
    let string = |value| {
        let entry = Given {
            value,
            form: Form::Typed,
        };
        entry
            .string()
            .map(str::to_owned)
            .ok_or_else(|| entry.expected(&Addresses::expects()))
    };
    list.iter().map(string).collect()
}
