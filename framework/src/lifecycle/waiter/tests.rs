//! A real process that becomes the waiter: this test binary, executed again, in the role of a first process.

use std::path::PathBuf;
use std::process::{Child, Command};
use std::time::{Duration, Instant};
use std::{env, thread};

use std::os::fd::AsFd;

use super::*;
use crate::sys::limits::OpenFiles;
use crate::sys::spawn::ChildEnvironment;

/// Which script is the first generation's successor; makes `role` a process of its own.
const SCRIPT: &str = "SLACKWATER_TEST_SUCCESSOR";

/// No test: what the processes below run. The first process starts a successor, tells that it is live, and becomes
/// the waiter, which is this function again.
#[test]
#[expect(
    clippy::exit,
    reason = "this process is a child that only has this status"
)]
fn role() {
    if let Some(status) = run_if_asked() {
        // ExitCode says its value to nobody but the system
        let status = format!("{status:?}")
            .chars()
            .filter(char::is_ascii_digit)
            .collect::<String>();
        std::process::exit(status.parse().unwrap());
    }
    let Ok(script) = env::var(SCRIPT) else { return };
    // as in a real one: it is caught, whatever becomes of it
    let _handlers = SignalsInfo::<WithOrigin>::new(PASSED_ON).unwrap();
    fs::write("handlers", "on").unwrap();
    let itself = Program::record();
    let newest = Newest::create().unwrap();
    be_subreaper().unwrap();
    let mut successor = Program::record();
    successor.replace("/bin/sh", &["-c", &script]);
    let none = ChildEnvironment::for_slackwater();
    let child = successor
        .start(
            "",
            &[],
            none,
            std::io::stdout().as_fd().try_clone_to_owned().unwrap(),
            &OpenFiles::unchanged(),
        )
        .unwrap();
    newest.announce(child.pid());
    while !script.starts_with("kill") && !fs::exists("started").unwrap() {
        thread::sleep(Duration::from_millis(1));
    }
    // memory and threads that are to be given back
    let ballast = vec![1_u8; 64 << 20];
    thread::spawn(thread::park);
    let error = becomes_waiter(&itself, &newest);
    panic!("{error} {}", ballast.len());
}

/// A first process in a directory of its own; killed at the end.
struct First {
    process: Child,
    directory: PathBuf,
}

impl First {
    fn start(test: &str, script: &str) -> Self {
        let first = First::begin(test, script);
        first.until("is the waiter", |first| first.environment().contains(ASKED));
        first
    }

    fn begin(test: &str, script: &str) -> Self {
        let directory =
            env::temp_dir().join(format!("slackwater-{}-waiter-{test}", std::process::id()));
        let _ = fs::remove_dir_all(&directory);
        fs::create_dir_all(&directory).unwrap();
        let mut command = Command::new(env::current_exe().unwrap());
        command.args([
            "--exact",
            "lifecycle::waiter::tests::role",
            "--nocapture",
            "--test-threads=1",
        ]);
        command
            .env(SCRIPT, script)
            .current_dir(&directory)
            .env("PWD", &directory)
            .stdout(Stdio::null());
        // a group of its own, so that all of it can be ended
        First {
            process: command.process_group(0).spawn().unwrap(),
            directory,
        }
    }

    fn until(&self, what: &str, happened: impl Fn(&Self) -> bool) {
        let begin = Instant::now();
        while !happened(self) {
            assert!(begin.elapsed() < Duration::from_secs(20), "{what}");
            thread::sleep(Duration::from_millis(5));
        }
    }

    fn environment(&self) -> String {
        self.proc("environ")
    }

    /// Of its threads: libtest's main thread is not the one that waits.
    fn names(&self) -> Vec<String> {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.process.id()))
            .into_iter()
            .flatten();
        tasks
            .filter_map(|task| fs::read_to_string(task.ok()?.path().join("comm")).ok())
            .collect()
    }

    fn proc(&self, file: &str) -> String {
        let bytes = fs::read(format!("/proc/{}/{file}", self.process.id())).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    fn read(&self, file: &str) -> String {
        fs::read_to_string(self.directory.join(file)).unwrap_or_default()
    }

    fn write(&self, file: &str) {
        fs::write(self.directory.join(file), "").unwrap();
    }

    fn signal(&self, signal: process::Signal) {
        process::kill_process(pid(self.process.id()).unwrap(), signal).unwrap();
    }

    fn status(&mut self) -> i32 {
        self.process.wait().unwrap().code().unwrap()
    }
}

