//! The settings of a process: every key with its type, default and class, declared once.
//!
//! `settings!` below is the only list of keys. The structs, the defaults (figment's lowest layer), the check for
//! unknown keys, `APP config`, the comparison at a reload and the reference all come from it.
//!
//! - [`load`] lays the [`layers`] over each other and gives what was [`loaded`]; [`lenient`] reads `[app]`, and
//!   [`misfit`] says why it could not
//! - [`field`] and [`values`]: what a key is, and how the text of each type is read and written; [`nearest`]: what an
//!   unknown one was probably meant to be
//! - [`origin`]: where a value came from, and the faults that say so
//! - [`explain`], [`mod@diff`] and [`secret`]: what is shown of it, and what is not

mod diff;
mod explain;
mod field;
mod layers;
mod lenient;
mod listen;
mod load;
mod loaded;
mod misfit;
mod nearest;
mod origin;
#[cfg(test)]
mod reference;
mod secret;
mod values;

use std::path::PathBuf;
use std::time::Duration;

pub(crate) use diff::{diff, Change};
pub(crate) use explain::{check_text, config_text};
pub(crate) use field::{Class, Field};
pub(crate) use listen::Listen;
pub(crate) use load::Sources;
pub(crate) use loaded::Loaded;
pub use secret::Secret;

use field::settings;
use listen::Addresses;
use values::{Choice, OptionalPath, OrAuto, OrNone, Route, Size, Span, Switch, Text, Whole};

settings! {
    /// The framework's part of the settings. `[app]` is the application's own and stays untyped here.
    Config {
        /// where to listen: one or a list of HOST:PORT, unix:PATH, fd:NAME; unset: inherited sockets, else 127.0.0.1:8080
        listen: Option<Vec<Listen>> as Addresses = None, Live, r#"["127.0.0.1:8080", "unix:run/app.sock"]"#;
        /// how many connections the kernel queues for each socket until they are accepted
        backlog: i32 as Whole<i32, 1> = 4096, Upgrade, "1024";
        /// how many threads run handlers; 0: one per core
        threads: usize as Whole<usize, 0> = 0, Upgrade, "4";
        /// the file that holds the process id while it runs; "": none
        pid_file: Option<PathBuf> as OptionalPath = None, Upgrade, r#""run/app.pid""#;
        /// what the first process does after it was replaced
        first_process: FirstProcess as Choice<FirstProcess> = FirstProcess::Auto, Live, r#""stay""#;
    }

    /// Limits and timeouts of a connection; a `None` timeout or limit was set to `"none"`.
    Http at http {
        /// from the first byte of a request to the end of its headers
        header_timeout: Option<Duration> as OrNone<Span<1>> = Some(s(10)), NextRequest, r#""5s""#;
        /// how long a connection may wait for its next request
        idle_timeout: Option<Duration> as OrNone<Span<1>> = Some(s(75)), NextRequest, r#""2m""#;
        /// no byte of a request's body for this long
        body_timeout: Option<Duration> as OrNone<Span<1>> = Some(s(30)), NextRequest, r#""10s""#;
        /// 503 past it; the handler is detached and bounded by shutdown
        request_timeout: Option<Duration> as OrNone<Span<1>> = None, NextRequest, r#""60s""#;
        /// no byte of a response taken for this long
        write_timeout: Option<Duration> as OrNone<Span<1>> = Some(s(30)), NextRequest, r#""10s""#;
        /// 413 past it; a route may set its own
        body_limit: Option<u64> as OrNone<Size<u64, 0>> = Some(2 << 20), NextRequest, r#""16MiB""#;
        /// 431 past so many headers
        max_headers: usize as Whole<usize, 1> = 100, NextRequest, "64";
        /// 431 past it; hyper takes no less than 8KiB, and no more fits into a message of the handover
        max_header_bytes: usize as Size<usize, 8192, { 120 << 10 }> = 64 << 10, NextRequest, r#""16KiB""#;
        /// how many requests an HTTP/2 connection may have open at once; 503 past twice as many handlers, left alone or not
        max_streams: usize as Whole<usize, 1> = 128, NextRequest, "32";
        /// past it connections wait in the backlog; "auto": from the limit on open files
        max_connections: Option<usize> as OrAuto<Whole<usize, 1>> = None, NextRequest, "10000";
        /// an idle connection gives its memory back after this long
        idle_release: Option<Duration> as OrNone<Span<0>> = Some(s(2)), NextRequest, r#""500ms""#;
    }

    /// The steps of a shutdown.
    Shutdown at shutdown {
        /// lame duck: not ready, still accepting
        delay: Duration as Span<0> = s(0), Live, r#""5s""#;
        /// an idle connection may send one last request, answered with Connection: close
        keepalive_grace: Duration as Span<0> = Duration::from_millis(250), Live, r#""1s""#;
        /// over how long WebSockets and event streams are told to go, lest their clients come back all at once
        close_spread: Duration as Span<0> = s(2), Live, r#""30s""#;
        /// how long requests in flight may take to finish; "auto": 20s, but 700ms where TERM or INT stops a debug build
        grace: Option<Duration> as OrAuto<Span<0>> = None, Live, r#""45s""#;
        /// after grace handlers are told to stop; after this, connections are cut; "auto": 3s, but 250ms likewise
        force_after: Option<Duration> as OrAuto<Span<0>> = None, Live, r#""1s""#;
    }

    /// When the configuration is read again.
    Reload at reload {
        /// reload when a configuration file changes
        watch: bool as Switch = false, Live, "true";
    }

    /// How a new binary takes over.
    Upgrade at upgrade {
        /// the program to start; "": the one that runs, as it was called
        exec: String as Text = String::new(), Live, r#""/opt/app/current/bin/app""#;
        /// how long the new process may take to be ready
        ready_timeout: Duration as Span<1> = s(60), Live, r#""5m""#;
        /// the old process can take over again for this long
        rollback_window: Duration as Span<0> = s(3), Live, r#""30s""#;
        /// "manual": both accept until WINCH, QUIT or HUP, as with nginx
        mode: UpgradeMode as Choice<UpgradeMode> = UpgradeMode::Auto, Live, r#""manual""#;
        /// how the new process says that it is ready; "notify" and "none" are for programs of other make
        handshake: Handshake as Choice<Handshake> = Handshake::Slackwater, Live, r#""notify""#;
    }

    /// The routes that answer for the process itself.
    Health at health {
        /// answers while the process lives; "": off
        live: String as Route = "/livez".into(), Live, r#""/healthz""#;
        /// answers while requests are welcome; "": off
        ready: String as Route = "/readyz".into(), Live, r#""/health/ready""#;
    }

    /// Where Prometheus scrapes; needs the feature `metrics`.
    Metrics at metrics {
        /// a listener of its own for /metrics, as in listen; "": none
        listen: Option<Vec<Listen>> as Addresses = None, Live, r#""127.0.0.1:9100""#;
        /// the path that answers on every listener; "": none, but /metrics on its own
        path: String as Route = String::new(), Live, r#""/metrics""#;
    }

    /// What is logged, how and where.
    Log at log {
        /// off, error, warn, info, debug or trace
        level: log::LevelFilter as Choice<log::LevelFilter> = log::LevelFilter::Info, Live, r#""debug""#;
        /// "auto": pretty in a debug build, JSON lines in a release build; "off": the application brings its own
        format: LogFormat as Choice<LogFormat> = LogFormat::Auto, Live, r#""json""#;
        /// where it goes, reopened on USR1; "": standard output
        file: Option<PathBuf> as OptionalPath = None, Live, r#""/var/log/app.log""#;
        /// one line for each request
        access: bool as Switch = false, Live, "true";
    }

    /// How `APP status`, `reload` and the like reach the process.
    Control at control {
        /// "": beside pid_file, else in $XDG_RUNTIME_DIR or /run
        socket: Option<PathBuf> as OptionalPath = None, Upgrade, r#""run/app.control""#;
    }
}

