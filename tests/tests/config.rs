//! Configuration as a person meets it: `check`, `config`, exit codes, and every way to say a setting.

use std::time::Duration;

use slackwater_tests::addr::Addr;
use slackwater_tests::launch::Launch;
use slackwater_tests::process::Finished;

const LONG: Duration = Duration::from_secs(30);

fn run(settings: &str, args: &[&str]) -> Finished {
    Launch::playground()
        .whole_settings(settings)
        .args(args)
        .run(LONG)
}

fn said(finished: &Finished) -> String {
    format!("{}{}", finished.stdout, finished.stderr)
}

/// The line that `config KEY` prints.
fn value(launch: &Launch, key: &str) -> String {
    let finished = launch.clone().args(["config", key]).run(LONG);
    assert_eq!(finished.code(), Some(0), "config {key}: {finished:?}");
    finished.stdout
}

#[test]
fn a_sound_configuration_is_checked_and_nothing_is_served() {
    let finished = run(
        "listen = \"127.0.0.1:0\"\n[app]\ngreeting = \"Hi\"\n",
        &["check"],
    );
    assert_eq!(finished.code(), Some(0), "{finished:?}");
    assert!(!said(&finished).contains("listening on"));
}

#[test]
fn no_file_at_all_is_sound() {
    let finished = Launch::playground().no_settings().args(["check"]).run(LONG);
    assert_eq!(finished.code(), Some(0), "{finished:?}");
}

#[test]
fn all_faults_are_named_at_once_with_file_line_and_key() {
    let settings = "backlog = \"many\"\n\n[http]\nidle_timeot = \"5s\"\nbody_limit = \"2 Parsec\"\n\n[shutdwn]\ngrace = \"1s\"\n";
    for command in [&["check"][..], &[], &["serve"]] {
        let finished = run(settings, command);
        assert_eq!(finished.code(), Some(78), "{finished:?}");
        let said = said(&finished);
        for part in [
            "slackwater.toml:1",
            "backlog",
            "slackwater.toml:4",
            "http.idle_timeot",
            "idle_timeout",
        ] {
            assert!(said.contains(part), "{part}: {said}");
        }
        for part in [
            "slackwater.toml:5",
            "http.body_limit",
            "slackwater.toml:7",
            "shutdown",
        ] {
            assert!(said.contains(part), "{part}: {said}");
        }
        assert!(
            said.lines()
                .all(|line| line.starts_with("playground: slackwater.toml:")),
            "{said}"
        );
    }
}

#[test]
fn a_file_that_is_no_toml_is_named_with_its_line() {
    let finished = run("[http]\nidle_timeout = = 3\n", &["check"]);
    assert_eq!(finished.code(), Some(78), "{finished:?}");
    assert!(
        said(&finished).contains("slackwater.toml:2"),
        "{finished:?}"
    );
}

#[test]
fn an_unknown_key_of_the_app_is_only_warned_of() {
    let finished = run(
        "listen = \"127.0.0.1:0\"\n[app]\ngreting = \"Hi\"\n",
        &["check"],
    );
    assert_eq!(finished.code(), Some(0), "{finished:?}");
    assert!(said(&finished).contains("greting"), "{finished:?}");
}

#[test]
fn a_setting_of_the_app_of_a_wrong_type_is_refused() {
    let finished = run("[app]\n\ngreeting = 5\n", &["check"]);
    assert_eq!(finished.code(), Some(78), "{finished:?}");
    let said = said(&finished);
    assert!(
        said.contains("slackwater.toml:3") && said.contains("app.greeting"),
        "{said}"
    );
}

#[test]
fn a_named_file_must_exist() {
    let finished = run("", &["-c", "other.toml", "check"]);
    assert_eq!(finished.code(), Some(78), "{finished:?}");
    assert!(said(&finished).contains("other.toml"), "{finished:?}");
    let finished = Launch::playground()
        .env("SLACKWATER_CONFIG", "third.toml")
        .args(["check"])
        .run(LONG);
    assert_eq!(finished.code(), Some(78), "{finished:?}");
}

