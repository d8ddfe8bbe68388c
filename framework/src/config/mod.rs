//! The settings of a process: every key with its type, default and class, declared once.
//!
//! `settings!` below is the only list of keys. The structs, the defaults (figment's lowest layer), the check for
//! unknown keys, `APP config`, the comparison at a reload and the reference are all derived from it.
//!
//! - [`load`] merges the [`layers`] into a [`LoadedConfig`]; [`deserialize`] reads `[app]` into the application's
//!   type and fails with a [`deserialize_error`]
//! - [`field`] describes a key; [`values`] and [`listen`] read and write the text of each type; [`suggest`] finds the
//!   known name nearest to an unknown one
//! - [`origin`] records the source and the line of a value, and formats errors with them
//! - [`explain`] and [`mod@diff`] print settings; [`secret`] hides values that must not be printed

mod deserialize;
mod deserialize_error;
mod diff;
mod explain;
mod field;
mod layers;
mod listen;
mod load;
mod loaded_config;
mod origin;
#[cfg(test)]
mod reference;
mod secret;
mod suggest;
mod values;

use std::path::PathBuf;
use std::time::Duration;

pub(crate) use diff::{diff, SettingChange};
pub(crate) use explain::{check_text, config_text};
pub(crate) use field::{Class, Field};
pub(crate) use listen::Listen;
pub(crate) use load::ConfigSources;
pub(crate) use loaded_config::LoadedConfig;
pub use secret::Secret;

use field::settings;
use listen::Addresses;
use values::{
    Boolean, Choice, Integer, MinDuration, OptionalPath, OrAuto, OrNone, RoutePath, Size, Text,
};

