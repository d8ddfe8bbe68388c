//! The settings of a process: fields, defaults and classes.

use std::path::PathBuf;
use std::time::Duration;

/// The framework's part of the settings. `[app]` is the application's own and stays untyped here.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Config {
    pub(crate) listen: Option<Vec<Listen>>,
    pub(crate) backlog: i32,
    pub(crate) threads: usize,
    pub(crate) pid_file: Option<PathBuf>,
    pub(crate) first_process: FirstProcess,
    pub(crate) http: Http,
    pub(crate) shutdown: Shutdown,
    pub(crate) reload: Reload,
    pub(crate) upgrade: Upgrade,
    pub(crate) health: Health,
    pub(crate) log: Log,
    pub(crate) control: Control,
}

/// One entry of `listen`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Listen {
    /// `HOST:PORT` (`localhost:8080`, `[::]:80`; `:8080` and `8080` mean every address? no: refused)
    Tcp { host: String, port: u16 },
    /// `unix:PATH`
    Unix(PathBuf),
    /// `fd:NAME`
    Fd(String),
}

/// Limits and timeouts of a connection; a `None` timeout or limit was set to `"none"`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Http {
    pub(crate) header_timeout: Option<Duration>,
    pub(crate) idle_timeout: Option<Duration>,
    pub(crate) body_timeout: Option<Duration>,
    pub(crate) request_timeout: Option<Duration>,
    pub(crate) write_timeout: Option<Duration>,
    pub(crate) body_limit: Option<u64>,
    pub(crate) max_headers: usize,
    pub(crate) max_header_bytes: usize,
    /// `None` is `"auto"`.
    pub(crate) max_connections: Option<usize>,
    pub(crate) idle_release: Option<Duration>,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Shutdown {
    pub(crate) delay: Duration,
    pub(crate) keepalive_grace: Duration,
    pub(crate) grace: Duration,
    pub(crate) force_after: Duration,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Reload {
    pub(crate) watch: bool,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Upgrade {
    pub(crate) exec: String,
    pub(crate) ready_timeout: Duration,
    pub(crate) rollback_window: Duration,
    pub(crate) mode: UpgradeMode,
    pub(crate) handshake: Handshake,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum UpgradeMode {
    Auto,
    Manual,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Handshake {
    Slackwater,
    Notify,
    None,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FirstProcess {
    Auto,
    Exit,
    Stay,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Health {
    pub(crate) live: String,
    pub(crate) ready: String,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Log {
    pub(crate) level: log::LevelFilter,
    pub(crate) format: LogFormat,
    /// `None`: standard output.
    pub(crate) file: Option<PathBuf>,
    pub(crate) access: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LogFormat {
    Auto,
    Pretty,
    Json,
    Off,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Control {
    pub(crate) socket: Option<PathBuf>,
}

impl Default for Config {
    fn default() -> Self {
        let s = Duration::from_secs;
        Config {
            listen: None,
            backlog: 4096,
            threads: 0,
            pid_file: None,
            first_process: FirstProcess::Auto,
            http: Http {
                header_timeout: Some(s(10)),
                idle_timeout: Some(s(75)),
                body_timeout: Some(s(30)),
                request_timeout: None,
                write_timeout: Some(s(30)),
                body_limit: Some(2 << 20),
                max_headers: 100,
                max_header_bytes: 64 << 10,
                max_connections: None,
                idle_release: Some(s(2)),
            },
            shutdown: Shutdown {
                delay: s(0),
                keepalive_grace: Duration::from_millis(250),
                grace: s(20),
                force_after: s(3),
            },
            reload: Reload { watch: false },
            upgrade: Upgrade {
                exec: String::new(),
                ready_timeout: s(60),
                rollback_window: s(3),
                mode: UpgradeMode::Auto,
                handshake: Handshake::Slackwater,
            },
            health: Health { live: "/livez".into(), ready: "/readyz".into() },
            log: Log { level: log::LevelFilter::Info, format: LogFormat::Auto, file: None, access: false },
            control: Control { socket: None },
        }
    }
}
