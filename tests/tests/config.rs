//! Configuration from the command line: `check`, `config`, exit codes, and every source of a setting.

use std::time::Duration;

use slackwater_tests::addr::Addr;
use slackwater_tests::launch::Launch;
use slackwater_tests::process::ProgramOutput;

const LONG: Duration = Duration::from_secs(30);

fn run(settings: &str, args: &[&str]) -> ProgramOutput {
    Launch::playground()
        .whole_settings(settings)
        .args(args)
        .run(LONG)
}

/// Returns standard output followed by standard error.
fn output_of(finished: &ProgramOutput) -> String {
    format!("{}{}", finished.stdout, finished.stderr)
}

/// Returns the line that `config KEY` prints.
fn value(launch: &Launch, key: &str) -> String {
    let finished = launch.clone().args(["config", key]).run(LONG);
    assert_eq!(finished.code(), Some(0), "config {key}: {finished:?}");
    finished.stdout
}

#[test]
fn check_accepts_a_valid_configuration_and_does_not_serve() {
    let finished = run(
        "listen = \"127.0.0.1:0\"\n[app]\ngreeting = \"Hi\"\n",
        &["check"],
    );
    assert_eq!(finished.code(), Some(0), "{finished:?}");
    assert!(!output_of(&finished).contains("listening on"));
}

#[test]
fn check_accepts_a_missing_default_file() {
    let finished = Launch::playground().no_settings().args(["check"]).run(LONG);
    assert_eq!(finished.code(), Some(0), "{finished:?}");
}

#[test]
fn all_errors_are_reported_at_once_with_file_line_and_key() {
    let settings = "backlog = \"many\"\n\n[http]\nidle_timeot = \"5s\"\nbody_limit = \"2 Parsec\"\n\n[shutdwn]\ngrace = \"1s\"\n";
    for command in [&["check"][..], &[], &["serve"]] {
        let finished = run(settings, command);
        assert_eq!(finished.code(), Some(78), "{finished:?}");
        let output = output_of(&finished);
        for part in [
            "slackwater.toml:1",
            "backlog",
            "slackwater.toml:4",
            "http.idle_timeot",
            "idle_timeout",
        ] {
            assert!(output.contains(part), "{part}: {output}");
        }
        for part in [
            "slackwater.toml:5",
            "http.body_limit",
            "slackwater.toml:7",
            "shutdown",
        ] {
            assert!(output.contains(part), "{part}: {output}");
        }
        assert!(
            output
                .lines()
                .all(|line| line.starts_with("playground: slackwater.toml:")),
            "{output}"
        );
    }
}

#[test]
fn a_syntax_error_is_reported_with_file_and_line() {
    let finished = run("[http]\nidle_timeout = = 3\n", &["check"]);
    assert_eq!(finished.code(), Some(78), "{finished:?}");
    assert!(
        output_of(&finished).contains("slackwater.toml:2"),
        "{finished:?}"
    );
}

#[test]
fn an_unknown_key_of_the_app_is_only_a_warning() {
    let finished = run(
        "listen = \"127.0.0.1:0\"\n[app]\ngreting = \"Hi\"\n",
        &["check"],
    );
    assert_eq!(finished.code(), Some(0), "{finished:?}");
    assert!(output_of(&finished).contains("greting"), "{finished:?}");
}

#[test]
fn an_app_setting_of_the_wrong_type_is_an_error() {
    let finished = run("[app]\n\ngreeting = 5\n", &["check"]);
    assert_eq!(finished.code(), Some(78), "{finished:?}");
    let output = output_of(&finished);
    assert!(
        output.contains("slackwater.toml:3") && output.contains("app.greeting"),
        "{output}"
    );
}

#[test]
fn a_file_named_by_a_flag_or_the_environment_must_exist() {
    let finished = run("", &["-c", "other.toml", "check"]);
    assert_eq!(finished.code(), Some(78), "{finished:?}");
    assert!(output_of(&finished).contains("other.toml"), "{finished:?}");
    let finished = Launch::playground()
        .env("SLACKWATER_CONFIG", "third.toml")
        .args(["check"])
        .run(LONG);
    assert_eq!(finished.code(), Some(78), "{finished:?}");
}

#[test]
fn flags_override_the_environment_which_overrides_the_file() {
    let launch = Launch::playground()
        .whole_settings("[http]\nbody_limit = \"1MiB\"\n[app]\ngreeting = \"file\"\n");
    assert!(value(&launch, "app.greeting").contains("file"));
    assert!(
        value(&launch, "app.greeting").contains("slackwater.toml:4"),
        "the origin is printed"
    );
    let launch = launch.env("SLACKWATER_APP__GREETING", "environment");
    assert!(value(&launch, "app.greeting").contains("environment"));
    assert!(
        value(&launch, "app.greeting").contains("SLACKWATER_APP__GREETING"),
        "the origin is printed"
    );
    let launch = launch.args(["--set", "app.greeting=flag"]);
    assert!(value(&launch, "app.greeting").contains("flag"));
    assert!(value(&launch, "http.body_limit").contains("slackwater.toml:2"));
    assert!(value(&launch, "http.idle_timeout").contains("default"));
}