settings! {
    /// The framework's settings. `[app]` belongs to the application and is not typed here.
    Config {
        /// addresses to listen on: one or a list of HOST:PORT, unix:PATH, fd:NAME; unset: inherited sockets, else 127.0.0.1:8080
        listen: Option<Vec<Listen>> as Addresses = None, Live, r#"["127.0.0.1:8080", "unix:run/app.sock"]"#;
        /// connections that the kernel queues for each socket until they are accepted
        backlog: i32 as Integer<i32, 1> = 4096, Upgrade, "1024";
        /// threads that run handlers; 0: one per core
        threads: usize as Integer<usize, 0> = 0, Upgrade, "4";
        /// file that holds the process id while the process runs; "": none
        pid_file: Option<PathBuf> as OptionalPath = None, Upgrade, r#""run/app.pid""#;
        /// behaviour of the first process after an upgrade; "auto": it stays if a service manager or a shell watches its pid
        first_process: FirstProcess as Choice<FirstProcess> = FirstProcess::Auto, Live, r#""stay""#;
    }

    /// Limits and timeouts of a connection. `None` means that the key was set to `"none"`.
    Http at http {
        /// longest time from the first byte of a request to the end of its headers
        header_timeout: Option<Duration> as OrNone<MinDuration<1>> = Some(s(10)), NextRequest, r#""5s""#;
        /// longest time that a connection may wait for its next request
        idle_timeout: Option<Duration> as OrNone<MinDuration<1>> = Some(s(75)), NextRequest, r#""2m""#;
        /// longest time without a byte of the request's body
        body_timeout: Option<Duration> as OrNone<MinDuration<1>> = Some(s(30)), NextRequest, r#""10s""#;
        /// longest time until a response: 503 after it; the handler runs on in the background, at most until shutdown
        request_timeout: Option<Duration> as OrNone<MinDuration<1>> = None, NextRequest, r#""60s""#;
        /// longest time in which the client reads no byte of a response
        write_timeout: Option<Duration> as OrNone<MinDuration<1>> = Some(s(30)), NextRequest, r#""10s""#;
        /// largest body of a request: 413 above it; a route may set its own limit
        body_limit: Option<u64> as OrNone<Size<u64, 0>> = Some(2 << 20), NextRequest, r#""16MiB""#;
        /// most headers of a request: 431 above it
        max_headers: usize as Integer<usize, 1> = 100, NextRequest, "64";
        /// largest head of a request: 431 above it; at least 8KiB, because hyper needs it, at most 120KiB, because an upgrade sends it in one message
        max_header_bytes: usize as Size<usize, 8192, { 120 << 10 }> = 64 << 10, NextRequest, r#""16KiB""#;
        /// requests that an HTTP/2 connection may have open at once; 503 while it has twice as many handlers, counting those of cancelled requests
        max_streams: usize as Integer<usize, 1> = 128, NextRequest, "32";
        /// most connections at once: above it they wait in the backlog; "auto": derived from the limit on open files
        max_connections: Option<usize> as OrAuto<Integer<usize, 1>> = None, NextRequest, "10000";
        /// most bytes of responses that one connection holds because its client has not received them; responses wait above it
        send_buffer: usize as Size<usize, { 64 << 10 }> = 1 << 20, NextRequest, r#""4MiB""#;
        /// most bytes held for all clients (unsent responses, heads, collected bodies, messages): 503 above it, or close code 1013; "auto": a quarter of the memory of the cgroup or the machine
        memory: Budget as OrAuto<OrNone<Size<usize, { 1 << 20 }>>> = None, Live, r#""512MiB""#;
        /// time after which an idle connection frees its memory
        idle_release: Option<Duration> as OrNone<MinDuration<0>> = Some(s(2)), NextRequest, r#""500ms""#;
    }

    /// The steps of a shutdown.
    Shutdown at shutdown {
        /// shutdown delay: the process reports that it is not ready, but still accepts connections
        delay: Duration as MinDuration<0> = s(0), Live, r#""5s""#;
        /// time in which an idle connection may send one last request, answered with Connection: close
        keepalive_grace: Duration as MinDuration<0> = Duration::from_millis(250), Live, r#""1s""#;
        /// period over which WebSockets and event streams are closed one after the other, so that their clients do not reconnect all at once
        close_spread: Duration as MinDuration<0> = s(2), Live, r#""30s""#;
        /// longest time that requests in progress may take to finish; "auto": 20s, but 700ms if TERM or INT stops a debug build
        grace: Option<Duration> as OrAuto<MinDuration<0>> = None, Live, r#""45s""#;
        /// time from the end of grace, when handlers are signalled to stop, until connections are closed; "auto": 3s, but 250ms if TERM or INT stops a debug build
        force_after: Option<Duration> as OrAuto<MinDuration<0>> = None, Live, r#""1s""#;
    }

    /// Reading the configuration again without a signal.
    Reload at reload {
        /// reload when a configuration file changes
        watch: bool as Boolean = false, Live, "true";
    }

    /// The replacement of the running process by a new one.
    Upgrade at upgrade {
        /// program to start; "": the running one, by the path that started it
        exec: String as Text = String::new(), Live, r#""/opt/app/current/bin/app""#;
        /// longest time until the new process is ready
        ready_timeout: Duration as MinDuration<1> = s(60), Live, r#""5m""#;
        /// time in which the old process can take over again
        rollback_window: Duration as MinDuration<0> = s(3), Live, r#""30s""#;
        /// "manual": both processes accept until WINCH, QUIT or HUP, as with nginx
        mode: UpgradeMode as Choice<UpgradeMode> = UpgradeMode::Auto, Live, r#""manual""#;
        /// readiness protocol of the new process; "notify" (sd_notify) and "none" are for programs built without slackwater
        handshake: Handshake as Choice<Handshake> = Handshake::Slackwater, Live, r#""notify""#;
    }

    /// The routes that report the health of the process.
    Health at health {
        /// path that answers 200 while the process runs; "": off
        live: String as RoutePath = "/livez".into(), Live, r#""/healthz""#;
        /// path that answers 200 while balancers should send requests, else 503; "": off
        ready: String as RoutePath = "/readyz".into(), Live, r#""/health/ready""#;
    }

    /// Metrics for Prometheus; they need the feature `metrics`.
    Metrics at metrics {
        /// addresses that serve only /metrics, written as in listen; "": none
        listen: Option<Vec<Listen>> as Addresses = None, Live, r#""127.0.0.1:9100""#;
        /// path of the metrics on every listener; "": only metrics.listen serves them
        path: String as RoutePath = String::new(), Live, r#""/metrics""#;
    }

    /// The log.
    Log at log {
        /// least severe level that is logged: off, error, warn, info, debug or trace
        level: log::LevelFilter as Choice<log::LevelFilter> = log::LevelFilter::Info, Live, r#""debug""#;
        /// "auto": pretty in a debug build, JSON lines in a release build; "off": the application installs its own logger
        format: LogFormat as Choice<LogFormat> = LogFormat::Auto, Live, r#""json""#;
        /// file that the log is written to, reopened on USR1; "": standard output
        file: Option<PathBuf> as OptionalPath = None, Live, r#""/var/log/app.log""#;
        /// log one line for each request
        access: bool as Boolean = false, Live, "true";
    }

    /// The socket on which the process receives `APP status`, `APP reload` and similar commands.
    Control at control {
        /// path of the control socket; "": beside pid_file, else in $XDG_RUNTIME_DIR or /run
        socket: Option<PathBuf> as OptionalPath = None, Upgrade, r#""run/app.control""#;
    }
}