/// What the first process does after it was replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FirstProcess {
    /// Stay where somebody watches its pid, else exit.
    Auto,
    Exit,
    Stay,
}

/// Who ends the time in which old and new both accept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum UpgradeMode {
    Auto,
    Manual,
}

/// How the new process says that it is ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Handshake {
    Slackwater,
    Notify,
    None,
}

/// What a line of the log looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LogFormat {
    Auto,
    Pretty,
    Json,
    Off,
}

/// The defaults above are mostly whole seconds.
const fn s(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// How much of a hurry a stop is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hurry {
    /// Somebody restarts a program that is being developed, and waits.
    Development,
    No,
}

impl Shutdown {
    /// How long requests may take, where `grace` does not say.
    pub(crate) fn grace(&self, hurry: Hurry) -> Duration {
        self.grace.unwrap_or(match hurry {
            Hurry::Development => Duration::from_millis(700),
            Hurry::No => s(20),
        })
    }

    /// How long handlers may take that were told to stop, where `force_after` does not say.
    pub(crate) fn force_after(&self, hurry: Hurry) -> Duration {
        self.force_after.unwrap_or(match hurry {
            Hurry::Development => Duration::from_millis(250),
            Hurry::No => s(3),
        })
    }

    /// Half of the grace is left to whoever is told last, however this build is stopped.
    pub(crate) fn spread(&self) -> Duration {
        let hurry = if cfg!(debug_assertions) {
            Hurry::Development
        } else {
            Hurry::No
        };
        self.close_spread.min(self.grace(hurry) / 2)
    }
}

impl Config {
    /// What no single key can see: each fault as the keys that are in it, and what is wrong.
    fn contradictions(&self) -> Vec<([&'static str; 2], String)> {
        let mut faults = Vec::new();
        let Health { live, ready } = &self.health;
        if live == ready && !live.is_empty() {
            let keys = ["health.ready", "health.live"];
            faults.push((
                keys,
                format!("health.live and health.ready must differ, both are {live:?}"),
            ));
        }
        let Metrics { listen, path } = &self.metrics;
        // the tests of this module read every key
        if cfg!(not(any(feature = "metrics", test))) && (listen.is_some() || !path.is_empty()) {
            let keys = ["metrics.path", "metrics.listen"];
            faults.push((
                keys,
                "this program was built without slackwater's feature `metrics`".into(),
            ));
        }
        if !path.is_empty() && [live, ready].contains(&path) {
            let keys = ["metrics.path", "health.ready"];
            faults.push((
                keys,
                format!(
                    "metrics.path must differ from health.live and health.ready, it is {path:?}"
                ),
            ));
        }
        faults
    }
}

#[cfg(test)]
mod tests;
