//! Tests of locating a program, and of the errors.

use std::os::unix::fs::{symlink, PermissionsExt};

use super::*;

struct TestDirectory(PathBuf);

impl TestDirectory {
    fn new(test: &str) -> Self {
        let path =
            env::temp_dir().join(format!("slackwater-{}-program-{test}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).unwrap();
        TestDirectory(path)
    }

    /// Creates an executable file.
    fn file(&self, name: &str, content: &[u8]) -> PathBuf {
        let path = self.0.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).unwrap();
        path
    }

    /// A program that was started with this `argv[0]` in this directory.
    fn program(&self, name: impl Into<OsString>) -> Program {
        Program {
            argv0: name.into(),
            args: Vec::new(),
            directory: Some(self.0.clone()),
            environment: Vec::new(),
            original_open_files: None,
        }
    }
}

impl Drop for TestDirectory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[test]
fn a_relative_path_starts_at_the_original_working_directory() {
    let directory = TestDirectory::new("relative");
    let path = directory.file("bin/app", b"#!/bin/sh\n");
    assert_eq!(directory.program("./bin/app").locate("").unwrap(), path);
    assert_eq!(directory.program("bin/app").locate("").unwrap(), path);
    assert_eq!(
        directory.program("/nonexistent").locate("bin/app").unwrap(),
        path
    );
    assert_eq!(directory.program(&path).locate("").unwrap(), path);
}

#[test]
fn a_link_is_resolved_again_each_time() {
    let directory = TestDirectory::new("link");
    directory.file("releases/1/app", b"#!/bin/sh\n");
    symlink("releases/1", directory.0.join("current")).unwrap();
    let program = directory.program("current/app");
    assert_eq!(program.locate("").unwrap(), directory.0.join("current/app"));
    fs::remove_file(directory.0.join("current")).unwrap();
    symlink("releases/2", directory.0.join("current")).unwrap();
    assert!(program.locate("").is_err());
    directory.file("releases/2/app", b"#!/bin/sh\n");
    assert_eq!(program.locate("").unwrap(), directory.0.join("current/app"));
}

#[test]
fn a_bare_name_is_looked_up_in_path() {
    let directory = TestDirectory::new("path");
    let path = directory.file("two/app", b"#!/bin/sh\n");
    // a file that is not executable, and a directory: both are skipped
    fs::create_dir_all(directory.0.join("one/app")).unwrap();
    fs::create_dir_all(directory.0.join("zero")).unwrap();
    fs::write(directory.0.join("zero/app"), "").unwrap();
    let mut program = directory.program("app");
    let entries = ["zero", "one", "two"].map(|entry| directory.0.join(entry));
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
fn a_file_that_cannot_run_on_this_machine_is_refused_before_it_is_executed() {
    let directory = TestDirectory::new("refused");
    let elf = |class, data, machine: [u8; 2]| {
        [
            &[0x7f, b'E', b'L', b'F', class, data][..],
            &[0; 12],
            &machine,
            &[0; 44],
        ]
        .concat()
    };
    directory.file("sparc", &elf(2, 2, [0, 43]));
    directory.file("empty", b"");
    directory.file("text", b"echo hello\n");
    fs::write(directory.0.join("plain"), "#!/bin/sh\n").unwrap();
    fs::create_dir(directory.0.join("directory")).unwrap();
    symlink("nowhere", directory.0.join("dangling")).unwrap();
    let neither = "neither an ELF executable nor a script that begins with #!";
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
        let path = directory.0.join(name);
        let error = directory.program(&path).locate("").unwrap_err();
        assert_eq!(
            error.chain(),
            format!("cannot start {}: {why}", path.display())
        );
    }
    let error = directory.program("./sparc").locate("").unwrap_err().chain();
    assert!(
        error.contains(
            "sparc: built for another machine (ELF machine 43, 64 bits; this machine is "
        ),
        "{error}"
    );
    assert!(not_executable(Path::new("/proc/self/exe")).is_none());
}

#[test]
fn a_program_without_a_name_or_a_directory_is_an_error() {
    let directory = TestDirectory::new("nameless");
    let error = directory.program("").locate("").unwrap_err();
    assert_eq!(
        error.chain(),
        "the program was started without a name (argv[0]): set upgrade.exec"
    );
    let mut program = directory.program("./app");
    program.directory = None;
    let error = program.locate("").unwrap_err();
    assert_eq!(
        error.chain(),
        "cannot start ./app: the directory in which it was started is gone"
    );
}

#[test]
fn the_directory_keeps_symbolic_links() {
    let test = TestDirectory::new("pwd");
    let here = env::current_dir().unwrap();
    let link = test.0.join("link");
    symlink(&here, &link).unwrap();
    assert_eq!(directory(Some(link.clone().into())), Some(link));
    assert_eq!(directory(Some(test.0.clone().into())), Some(here.clone()));
    assert_eq!(directory(Some(".".into())), Some(here.clone()));
    assert_eq!(directory(None), Some(here));
}