#[test]
fn later_layers_win() {
    let launch = Launch::playground()
        .whole_settings("[http]\nbody_limit = \"1MiB\"\n[app]\ngreeting = \"file\"\n");
    assert!(value(&launch, "app.greeting").contains("file"));
    assert!(
        value(&launch, "app.greeting").contains("slackwater.toml:4"),
        "it says where from"
    );
    let launch = launch.env("SLACKWATER_APP__GREETING", "environment");
    assert!(value(&launch, "app.greeting").contains("environment"));
    assert!(
        value(&launch, "app.greeting").contains("SLACKWATER_APP__GREETING"),
        "it says where from"
    );
    let launch = launch.args(["--set", "app.greeting=flag"]);
    assert!(value(&launch, "app.greeting").contains("flag"));
    assert!(value(&launch, "http.body_limit").contains("slackwater.toml:2"));
    assert!(value(&launch, "http.idle_timeout").contains("default"));
}

#[test]
fn text_from_the_environment_takes_the_type_of_its_target() {
    let launch = Launch::playground()
        .env("SLACKWATER_APP__GREETING", "123456")
        .env("SLACKWATER_BACKLOG", "7");
    assert!(value(&launch, "app.greeting").contains("123456"));
    assert!(value(&launch, "backlog").contains('7'));
    let process = launch.serve();
    assert_eq!(process.get("/greet/Ada"), "123456, Ada!");
}

#[test]
fn a_value_is_read_from_a_file() {
    let launch = Launch::playground();
    let path = launch.dir().write("greeting.txt", "from a file\n");
    let launch = launch.env("SLACKWATER_APP__GREETING_FILE", path);
    let said = value(&launch, "app.greeting");
    assert!(said.contains("SLACKWATER_APP__GREETING_FILE"), "{said}");
    assert!(
        !said.contains("from a file"),
        "what is kept in a file of its own is a secret: {said}"
    );
    assert_eq!(launch.serve().get("/greet/Ada"), "from a file, Ada!");
}

#[test]
fn profiles_override_and_are_chosen() {
    let settings = "[http]\nbody_limit = \"1KiB\"\n[profile.debug.http]\nbody_limit = \"2KiB\"\n\
                    [profile.staging.http]\nbody_limit = \"3KiB\"\n";
    let launch = Launch::playground().whole_settings(settings);
    let built = if cfg!(debug_assertions) { "2" } else { "1" };
    assert!(
        value(&launch, "http.body_limit").contains(built),
        "that of the build"
    );
    let named = launch.clone().args(["-p", "staging"]);
    assert!(value(&named, "http.body_limit").contains('3'));
    let by_environment = launch.env("SLACKWATER_PROFILE", "staging");
    assert!(value(&by_environment, "http.body_limit").contains('3'));
}

#[test]
fn a_plain_port_is_above_the_file_and_below_listen() {
    let launch = Launch::playground()
        .whole_settings("listen = \"127.0.0.1:1\"\n")
        .env("PORT", "0");
    let process = launch.serve();
    assert!(matches!(process.addr(), Addr::Tcp(addr) if addr.port() > 1));
    drop(process);
    let launch = launch.env("SLACKWATER_LISTEN", "127.0.0.3:0");
    assert!(launch.serve().addr().to_string().starts_with("127.0.0.3:"));
}

#[test]
fn what_kubernetes_injects_is_ignored() {
    let launch = Launch::playground().env("SLACKWATER_PORT", "tcp://10.0.0.1:80");
    let launch = launch
        .env("SLACKWATER_SERVICE_HOST", "10.0.0.1")
        .env("SLACKWATER_UNHEARD_OF", "x");
    let process = launch.serve();
    assert_eq!(process.get("/"), "Hello, world!");
}