/// The behaviour of the first process after an upgrade.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FirstProcess {
    /// Stays if a service manager or a shell watches its pid, else exits.
    Auto,
    Exit,
    Stay,
}

/// The end of the time in which the old and the new process both accept: automatic or by signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum UpgradeMode {
    Auto,
    Manual,
}

/// The readiness protocol of the new process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Handshake {
    Slackwater,
    Notify,
    None,
}

/// The format of a log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LogFormat {
    Auto,
    Pretty,
    Json,
    Off,
}

const fn s(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// Selects the durations that `"auto"` stands for in `shutdown.grace` and `shutdown.force_after`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum GraceDefaults {
    /// Short: a developer restarts the program and waits for it.
    Development,
    Production,
}

/// The value of `http.memory`. `None` means "auto", `Some(None)` means no limit.
type Budget = Option<Option<usize>>;

impl Http {
    /// Returns the memory budget of the process in bytes, or `None` without a limit.
    pub(crate) fn memory(&self) -> Option<usize> {
        self.memory.unwrap_or_else(|| {
            let available = crate::sys::memory::available()?;
            Some(usize::try_from(available / 4).unwrap_or(usize::MAX))
        })
    }
}

impl Shutdown {
    /// Returns `grace`, or its default.
    pub(crate) fn grace(&self, defaults: GraceDefaults) -> Duration {
        self.grace.unwrap_or(match defaults {
            GraceDefaults::Development => Duration::from_millis(700),
            GraceDefaults::Production => s(20),
        })
    }

    /// Returns `force_after`, or its default.
    pub(crate) fn force_after(&self, defaults: GraceDefaults) -> Duration {
        self.force_after.unwrap_or(match defaults {
            GraceDefaults::Development => Duration::from_millis(250),
            GraceDefaults::Production => s(3),
        })
    }

    /// Returns `close_spread`, but at most half of the grace, so that the stream that is closed last still has the
    /// other half to finish in.
    pub(crate) fn spread(&self) -> Duration {
        let defaults = if cfg!(debug_assertions) {
            GraceDefaults::Development
        } else {
            GraceDefaults::Production
        };
        self.close_spread.min(self.grace(defaults) / 2)
    }
}

impl Config {
    /// Returns the conflicts between keys: the keys that take part, and the message. `has_metrics` is true if the program
    /// was built with the feature `metrics`.
    fn contradictions(&self, has_metrics: bool) -> Vec<([&'static str; 2], String)> {
        let mut contradictions = Vec::new();
        let Health { live, ready } = &self.health;
        if live == ready && !live.is_empty() {
            let keys = ["health.ready", "health.live"];
            contradictions.push((
                keys,
                format!("health.live and health.ready must differ, both are {live:?}"),
            ));
        }
        let Metrics { listen, path } = &self.metrics;
        if !has_metrics && (listen.is_some() || !path.is_empty()) {
            let keys = ["metrics.path", "metrics.listen"];
            contradictions.push((
                keys,
                "this program was built without slackwater's feature `metrics`".into(),
            ));
        }
        if !path.is_empty() && [live, ready].contains(&path) {
            let keys = ["metrics.path", "health.ready"];
            contradictions.push((
                keys,
                format!(
                    "metrics.path must differ from health.live and health.ready, it is {path:?}"
                ),
            ));
        }
        contradictions
    }
}

#[cfg(test)]
mod tests;
