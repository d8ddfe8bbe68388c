//! Tests with real child processes, which write their environment and descriptors to files.

use std::fs;
use std::os::fd::AsFd;
use std::path::PathBuf;

use async_std::task::block_on;

use super::*;
use crate::sys::child::Ending;

fn stdout() -> std::os::fd::OwnedFd {
    std::io::stdout().as_fd().try_clone_to_owned().unwrap()
}

/// A directory for one test, removed at its end.
struct TestDirectory(PathBuf);

impl TestDirectory {
    fn new(test: &str) -> Self {
        let path =
            std::env::temp_dir().join(format!("slackwater-{}-spawn-{test}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).unwrap();
        TestDirectory(path)
    }

    fn read(&self, file: &str) -> String {
        fs::read_to_string(self.0.join(file)).unwrap()
    }
}

impl Drop for TestDirectory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// The program `sh -c SCRIPT`, started in the directory of the test (by fork).
fn shell(directory: &TestDirectory, script: &str) -> Program {
    let mut program = Program::record();
    program.argv0 = "/bin/sh".into();
    program.args = vec![
        "-c".into(),
        script.into(),
        "shell".into(),
        "an argument".into(),
    ];
    program.directory = Some(directory.0.clone());
    program
}

/// The same program, started in the current directory (by posix_spawn).
fn here(directory: &TestDirectory, script: &str) -> Program {
    let mut program = shell(
        directory,
        &format!("cd {}\n{script}", directory.0.display()),
    );
    program.directory = None;
    program
}

fn run(program: &Program, passed: &[PassedFd<'_>], environment: ChildEnvironment) -> Ending {
    let child = program
        .start("", passed, environment, stdout(), &OpenFiles::unchanged())
        .unwrap();
    block_on(child.exited())
}

fn passed<'a>(files: &'a [fs::File], names: &[&str]) -> Vec<PassedFd<'a>> {
    files
        .iter()
        .zip(names)
        .map(|(file, name)| PassedFd {
            fd: file.as_fd(),
            name: (*name).into(),
        })
        .collect()
}

fn files(directory: &TestDirectory, count: usize) -> Vec<fs::File> {
    (0..count)
        .map(|number| fs::File::create(directory.0.join(format!("file{number}"))).unwrap())
        .collect()
}

const PRINT: &str = "env > env; ulimit -S -n > limit; echo $$ > pid; echo \"$0 $1\" > args
    for fd in /proc/$$/fd/*; do echo \"${fd##*/} $(readlink $fd)\"; done > fds
    grep -E 'Sig(Blk|Ign)' /proc/self/status > signals";

#[test]
fn the_child_has_the_passed_descriptors_in_order_and_no_others() {
    check_descriptors("fds", shell);
    check_descriptors("fds-here", here);
}

fn check_descriptors(test: &str, shell: fn(&TestDirectory, &str) -> Program) {
    let directory = TestDirectory::new(test);
    let files = files(&directory, 5);
    let names = ["web", "a:b", "", "admin", "slackwater-handover"];
    assert_eq!(
        run(
            &shell(&directory, PRINT),
            &passed(&files, &names),
            ChildEnvironment::for_slackwater()
        ),
        Ending::Exited(0)
    );
    for number in 0..5 {
        let line = format!(
            "{} {}",
            number + 3,
            directory.0.join(format!("file{number}")).display()
        );
        assert!(
            directory.read("fds").lines().any(|found| found == line),
            "{}",
            directory.read("fds")
        );
    }
    // each descriptor occurs once; the sixth is the list itself, which the shell writes
    let path = directory.0.display().to_string();
    assert_eq!(
        directory
            .read("fds")
            .lines()
            .filter(|line| line.contains(&path))
            .count(),
        6,
        "{}",
        directory.read("fds")
    );
    let env = directory.read("env");
    assert!(env.contains("\nLISTEN_FDS=5\n"), "{env}");
    assert!(
        env.contains("\nLISTEN_FDNAMES=web:a_b::admin:slackwater-handover\n"),
        "{env}"
    );
    assert!(!env.contains("LISTEN_PID"), "{env}");
    assert_eq!(directory.read("args"), "shell an argument\n");
}

#[test]
fn the_environment_is_prepared_for_the_child() {
    check_environment("env", shell);
    check_environment("env-here", here);
}