#[test]
fn secrets_are_not_printed() {
    let settings = "[app]\ngreeting = \"Hi\"\ndb_password = \"hunter2\"\ndatabase = \"postgres://ada:hunter3@db/shop\"\n\
                    api_token = \"hunter4\"\n";
    let finished = run(settings, &["config"]);
    assert_eq!(finished.code(), Some(0), "{finished:?}");
    assert!(!said(&finished).contains("hunter"), "{finished:?}");
    assert!(finished.stdout.contains("db_password"), "{finished:?}");
}

#[test]
fn what_is_secret_by_its_type_is_not_printed() {
    let launch = Launch::fixture().settings("[app]\nvault = \"hunter5\"\npool = \"a\"\n");
    let finished = launch.args(["config", "app"]).run(LONG);
    assert_eq!(finished.code(), Some(0), "{finished:?}");
    assert!(
        finished.stdout.contains("app.vault = \"***\"")
            && finished.stdout.contains("app.pool = \"a\"")
    );
    assert!(!said(&finished).contains("hunter"), "{finished:?}");
}

#[test]
fn a_full_disk_is_told_of_and_a_reader_that_is_gone_is_not() {
    let full = std::fs::OpenOptions::new()
        .write(true)
        .open("/dev/full")
        .unwrap();
    let finished = Launch::playground()
        .stdout(&full)
        .args(["config"])
        .run(LONG);
    assert_eq!(finished.code(), Some(1), "{finished:?}");
    assert!(finished.stderr.contains("standard output"), "{finished:?}");
    let (reader, writer) = std::os::unix::net::UnixStream::pair().unwrap();
    drop(reader);
    let finished = Launch::playground()
        .stdout(&writer)
        .args(["config"])
        .run(LONG);
    assert_eq!(
        (finished.code(), &*finished.stderr),
        (Some(0), ""),
        "{finished:?}"
    );
}

#[test]
fn what_config_prints_is_all_settings_with_their_origins() {
    let finished = run("backlog = 9\n", &["config"]);
    assert_eq!(finished.code(), Some(0), "{finished:?}");
    for key in [
        "listen",
        "backlog",
        "http.idle_timeout",
        "shutdown.grace",
        "health.ready",
        "log.level",
    ] {
        let leaf = key.rsplit('.').next().unwrap();
        assert!(finished.stdout.contains(leaf), "{key}: {}", finished.stdout);
    }
    assert!(
        finished.stdout.contains("slackwater.toml:1"),
        "{}",
        finished.stdout
    );
    let unknown = run("", &["config", "http.nonsense"]);
    assert_ne!(unknown.code(), Some(0), "{unknown:?}");
}

#[test]
fn usage_ends_with_2_and_help_with_0() {
    for wrong in [
        &["--no-such-flag"][..],
        &["nonsense"],
        &["--set", "novalue"],
        &["-c"],
    ] {
        let finished = run("", wrong);
        assert_eq!(finished.code(), Some(2), "{wrong:?}: {finished:?}");
        assert!(!finished.stderr.is_empty(), "{wrong:?}");
    }
    for right in ["--help", "--version"] {
        let finished = run("", &[right]);
        assert_eq!(
            (finished.code(), finished.stdout.is_empty()),
            (Some(0), false),
            "{right}: {finished:?}"
        );
    }
}

#[test]
fn an_app_that_fails_ends_a_start_and_a_check_with_1() {
    for command in [&["check"][..], &["serve"]] {
        let finished = run(
            "listen = \"127.0.0.1:0\"\n[app]\nfail_start = true\n",
            command,
        );
        assert_eq!(finished.code(), Some(1), "{finished:?}");
        assert!(!said(&finished).trim().is_empty(), "it says why");
    }
}

#[test]
fn a_check_does_not_touch_a_running_process() {
    let process = Launch::playground().serve();
    let address = process.addr().to_string();
    let finished = run(&format!("listen = \"{address}\"\n"), &["check"]);
    assert_eq!(
        finished.code(),
        Some(0),
        "a port that is in use is no fault of the settings: {finished:?}"
    );
    assert_eq!(process.get("/"), "Hello, world!");
}
