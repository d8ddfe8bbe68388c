//! Real children, which print what they were given into a file.

use std::fs;
use std::os::fd::AsFd;
use std::path::PathBuf;

use async_std::task::block_on;

use super::*;
use crate::sys::child::Ending;

fn stdout() -> std::os::fd::OwnedFd {
    std::io::stdout().as_fd().try_clone_to_owned().unwrap()
}

/// A directory of a test's own, removed at its end.
struct Place(PathBuf);

impl Place {
    fn new(test: &str) -> Self {
        let path =
            std::env::temp_dir().join(format!("slackwater-{}-spawn-{test}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).unwrap();
        Place(path)
    }

    fn read(&self, file: &str) -> String {
        fs::read_to_string(self.0.join(file)).unwrap()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A program that is `sh -c SCRIPT`, started in the test's directory.
fn shell(place: &Place, script: &str) -> Program {
    let mut program = Program::record();
    program.called = "/bin/sh".into();
    program.args = vec![
        "-c".into(),
        script.into(),
        "shell".into(),
        "an argument".into(),
    ];
    program.directory = Some(place.0.clone());
    program
}

/// The same, started where this process is.
fn here(place: &Place, script: &str) -> Program {
    let mut program = shell(place, &format!("cd {}\n{script}", place.0.display()));
    program.directory = None;
    program
}

fn run(program: &Program, passed: &[Passed<'_>], environment: Environment) -> Ending {
    let child = program
        .start("", passed, environment, stdout(), &OpenFiles::as_they_are())
        .unwrap();
    block_on(child.exited())
}

fn passed<'a>(files: &'a [fs::File], names: &[&str]) -> Vec<Passed<'a>> {
    files
        .iter()
        .zip(names)
        .map(|(file, name)| Passed {
            fd: file.as_fd(),
            name: (*name).into(),
        })
        .collect()
}

fn files(place: &Place, count: usize) -> Vec<fs::File> {
    (0..count)
        .map(|number| fs::File::create(place.0.join(format!("file{number}"))).unwrap())
        .collect()
}

const PRINT: &str = "env > env; ulimit -S -n > limit; echo $$ > pid; echo \"$0 $1\" > args
    for fd in /proc/$$/fd/*; do echo \"${fd##*/} $(readlink $fd)\"; done > fds
    grep -E 'Sig(Blk|Ign)' /proc/self/status > signals";

#[test]
fn descriptors_arrive_in_order_and_nothing_else_does() {
    descriptors_arrive("fds", shell);
    descriptors_arrive("fds-here", here);
}

fn descriptors_arrive(test: &str, shell: fn(&Place, &str) -> Program) {
    let place = Place::new(test);
    let files = files(&place, 5);
    let names = ["web", "a:b", "", "admin", "slackwater-handover"];
    assert_eq!(
        run(
            &shell(&place, PRINT),
            &passed(&files, &names),
            Environment::ours()
        ),
        Ending::Exited(0)
    );
    for number in 0..5 {
        let line = format!(
            "{} {}",
            number + 3,
            place.0.join(format!("file{number}")).display()
        );
        assert!(
            place.read("fds").lines().any(|found| found == line),
            "{}",
            place.read("fds")
        );
    }
    // none twice, none under another number; the sixth is the list itself, which the shell writes
    let here = place.0.display().to_string();
    assert_eq!(
        place
            .read("fds")
            .lines()
            .filter(|line| line.contains(&here))
            .count(),
        6,
        "{}",
        place.read("fds")
    );
    let env = place.read("env");
    assert!(env.contains("\nLISTEN_FDS=5\n"), "{env}");
    assert!(
        env.contains("\nLISTEN_FDNAMES=web:a_b::admin:slackwater-handover\n"),
        "{env}"
    );
    assert!(!env.contains("LISTEN_PID"), "{env}");
    assert_eq!(place.read("args"), "shell an argument\n");
}

#[test]
fn the_environment_is_made_for_the_child() {
    the_environment_is_made("env", shell);
    the_environment_is_made("env-here", here);
}

fn the_environment_is_made(test: &str, shell: fn(&Place, &str) -> Program) {
    let place = Place::new(test);
    let mut program = shell(&place, PRINT);
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
    let environment = Environment::ours()
        .with("NOTIFY_SOCKET", "@private")
        .with("MORE", "a b");
    let variables = program.variables(&[], environment.clone(), &OpenFiles::as_they_are());
    assert_eq!(
        variables
            .iter()
            .filter(|(name, _)| name == "NOTIFY_SOCKET")
            .count(),
        1,
        "{variables:?}"
    );
    assert_eq!(run(&program, &[], environment), Ending::Exited(0));
    let env = place.read("env");
    for line in [
        "NOTIFY_SOCKET=@private",
        "MORE=a b",
        "WATCHDOG_USEC=1",
        &format!("PWD={}", place.0.display()),
    ] {
        assert!(env.lines().any(|found| found == line), "{line} in {env}");
    }
    assert!(
        !env.contains("LISTEN_") && !env.contains("WATCHDOG_PID"),
        "{env}"
    );
    let soft = OpenFiles::as_they_are().born().current.unwrap();
    assert!(
        env.contains(&format!("\nSLACKWATER_BORN_OPEN_FILES={soft}\n")),
        "{env}"
    );
}

#[test]
fn a_stranger_has_its_pid_and_the_limit_as_it_was() {
    let place = Place::new("stranger");
    let files = files(&place, 1);
    let program = shell(&place, PRINT);
    let limits = OpenFiles::as_they_are().born_with(Some(100));
    let stranger = Environment::stranger();
    let child = program
        .start("", &passed(&files, &["web"]), stranger, stdout(), &limits)
        .unwrap();
    assert_eq!(block_on(child.exited()), Ending::Exited(0));
    assert_eq!(place.read("limit"), "100\n");
    assert_eq!(place.read("pid"), format!("{}\n", child.pid()));
    let env = place.read("env");
    assert!(
        env.contains(&format!("LISTEN_PID={}\n", child.pid())),
        "{env}"
    );
    assert!(!env.contains("SLACKWATER_"), "{env}");
    assert_eq!(place.read("args"), "shell an argument\n");
}

#[test]
fn no_signal_is_blocked_or_ignored_in_the_child() {
    signals_are_default("signals", shell);
    signals_are_default("signals-here", here);
}

fn signals_are_default(test: &str, shell: fn(&Place, &str) -> Program) {
    let place = Place::new(test);
    assert_eq!(
        run(&shell(&place, PRINT), &[], Environment::ours()),
        Ending::Exited(0)
    );
    let signals = place.read("signals");
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
fn a_working_directory_that_is_gone_is_no_obstacle() {
    let place = Place::new("cwd");
    let gone = place.0.join("gone");
    let mut program = shell(&place, "exit 5");
    program.directory = Some(gone);
    assert_eq!(run(&program, &[], Environment::ours()), Ending::Exited(5));
}

#[test]
fn what_cannot_be_executed_says_why() {
    let place = Place::new("refused");
    let script = place.0.join("script");
    fs::write(&script, "#!/nonexistent/interpreter\n").unwrap();
    fs::set_permissions(&script, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    refuses_the_interpreter(&shell(&place, ""), &script);
    refuses_the_interpreter(&here(&place, ""), &script);
}

fn refuses_the_interpreter(program: &Program, script: &std::path::Path) {
    let exec = script.to_str().unwrap();
    let start = || {
        program
            .start(
                exec,
                &[],
                Environment::ours(),
                stdout(),
                &OpenFiles::as_they_are(),
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
fn exec_takes_the_place_of_the_program_and_keeps_its_arguments() {
    let place = Place::new("exec");
    std::os::unix::fs::symlink("/bin/sh", place.0.join("next")).unwrap();
    let mut program = shell(&place, PRINT);
    program.called = "/nonexistent".into();
    let child = program
        .start(
            "./next",
            &[],
            Environment::ours(),
            stdout(),
            &OpenFiles::as_they_are(),
        )
        .unwrap();
    assert_eq!(block_on(child.exited()), Ending::Exited(0));
    assert_eq!(place.read("args"), "shell an argument\n");
}