fn check_environment(test: &str, shell: fn(&TestDirectory, &str) -> Program) {
    let directory = TestDirectory::new(test);
    let mut program = shell(&directory, PRINT);
    let all = [
        "LISTEN_FDS",
        "LISTEN_PID",
        "LISTEN_FDNAMES",
        "WATCHDOG_PID",
        "NOTIFY_SOCKET",
        "WATCHDOG_USEC",
    ];
    program
        .environment
        .extend(all.map(|name| (name.into(), "1".into())));
    program
        .environment
        .push(("PWD".into(), "/elsewhere".into()));
    let environment = ChildEnvironment::for_slackwater()
        .with("NOTIFY_SOCKET", "@private")
        .with("MORE", "a b");
    let variables = program.variables(&[], environment.clone(), &OpenFiles::unchanged());
    assert_eq!(
        variables
            .iter()
            .filter(|(name, _)| name == "NOTIFY_SOCKET")
            .count(),
        1,
        "{variables:?}"
    );
    assert_eq!(run(&program, &[], environment), Ending::Exited(0));
    let env = directory.read("env");
    for line in [
        "NOTIFY_SOCKET=@private",
        "MORE=a b",
        "WATCHDOG_USEC=1",
        &format!("PWD={}", directory.0.display()),
    ] {
        assert!(env.lines().any(|found| found == line), "{line} in {env}");
    }
    assert!(
        !env.contains("LISTEN_") && !env.contains("WATCHDOG_PID"),
        "{env}"
    );
    let soft = OpenFiles::unchanged().original().current.unwrap();
    assert!(
        env.contains(&format!("\nSLACKWATER_BORN_OPEN_FILES={soft}\n")),
        "{env}"
    );
}

#[test]
fn a_foreign_program_gets_listen_pid_and_the_original_limit() {
    let directory = TestDirectory::new("foreign");
    let files = files(&directory, 1);
    let program = shell(&directory, PRINT);
    let limits = OpenFiles::unchanged().with_original_soft(Some(100));
    let foreign = ChildEnvironment::for_foreign_program();
    let child = program
        .start("", &passed(&files, &["web"]), foreign, stdout(), &limits)
        .unwrap();
    assert_eq!(block_on(child.exited()), Ending::Exited(0));
    assert_eq!(directory.read("limit"), "100\n");
    assert_eq!(directory.read("pid"), format!("{}\n", child.pid()));
    let env = directory.read("env");
    assert!(
        env.contains(&format!("LISTEN_PID={}\n", child.pid())),
        "{env}"
    );
    assert!(!env.contains("SLACKWATER_"), "{env}");
    assert_eq!(directory.read("args"), "shell an argument\n");
}

#[test]
fn no_signal_is_blocked_or_ignored_in_the_child() {
    check_signals("signals", shell);
    check_signals("signals-here", here);
}

fn check_signals(test: &str, shell: fn(&TestDirectory, &str) -> Program) {
    let directory = TestDirectory::new(test);
    assert_eq!(
        run(
            &shell(&directory, PRINT),
            &[],
            ChildEnvironment::for_slackwater()
        ),
        Ending::Exited(0)
    );
    let signals = directory.read("signals");
    let ours = fs::read_to_string("/proc/thread-self/status").unwrap();
    let line = |text: &str, name: &str| {
        text.lines()
            .find(|line| line.starts_with(name))
            .unwrap()
            .to_owned()
    };
    assert_eq!(line(&signals, "SigBlk"), line(&ours, "SigBlk"));
    let ignored = u64::from_str_radix(
        line(&signals, "SigIgn").split_whitespace().nth(1).unwrap(),
        16,
    )
    .unwrap();
    let pipe = 1 << (signal_hook::consts::SIGPIPE - 1);
    assert_eq!(ignored & pipe, 0, "{signals}");
}

#[test]
fn a_child_starts_although_its_working_directory_was_removed() {
    let directory = TestDirectory::new("cwd");
    let gone = directory.0.join("gone");
    let mut program = shell(&directory, "exit 5");
    program.directory = Some(gone);
    assert_eq!(
        run(&program, &[], ChildEnvironment::for_slackwater()),
        Ending::Exited(5)
    );
}

#[test]
fn a_missing_interpreter_is_named_in_the_error() {
    let directory = TestDirectory::new("refused");
    let script = directory.0.join("script");
    fs::write(&script, "#!/nonexistent/interpreter\n").unwrap();
    fs::set_permissions(&script, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    check_interpreter_error(&shell(&directory, ""), &script);
    check_interpreter_error(&here(&directory, ""), &script);
}

fn check_interpreter_error(program: &Program, script: &std::path::Path) {
    let exec = script.to_str().unwrap();
    let start = || {
        program
            .start(
                exec,
                &[],
                ChildEnvironment::for_slackwater(),
                stdout(),
                &OpenFiles::unchanged(),
            )
            .unwrap_err()
            .chain()
    };
    // a child that another test starts may hold the script open for a moment
    let mut errors =
        std::iter::repeat_with(start).skip_while(|error| error.contains("Text file busy"));
    assert_eq!(
        errors.next().unwrap(),
        format!(
            "cannot start {}: its interpreter or loader is missing: No such file or directory (os error 2)",
            script.display()
        )
    );
}

#[test]
fn exec_replaces_the_program_and_keeps_its_arguments() {
    let directory = TestDirectory::new("exec");
    std::os::unix::fs::symlink("/bin/sh", directory.0.join("next")).unwrap();
    let mut program = shell(&directory, PRINT);
    program.argv0 = "/nonexistent".into();
    let child = program
        .start(
            "./next",
            &[],
            ChildEnvironment::for_slackwater(),
            stdout(),
            &OpenFiles::unchanged(),
        )
        .unwrap();
    assert_eq!(block_on(child.exited()), Ending::Exited(0));
    assert_eq!(directory.read("args"), "shell an argument\n");
}
