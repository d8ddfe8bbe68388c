//! Where a program is found, and why not.

use std::os::unix::fs::{symlink, PermissionsExt};

use super::*;

struct Place(PathBuf);

impl Place {
    fn new(test: &str) -> Self {
        let path =
            env::temp_dir().join(format!("slackwater-{}-program-{test}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).unwrap();
        Place(path)
    }

    /// Puts a file there, executable.
    fn file(&self, name: &str, content: &[u8]) -> PathBuf {
        let path = self.0.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).unwrap();
        path
    }

    /// A program that was called so, here.
    fn called(&self, name: impl Into<OsString>) -> Program {
        Program {
            called: name.into(),
            args: Vec::new(),
            directory: Some(self.0.clone()),
            environment: Vec::new(),
            born_open_files: None,
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[test]
fn a_relative_path_begins_where_the_program_was_started() {
    let place = Place::new("relative");
    let path = place.file("bin/app", b"#!/bin/sh\n");
    assert_eq!(place.called("./bin/app").locate("").unwrap(), path);
    assert_eq!(place.called("bin/app").locate("").unwrap(), path);
    assert_eq!(
        place.called("/nonexistent").locate("bin/app").unwrap(),
        path
    );
    assert_eq!(place.called(&path).locate("").unwrap(), path);
}

#[test]
fn a_link_is_followed_anew() {
    let place = Place::new("link");
    place.file("releases/1/app", b"#!/bin/sh\n");
    symlink("releases/1", place.0.join("current")).unwrap();
    let program = place.called("current/app");
    assert_eq!(program.locate("").unwrap(), place.0.join("current/app"));
    fs::remove_file(place.0.join("current")).unwrap();
    symlink("releases/2", place.0.join("current")).unwrap();
    assert!(program.locate("").is_err());
    place.file("releases/2/app", b"#!/bin/sh\n");
    assert_eq!(program.locate("").unwrap(), place.0.join("current/app"));
}

#[test]
fn a_bare_name_is_looked_up_in_path() {
    let place = Place::new("path");
    let path = place.file("two/app", b"#!/bin/sh\n");
    // not executable, and a directory: both are passed over
    fs::create_dir_all(place.0.join("one/app")).unwrap();
    fs::create_dir_all(place.0.join("zero")).unwrap();
    fs::write(place.0.join("zero/app"), "").unwrap();
    let mut program = place.called("app");
    let entries = ["zero", "one", "two"].map(|entry| place.0.join(entry));
    program.environment = vec![("PATH".into(), env::join_paths(entries).unwrap())];
    assert_eq!(program.locate("").unwrap(), path);
    program.environment = vec![("PATH".into(), "two".into())];
    assert_eq!(program.locate("").unwrap(), path);
    program.environment = vec![("PATH".into(), "/nonexistent".into())];
    let error = program.locate("").unwrap_err();
    assert_eq!(
        error.chain(),
        "cannot start app: no such program in PATH=/nonexistent"
    );
}

#[test]
fn what_cannot_run_here_is_refused_before_it_is_tried() {
    let place = Place::new("refused");
    let elf = |class, data, machine: [u8; 2]| {
        [
            &[0x7f, b'E', b'L', b'F', class, data][..],
            &[0; 12],
            &machine,
            &[0; 44],
        ]
        .concat()
    };
    place.file("sparc", &elf(2, 2, [0, 43]));
    place.file("empty", b"");
    place.file("text", b"echo hello\n");
    fs::write(place.0.join("plain"), "#!/bin/sh\n").unwrap();
    fs::create_dir(place.0.join("directory")).unwrap();
    symlink("nowhere", place.0.join("dangling")).unwrap();
    let neither = "neither a program nor a script that begins with #!";
    let cases = [
        ("missing", "No such file or directory (os error 2)"),
        ("dangling", "No such file or directory (os error 2)"),
        ("directory", "Is a directory (os error 21)"),
        ("plain", "Permission denied (os error 13)"),
        ("empty", neither),
        ("text", neither),
        ("plain/app", "Not a directory (os error 20)"),
    ];
    for (name, why) in cases {
        let path = place.0.join(name);
        let error = place.called(&path).locate("").unwrap_err();
        assert_eq!(
            error.chain(),
            format!("cannot start {}: {why}", path.display())
        );
    }
    let error = place.called("./sparc").locate("").unwrap_err().chain();
    assert!(
        error.contains("sparc: built for another machine (ELF machine 43, 64 bits; this one is "),
        "{error}"
    );
    assert!(foreign(Path::new("/proc/self/exe")).is_none());
}

#[test]
fn a_program_without_name_or_directory() {
    let place = Place::new("nameless");
    let error = place.called("").locate("").unwrap_err();
    assert_eq!(
        error.chain(),
        "the program was started without a name (argv[0]): set upgrade.exec"
    );
    let mut program = place.called("./app");
    program.directory = None;
    let error = program.locate("").unwrap_err();
    assert_eq!(
        error.chain(),
        "cannot start ./app: the directory in which it was started is gone"
    );
}

#[test]
fn the_directory_keeps_the_name_it_was_entered_by() {
    let place = Place::new("pwd");
    let here = env::current_dir().unwrap();
    let link = place.0.join("link");
    symlink(&here, &link).unwrap();
    assert_eq!(directory(Some(link.clone().into())), Some(link));
    assert_eq!(directory(Some(place.0.clone().into())), Some(here.clone()));
    assert_eq!(directory(Some(".".into())), Some(here.clone()));
    assert_eq!(directory(None), Some(here));
}