impl Drop for First {
    fn drop(&mut self) {
        let _ = process::kill_process_group(pid(self.process.id()).unwrap(), process::Signal::KILL);
        let _ = self.process.wait();
        let _ = fs::remove_dir_all(&self.directory);
    }
}

const SLEEP: &str = "echo > started; while :; do sleep 0.05; done";

#[test]
fn signals_that_a_process_sends_reach_the_newest_one_and_its_status_is_ours() {
    let traps =
        "for s in HUP USR1 USR2 WINCH QUIT INT; do trap \"echo $s >> signals\" $s; done; trap 'exit 5' TERM";
    let mut first = First::start("signals", &format!("{traps}; {SLEEP}"));
    use process::Signal;
    let all = [
        ("HUP", Signal::HUP),
        ("USR1", Signal::USR1),
        ("USR2", Signal::USR2),
        ("WINCH", Signal::WINCH),
        ("QUIT", Signal::QUIT),
        ("INT", Signal::INT),
    ];
    for (name, signal) in all {
        first.signal(signal);
        first.until(name, |first| {
            first.read("signals").ends_with(&format!("{name}\n"))
        });
    }
    assert_eq!(
        first.read("signals").lines().count(),
        all.len(),
        "each once"
    );
    first.signal(Signal::TERM);
    assert_eq!(first.status(), 5);
}

#[test]
fn no_signal_kills_it_at_any_moment_of_the_exec() {
    let script =
        "trap 'echo >> heard' USR1; trap 'exit 6' TERM; echo > started; while :; do sleep 0.01; done";
    let mut first = First::begin("exec", script);
    first.until("has handlers", |first| !first.read("handlers").is_empty());
    while !first.environment().contains(ASKED) || first.read("heard").is_empty() {
        first.signal(process::Signal::USR1);
        thread::sleep(Duration::from_micros(200));
        assert_eq!(first.process.try_wait().unwrap(), None);
    }
    first.signal(process::Signal::TERM);
    assert_eq!(first.status(), 6);
}

#[test]
fn a_newest_one_that_is_killed_gives_128_and_the_signal() {
    let mut first = First::begin("killed", "kill -9 $$");
    assert_eq!(first.status(), 128 + 9);
}

#[test]
fn orphans_are_reaped_and_nothing_but_the_newest_one_counts() {
    // an orphan that ends with a status of its own before the newest does, which is told when to
    let script =
        "(sh -c 'echo $$ > orphan; until [ -e go ]; do sleep 0.01; done; exit 9' &); echo > started; \
                  until [ -e enough ]; do sleep 0.01; done; exit 2";
    let mut first = First::start("orphans", script);
    first.until("orphan", |first| !first.read("orphan").trim().is_empty());
    first.write("go");
    let orphan = format!("/proc/{}", first.read("orphan").trim());
    first.until("reaped", |_| !std::path::Path::new(&orphan).exists());
    assert_eq!(first.process.try_wait().unwrap(), None);
    first.write("enough");
    assert_eq!(first.status(), 2);
}

#[test]
fn memory_and_threads_are_given_back_and_the_name_is_kept() {
    let first = First::start("memory", SLEEP);
    // libtest has a thread for the test besides its own
    first.until("threads", |first| {
        first.proc("status").contains("Threads:\t2\n")
    });
    let status = first.proc("status");
    let line = status
        .lines()
        .find(|line| line.starts_with("VmRSS:"))
        .unwrap();
    let kilobytes: u64 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
    assert!(kilobytes < 32 << 10, "{line}");
    first.until("has its name", |first| {
        first
            .names()
            .iter()
            .any(|name| name.starts_with("slackwater-"))
    });
}
