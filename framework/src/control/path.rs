//! The path of the control socket: from `control.socket`, else next to the pid file, else in a
//! runtime directory with a name derived from the application and its configuration file.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use crate::config::LoadedConfig;

/// The possible paths of the socket, in order of preference. A process uses the first path that
/// works, a command the first path where a process answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SocketPaths(Vec<PathBuf>);

/// The data from which the paths are derived, apart from the settings.
#[derive(Clone, Copy)]
pub(crate) struct PathContext<'a> {
    /// The application's name.
    pub(crate) name: &'a str,
    /// The configuration file that is used if none was named.
    pub(crate) default_file: &'a Path,
    /// The working directory, with symbolic links kept.
    pub(crate) directory: Option<&'a Path>,
    /// `XDG_RUNTIME_DIR`
    pub(crate) runtime: Option<&'a OsStr>,
}

impl SocketPaths {
    pub(crate) fn from_config(loaded: &LoadedConfig, context: PathContext<'_>) -> Self {
        let absolute = |path: &Path| match context.directory {
            Some(directory) => directory.join(path).components().collect(),
            None => path.to_owned(),
        };
        if let Some(path) = &loaded.config.control.socket {
            return SocketPaths(vec![absolute(path)]);
        }
        if let Some(pid_file) = &loaded.config.pid_file {
            return SocketPaths(vec![absolute(&pid_file.with_extension("control"))]);
        }
        let configuration = absolute(loaded.file.as_deref().unwrap_or(context.default_file));
        let file = file_name(context.name, &configuration);
        let runtime = context
            .runtime
            .map(Path::new)
            .filter(|path| path.is_absolute());
        let directories = runtime.into_iter().chain([Path::new("/run")]);
        SocketPaths(directories.map(|directory| directory.join(&file)).collect())
    }

    pub(crate) fn paths(&self) -> &[PathBuf] {
        &self.0
    }

    #[cfg(test)]
    pub(crate) fn at(path: &Path) -> Self {
        SocketPaths(vec![path.to_owned()])
    }
}

/// Returns a name such as `shop-9f86d081884c7d65.control`. Two configurations of one application
/// have two sockets.
fn file_name(name: &str, configuration: &Path) -> String {
    let sanitized: String = name
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() { c } else { '-' })
        .collect();
    format!(
        "{sanitized}-{:016x}.control",
        fnv(configuration.as_os_str())
    )
}

/// Computes the FNV-1a hash. The hash of the standard library may change with each build, but a
/// command must find a process of an earlier build.
fn fnv(text: &OsStr) -> u64 {
    let step = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    text.as_encoded_bytes()
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, step)
}

/// Returns the path by which one process is reached, even while another one holds the socket path:
/// the path, a dot and the pid.
pub(super) fn of_process(path: &Path, pid: u32) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(format!(".{pid}"));
    name.into()
}

/// Lists the processes that have such a path, with their pids.
pub(super) fn processes(path: &Path) -> Vec<(u32, PathBuf)> {
    let (Some(directory), Some(name)) = (path.parent(), path.file_name()) else {
        return vec![];
    };
    let directory = if directory.as_os_str().is_empty() {
        Path::new(".")
    } else {
        directory
    };
    let pid = |file: &OsStr| {
        let file = file
            .to_str()?
            .strip_prefix(name.to_str()?)?
            .strip_prefix('.')?;
        file.parse::<u32>().ok()
    };
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    let mut found: Vec<_> = entries
        .filter_map(|entry| Some((pid(&entry.file_name())?, entry.path())))
        .collect();
    found.sort_unstable();
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::ConfigSources;

    fn paths(sets: &[&str], runtime: Option<&str>) -> Vec<String> {
        let mut sources = ConfigSources::new("my shop");
        sources.default_file = PathBuf::new();
        sources.sets = sets.iter().map(|set| (*set).to_owned()).collect();
        let context = PathContext {
            name: "my shop",
            default_file: Path::new("slackwater.toml"),
            directory: Some(Path::new("/srv/shop")),
            runtime: runtime.map(OsStr::new),
        };
        let paths = SocketPaths::from_config(&sources.load().unwrap(), context);
        paths
            .0
            .iter()
            .map(|path| path.display().to_string())
            .collect()
    }

    #[test]
    fn the_setting_has_precedence_over_the_pid_file_and_that_over_a_runtime_directory() {
        assert_eq!(
            paths(&["control.socket=run/a.control", "pid_file=x.pid"], None),
            ["/srv/shop/run/a.control"]
        );
        assert_eq!(
            paths(&["pid_file=./run/app.pid"], None),
            ["/srv/shop/run/app.control"]
        );
        let hash = fnv(OsStr::new("/srv/shop/slackwater.toml"));
        let file = format!("my-shop-{hash:016x}.control");
        assert_eq!(paths(&[], None), [format!("/run/{file}")]);
        assert_eq!(
            paths(&[], Some("/run/user/7")),
            [format!("/run/user/7/{file}"), format!("/run/{file}")]
        );
        assert_eq!(paths(&[], Some("relative")), [format!("/run/{file}")]);
    }

    #[test]
    fn the_hash_is_fnv_1a() {
        assert_eq!(fnv(OsStr::new("")), 0xcbf2_9ce4_8422_2325);
        assert_eq!(fnv(OsStr::new("foobar")), 0x8594_4171_f739_67e8);
    }
}
