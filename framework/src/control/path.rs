//! Where the control socket is: as set, else beside the pid file, else by the application's name in a directory for that.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use crate::config::Loaded;

/// Where the socket may be, best first. A process takes the first that it can have, a command the first that answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Places(Vec<PathBuf>);

/// What the places are found by, beside the settings.
#[derive(Clone, Copy)]
pub(crate) struct Around<'a> {
    /// The application's name.
    pub(crate) name: &'a str,
    /// The configuration file that is looked for where none was named.
    pub(crate) default_file: &'a Path,
    /// The working directory, by the name under which people know it.
    pub(crate) directory: Option<&'a Path>,
    /// `XDG_RUNTIME_DIR`
    pub(crate) runtime: Option<&'a OsStr>,
}

impl Places {
    pub(crate) fn of(loaded: &Loaded, around: Around<'_>) -> Self {
        let absolute = |path: &Path| match around.directory {
            Some(directory) => directory.join(path).components().collect(),
            None => path.to_owned(),
        };
        if let Some(path) = &loaded.config.control.socket {
            return Places(vec![absolute(path)]);
        }
        if let Some(pid_file) = &loaded.config.pid_file {
            return Places(vec![absolute(&pid_file.with_extension("control"))]);
        }
        let configuration = absolute(loaded.file.as_deref().unwrap_or(around.default_file));
        let file = file_name(around.name, &configuration);
        let runtime = around
            .runtime
            .map(Path::new)
            .filter(|path| path.is_absolute());
        let directories = runtime.into_iter().chain([Path::new("/run")]);
        Places(directories.map(|directory| directory.join(&file)).collect())
    }

    pub(crate) fn paths(&self) -> &[PathBuf] {
        &self.0
    }

    #[cfg(test)]
    pub(crate) fn at(path: &Path) -> Self {
        Places(vec![path.to_owned()])
    }
}

/// `shop-9f86d081884c7d65.control`: two configurations of one application are two sockets.
fn file_name(name: &str, configuration: &Path) -> String {
    let plain: String = name
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() { c } else { '-' })
        .collect();
    format!("{plain}-{:016x}.control", fnv(configuration.as_os_str()))
}

/// FNV-1a. Not the standard library's hash: that one may change from build to build, and a command of today has to
/// find a process of yesterday.
fn fnv(text: &OsStr) -> u64 {
    let step = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    text.as_encoded_bytes()
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, step)
}

/// The name under which one process is reached, whoever holds the place itself: the path, a dot and the pid.
pub(super) fn of_process(place: &Path, pid: u32) -> PathBuf {
    let mut name = OsString::from(place);
    name.push(format!(".{pid}"));
    name.into()
}

/// The processes that have such a name beside the place, with their pids.
pub(super) fn processes(place: &Path) -> Vec<(u32, PathBuf)> {
    let (Some(directory), Some(name)) = (place.parent(), place.file_name()) else {
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
    use crate::config::Sources;

    fn places(sets: &[&str], runtime: Option<&str>) -> Vec<String> {
        let mut sources = Sources::new("my shop");
        sources.default_file = PathBuf::new();
        sources.sets = sets.iter().map(|set| (*set).to_owned()).collect();
        let around = Around {
            name: "my shop",
            default_file: Path::new("slackwater.toml"),
            directory: Some(Path::new("/srv/shop")),
            runtime: runtime.map(OsStr::new),
        };
        let places = Places::of(&sources.load().unwrap(), around);
        places
            .0
            .iter()
            .map(|path| path.display().to_string())
            .collect()
    }

    #[test]
    fn the_setting_wins_then_the_pid_file_then_a_directory_for_it() {
        assert_eq!(
            places(&["control.socket=run/a.control", "pid_file=x.pid"], None),
            ["/srv/shop/run/a.control"]
        );
        assert_eq!(
            places(&["pid_file=./run/app.pid"], None),
            ["/srv/shop/run/app.control"]
        );
        let hash = fnv(OsStr::new("/srv/shop/slackwater.toml"));
        let file = format!("my-shop-{hash:016x}.control");
        assert_eq!(places(&[], None), [format!("/run/{file}")]);
        assert_eq!(
            places(&[], Some("/run/user/7")),
            [format!("/run/user/7/{file}"), format!("/run/{file}")]
        );
        assert_eq!(places(&[], Some("relative")), [format!("/run/{file}")]);
    }

    #[test]
    fn the_hash_is_the_known_one() {
        assert_eq!(fnv(OsStr::new("")), 0xcbf2_9ce4_8422_2325);
        assert_eq!(fnv(OsStr::new("foobar")), 0x8594_4171_f739_67e8);
    }
}