#[test]
fn a_value_from_the_environment_is_converted_to_the_type_of_its_setting() {
    let launch = Launch::playground()
        .env("SLACKWATER_APP__GREETING", "123456")
        .env("SLACKWATER_BACKLOG", "7");
    assert!(value(&launch, "app.greeting").contains("123456"));
    assert!(value(&launch, "backlog").contains('7'));
    let process = launch.serve();
    assert_eq!(process.get("/greet/Ada"), "123456, Ada!");
}

#[test]
fn a_variable_that_ends_with_file_names_a_file_with_a_secret() {
    let launch = Launch::playground();
    let path = launch.dir().write("greeting.txt", "from a file\n");
    let launch = launch.env("SLACKWATER_APP__GREETING_FILE", path);
    let output = value(&launch, "app.greeting");
    assert!(output.contains("SLACKWATER_APP__GREETING_FILE"), "{output}");
    assert!(
        !output.contains("from a file"),
        "a value from a file is secret: {output}"
    );
    assert_eq!(launch.serve().get("/greet/Ada"), "from a file, Ada!");
}

#[test]
fn the_profile_comes_from_the_build_a_flag_or_the_environment() {
    let settings = "[http]\nbody_limit = \"1KiB\"\n[profile.debug.http]\nbody_limit = \"2KiB\"\n\
                    [profile.staging.http]\nbody_limit = \"3KiB\"\n";
    let launch = Launch::playground().whole_settings(settings);
    let built = if cfg!(debug_assertions) { "2" } else { "1" };
    assert!(
        value(&launch, "http.body_limit").contains(built),
        "the profile of the build"
    );
    let named = launch.clone().args(["-p", "staging"]);
    assert!(value(&named, "http.body_limit").contains('3'));
    let by_environment = launch.env("SLACKWATER_PROFILE", "staging");
    assert!(value(&by_environment, "http.body_limit").contains('3'));
}

#[test]
fn the_variable_port_overrides_the_file_but_not_slackwater_listen() {
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
fn variables_that_kubernetes_injects_are_ignored() {
    let launch = Launch::playground().env("SLACKWATER_PORT", "tcp://10.0.0.1:80");
    let launch = launch
        .env("SLACKWATER_SERVICE_HOST", "10.0.0.1")
        .env("SLACKWATER_UNHEARD_OF", "x");
    let process = launch.serve();
    assert_eq!(process.get("/"), "Hello, world!");
}

#[test]
fn config_does_not_print_values_whose_keys_look_secret() {
    let settings = "[app]\ngreeting = \"Hi\"\ndb_password = \"hunter2\"\ndatabase = \"postgres://ada:hunter3@db/shop\"\n\
                    api_token = \"hunter4\"\n";
    let finished = run(settings, &["config"]);
    assert_eq!(finished.code(), Some(0), "{finished:?}");
    assert!(!output_of(&finished).contains("hunter"), "{finished:?}");
    assert!(finished.stdout.contains("db_password"), "{finished:?}");
}

#[test]
fn config_does_not_print_values_of_the_type_secret() {
    let launch = Launch::fixture().settings("[app]\nvault = \"hunter5\"\npool = \"a\"\n");
    let finished = launch.args(["config", "app"]).run(LONG);
    assert_eq!(finished.code(), Some(0), "{finished:?}");
    assert!(
        finished.stdout.contains("app.vault = \"***\"")
            && finished.stdout.contains("app.pool = \"a\"")
    );
    assert!(!output_of(&finished).contains("hunter"), "{finished:?}");
}

#[test]
fn config_fails_on_a_full_disk_but_not_on_a_closed_pipe() {
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
fn config_prints_all_settings_with_their_origins() {
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
fn wrong_usage_exits_with_2_and_help_with_0() {
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
fn serve_and_check_exit_with_1_if_the_app_fails() {
    for command in [&["check"][..], &["serve"]] {
        let finished = run(
            "listen = \"127.0.0.1:0\"\n[app]\nfail_start = true\n",
            command,
        );
        assert_eq!(finished.code(), Some(1), "{finished:?}");
        assert!(
            !output_of(&finished).trim().is_empty(),
            "the error is printed"
        );
    }
}

#[test]
fn check_does_not_disturb_a_running_process() {
    let process = Launch::playground().serve();
    let address = process.addr().to_string();
    let finished = run(&format!("listen = \"{address}\"\n"), &["check"]);
    assert_eq!(
        finished.code(),
        Some(0),
        "check accepts a port that is in use: {finished:?}"
    );
    assert_eq!(process.get("/"), "Hello, world!");
}
