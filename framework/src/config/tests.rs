//! Tests of the behaviour that operators see: precedence of sources, error messages, printed settings.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

use figment::providers::Serialized;
use figment::Figment;
use proptest::prelude::*;
use serde::Deserialize;

use super::*;

/// A directory with a `slackwater.toml`, an environment and a command line.
struct TestConfig {
    directory: PathBuf,
    sources: ConfigSources,
}

impl Drop for TestConfig {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

fn config(toml: impl AsRef<[u8]>) -> TestConfig {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let directory =
        std::env::temp_dir().join(format!("slackwater-config-{}-{count}", std::process::id()));
    std::fs::create_dir_all(&directory).unwrap();
    let default_file = directory.join("slackwater.toml");
    std::fs::write(&default_file, toml).unwrap();
    TestConfig {
        directory,
        sources: ConfigSources {
            default_file,
            profile: Some("debug".into()),
            ..ConfigSources::new("shop")
        },
    }
}

impl TestConfig {
    fn env(mut self, name: &str, value: &str) -> Self {
        self.sources.env.push((name.into(), value.into()));
        self
    }

    fn set(mut self, set: &str) -> Self {
        self.sources.sets.push(set.into());
        self
    }

    fn profile(mut self, name: &str) -> Self {
        self.sources.profile = Some(name.into());
        self
    }

    fn file(self, name: &str, text: &str) -> Self {
        std::fs::write(self.directory.join(name), text).unwrap();
        self
    }

    fn path(&self, name: &str) -> String {
        self.directory.join(name).display().to_string()
    }

    #[expect(
        clippy::needless_pass_by_value,
        reason = "callers pass errors and texts without a reference"
    )]
    fn without_directory(&self, text: impl ToString) -> String {
        text.to_string()
            .replace(&format!("{}/", self.directory.display()), "")
    }

    fn load(&self) -> LoadedConfig {
        self.sources.load().unwrap()
    }

    fn load_error(&self) -> String {
        self.without_directory(self.sources.load().err().unwrap().chain())
    }

    fn app<T: serde::de::DeserializeOwned>(&self) -> T {
        self.load().app().unwrap()
    }

    fn app_error<T: serde::de::DeserializeOwned>(&self) -> String {
        self.without_directory(self.load().app::<T>().err().unwrap())
    }

    fn warnings(&self) -> Vec<String> {
        self.load()
            .warnings
            .iter()
            .map(|warning| self.without_directory(warning))
            .collect()
    }

    fn config_text(&self, key: &str) -> String {
        self.without_directory(config_text(&self.load(), Some(key)).unwrap())
    }
}

#[derive(Deserialize, Debug, PartialEq)]
struct Greeting {
    greeting: String,
}

fn tcp(host: &str, port: u16) -> Listen {
    Listen::Tcp {
        host: host.into(),
        port,
    }
}

#[test]
fn without_any_source_every_setting_has_its_default() {
    let nowhere = ConfigSources {
        default_file: "does-not-exist.toml".into(),
        ..ConfigSources::new("shop")
    };
    let loaded = nowhere.load().unwrap();
    assert_eq!(loaded.config, Config::default());
    assert_eq!((loaded.warnings, loaded.files), (vec![], vec![]));
}

#[test]
fn a_later_source_overrides_an_earlier_one() {
    let base = || Figment::from(Serialized::default("http.max_headers", 1)).join(("backlog", 7));
    let with = |config: TestConfig| {
        let mut sources = config.sources.clone();
        sources.figment = Some(base());
        sources.load().unwrap().config.http.max_headers
    };
    let in_file = "[http]\nmax_headers = 2\n";
    let in_profile = "[http]\nmax_headers = 2\n[profile.debug.http]\nmax_headers = 3\n";
    assert_eq!(with(config("")), 1);
    assert_eq!(with(config(in_file)), 2);
    assert_eq!(with(config(in_profile)), 3);
    assert_eq!(
        with(config(in_profile).env("SLACKWATER_HTTP__MAX_HEADERS", "4")),
        4
    );
    assert_eq!(
        with(
            config(in_profile)
                .env("slackwater_http__max_headers", "4")
                .set("http.max_headers=5")
        ),
        5
    );
}

#[test]
fn a_profile_overrides_only_the_keys_it_contains() {
    let toml = "[http]\nmax_headers = 2\nbody_limit = 5\n[profile.staging.http]\nmax_headers = 3\n[profile.other]\nx = 1\n";
    let http = config(toml).profile("staging").load().config.http;
    assert_eq!((http.max_headers, http.body_limit), (3, Some(5)));
    assert_eq!(config(toml).load().config.http.max_headers, 2);
    let warned = config(toml).profile("stagin").warnings();
    assert_eq!(
        warned,
        ["slackwater.toml: [profile.stagin] does not exist; did you mean staging?"]
    );
}

#[test]
fn port_overrides_the_file_and_slackwater_listen_overrides_port() {
    let file = r#"listen = "unix:app.sock""#;
    let address = if cfg!(debug_assertions) {
        Ipv4Addr::LOCALHOST
    } else {
        Ipv4Addr::UNSPECIFIED
    }
    .to_string();
    let listen = |config: TestConfig| config.load().config.listen.unwrap();
    assert_eq!(listen(config(file)), [Listen::Unix("app.sock".into())]);
    assert_eq!(
        listen(config(file).env("PORT", "5000")),
        [tcp(&address, 5000)]
    );
    let both = config(file)
        .env("PORT", "5000")
        .env("SLACKWATER_LISTEN", "[::1]:1,fd:web");
    assert_eq!(listen(both), [tcp("::1", 1), Listen::Fd("web".into())]);
    let wrong = config(file).env("PORT", "tcp").load_error();
    assert_eq!(
        wrong,
        r#"environment PORT: expected a port (0 to 65535), found "tcp""#
    );
}

#[test]
fn all_errors_are_reported_at_once_with_their_locations() {
    let toml = r#"
backlog = 0
listen = [":8080", "a:1"]
[http]
body_limt = "2MiB"
header_timeout = 10
max_header_bytes = "4KiB"
[htttp]
[shutdown]
grace = "1 eternity"
[profile.debug.log]
lvel = "info"
format = "jsn"
"#;
    let config = config(toml)
        .env("SLACKWATER_HTTP__BODY_LIMIT", "lots")
        .set("http.x=1")
        .set("reload.watch=maybe");
    let expected = r#"
environment SLACKWATER_HTTP__BODY_LIMIT: expected a size such as "2MiB" or "none", found string "lots"
--set http.x: unknown key
--set reload.watch: expected true or false, found string "maybe"
slackwater.toml:2: backlog: must be at least 1, found 0
slackwater.toml:3: listen: expected HOST:PORT, unix:PATH or fd:NAME, found ":8080": the address is missing; write "127.0.0.1:8080" for this machine or "0.0.0.0:8080" for every address
slackwater.toml:5: http.body_limt: unknown key; did you mean http.body_limit?
slackwater.toml:6: http.header_timeout: expected a duration such as "30s" or "none", found integer 10; add a unit, as in "10s"
slackwater.toml:7: http.max_header_bytes: must be at least 8KiB, found 4KiB
slackwater.toml:8: htttp: unknown key; did you mean http?
slackwater.toml:10: shutdown.grace: expected a duration such as "30s" or "auto", found string "1 eternity"
slackwater.toml:12: log.lvel: unknown key; did you mean log.level?
slackwater.toml:13: log.format: expected "auto", "pretty", "json" or "off", found string "jsn"; did you mean json?"#;
    let error = config.load_error();
    let mut expected: Vec<&str> = expected.trim().lines().collect();
    let mut lines: Vec<&str> = error.lines().collect();
    expected.sort_unstable();
    lines.sort_unstable();
    assert_eq!(lines, expected);
    let error = config.sources.load().err().unwrap();
    assert!(error.is_config());
    assert_eq!(error.exit_code(), 78);
}

#[test]
fn max_header_bytes_is_limited_to_the_size_of_a_handover_message() {
    assert_eq!(
        config("[http]\nmax_header_bytes = \"1MiB\"\n").load_error(),
        "slackwater.toml:2: http.max_header_bytes: must be at most 120KiB, found 1MiB"
    );
}

#[test]
fn errors_in_the_file_name_line_and_column() {
    assert_eq!(
        config("backlog = 1\n[http\n").load_error(),
        "slackwater.toml:2:6: invalid table header, expected `.`, `]`"
    );
    assert_eq!(
        config("a = 1\na = 2\n").load_error(),
        "slackwater.toml:2:1: duplicate key `a` in document root"
    );
    assert_eq!(
        config(b"\n# \xff\n").load_error(),
        "slackwater.toml:2: not UTF-8 text"
    );
    assert_eq!(
        config("profile = 1").load_error(),
        "slackwater.toml:1: profile: expected a table, found integer 1"
    );
    assert_eq!(
        config("app = 1").load_error(),
        "slackwater.toml:1: app: expected a table, found integer 1"
    );
    assert_eq!(
        config("http = 1").load_error(),
        "slackwater.toml:1: http: expected a table, found integer 1"
    );
    assert_eq!(
        config("greeting = 'hi'").load_error(),
        "slackwater.toml:1: greeting: unknown key; the application's own settings belong under [app]"
    );
    let mut directory = config("");
    directory.sources.file = Some(directory.directory.clone());
    assert!(
        directory
            .load_error()
            .ends_with(": Is a directory (os error 21)"),
        "{}",
        directory.load_error()
    );
    directory.sources.file = Some(directory.directory.join("shop.toml"));
    assert_eq!(
        directory.load_error(),
        "configuration file shop.toml (given with -c) does not exist"
    );
}

#[test]
fn a_timeout_of_zero_is_rejected() {
    let error = config("[http]\nidle_timeout = '0s'").load_error();
    assert_eq!(
        error,
        r#"slackwater.toml:2: http.idle_timeout: must be at least 1ms or "none", found 0s"#
    );
}

#[test]
fn health_routes_must_differ() {
    let error = config("[health]\nlive = \"/readyz\"").load_error();
    let expected = r#"slackwater.toml:2: health.live: health.live and health.ready must differ, both are "/readyz""#;
    assert_eq!(error, expected);
    assert_eq!(
        config("[health]\nlive = ''\nready = ''")
            .load()
            .config
            .health
            .ready,
        ""
    );
}

#[test]
fn entries_of_listen_are_parsed() {
    let cases = [
        ("localhost:80", Ok(tcp("localhost", 80))),
        ("[::]:0", Ok(tcp("::", 0))),
        ("[fe80::1%eth0]:1", Ok(tcp("fe80::1%eth0", 1))),
        ("unix:run/app.sock", Ok(Listen::Unix("run/app.sock".into()))),
        ("fd:web", Ok(Listen::Fd("web".into()))),
        (
            "::1:80",
            Err("write an IPv6 address in brackets, as in \"[::1]:8080\""),
        ),
        (
            "http://a:80",
            Err("it is a URL, not an address; remove the scheme before the host"),
        ),
        ("a:65536", Err("\"65536\" is not a port (0 to 65535)")),
        ("a", Err("the port is missing")),
        ("unix:", Err("a path is missing")),
        ("[x]:1", Err("\"x\" is not an IPv6 address")),
    ];
    for (entry, expected) in cases {
        let parsed = Listen::parse(entry);
        assert!(parsed.iter().all(|listen| listen.to_string() == entry));
        let prefix = format!("expected HOST:PORT, unix:PATH or fd:NAME, found {entry:?}: ");
        assert_eq!(parsed, expected.map_err(|why| format!("{prefix}{why}")));
    }
    let twice = config(r#"listen = ["a:1", "a:1"]"#).load_error();
    assert_eq!(twice, r#"slackwater.toml:1: listen: "a:1" is listed twice"#);
}

#[test]
fn every_example_is_valid_and_differs_from_the_default() {
    let has_metrics = cfg!(feature = "metrics");
    let is_usable = |key: &str| has_metrics || !key.starts_with("metrics.");
    for field in Config::FIELDS.iter().filter(|field| is_usable(field.key)) {
        let (loaded, defaults) = (
            config(format!("{} = {}", field.key, field.example)).load(),
            Config::default(),
        );
        assert_ne!(
            (field.show)(&loaded.config),
            (field.show)(&defaults),
            "{}",
            field.key
        );
        assert!(
            !field.about.is_empty() && !(field.expects)().is_empty(),
            "{}",
            field.key
        );
        let changes = diff(&config("").load(), &loaded);
        assert_eq!(
            changes
                .iter()
                .map(|change| change.key.as_str())
                .collect::<Vec<_>>(),
            [field.key]
        );
    }
}

#[test]
fn settings_of_metrics_are_rejected_in_a_program_without_the_feature() {
    let mut config = Config::default();
    assert!(config.contradictions(false).is_empty());
    config.metrics.path = "/metrics".into();
    assert!(config.contradictions(true).is_empty());
    let messages: Vec<String> = config
        .contradictions(false)
        .into_iter()
        .map(|(_, message)| message)
        .collect();
    assert_eq!(
        messages,
        ["this program was built without slackwater's feature `metrics`"]
    );
}

#[test]
fn unknown_variables_cause_warnings_except_variables_of_kubernetes() {
    let config = config("")
        .env("SLACKWATER_HTTP_BODY_LIMIT", "1")
        .env("SLACKWATER_HTTP", "1")
        .env("SLACKWATER_NONSENSE__OF__SOME__KIND", "1")
        .env("SLACKWATER_PORT", "8080")
        .env("SLACKWATER_SERVICE_HOST", "10.0.0.1")
        .env("SLACKWATER_SERVICE_PORT_HTTP", "80")
        .env("SLACKWATER_PORT_80_TCP_ADDR", "10.0.0.1")
        .env("SLACKWATER_WEB_PORT", "tcp://10.0.0.1:80");
    let expected = [
        "environment SLACKWATER_HTTP: http is a table, ignored; set one of its keys, as in SLACKWATER_HTTP__KEY",
        "environment SLACKWATER_HTTP_BODY_LIMIT: unknown, ignored; did you mean SLACKWATER_HTTP__BODY_LIMIT?",
        "environment SLACKWATER_NONSENSE__OF__SOME__KIND: unknown, ignored",
        "environment SLACKWATER_PORT: unknown, ignored; did you mean PORT or SLACKWATER_LISTEN?",
    ];
    assert_eq!(config.warnings(), expected);
    assert_eq!(config.load().config, Config::default());
}

#[test]
fn a_file_variable_takes_the_value_from_a_file() {
    let base = config("").file("limit", "1MiB\n").file("password", "123\n");
    let (limit, password) = (base.path("limit"), base.path("password"));
    let config = base
        .env("SLACKWATER_HTTP__BODY_LIMIT_FILE", &limit)
        .env("SLACKWATER_APP__GREETING_FILE", &password);
    assert_eq!(config.load().config.http.body_limit, Some(1 << 20));
    assert_eq!(
        config.app::<Greeting>(),
        Greeting {
            greeting: "123".into()
        }
    );
    assert_eq!(
        config.config_text("app"),
        "app.greeting = \"***\"  # environment SLACKWATER_APP__GREETING_FILE\n"
    );

    #[derive(Deserialize)]
    struct KeyFile {
        greeting_file: PathBuf,
    }
    assert_eq!(
        config.app::<KeyFile>().greeting_file,
        PathBuf::from(&password)
    );

    let config = config.env("SLACKWATER_APP__GREETING", "x");
    let error = "environment SLACKWATER_APP__GREETING_FILE: SLACKWATER_APP__GREETING sets the same key; remove one of them";
    assert_eq!(config.load_error(), error);
}

#[test]
fn a_missing_file_of_a_file_variable_is_an_error_if_its_value_is_needed() {
    let config = config("").env("SLACKWATER_APP__GREETING_FILE", "/nowhere/greeting");
    let expected = "environment SLACKWATER_APP__GREETING_FILE: cannot read /nowhere/greeting: No such file or directory (os error 2)";
    assert_eq!(config.app_error::<Greeting>(), expected);
    let config = super::tests::config("").env("SLACKWATER_BACKLOG_FILE", "/nowhere/backlog");
    let expected = "environment SLACKWATER_BACKLOG_FILE: cannot read /nowhere/backlog: No such file or directory (os error 2)";
    assert_eq!(config.load_error(), expected);
}

#[test]
fn text_of_the_environment_is_converted_to_the_type_of_the_field() {
    #[derive(Deserialize, Debug, PartialEq)]
    #[serde(rename_all = "lowercase")]
    enum Mode {
        Fast,
        Slow(u8),
    }
    #[derive(Deserialize, Debug, PartialEq)]
    struct Server {
        url: String,
        weight: f32,
    }
    #[derive(Deserialize, Debug, PartialEq)]
    #[serde(rename_all = "camelCase")]
    struct All {
        password: String,
        number: u32,
        optional: Option<i64>,
        flag: bool,
        camel_case: String,
        list: Vec<u8>,
        words: Vec<String>,
        inline: Vec<String>,
        mode: Mode,
        other: Mode,
        server: Server,
        map: BTreeMap<String, u16>,
        letter: char,
    }
    let texts = [
        ("PASSWORD", "123456"),
        ("NUMBER", "123456"),
        ("OPTIONAL", "-1"),
        ("FLAG", "true"),
        ("CAMELCASE", "x"),
        ("LIST", "1, 2"),
        ("WORDS", "1,b"),
        ("INLINE", r#"["a,b", "c"]"#),
        ("MODE", "fast"),
        ("OTHER", "{ slow = 3 }"),
        ("SERVER", r#"{"url": "a", "weight": 2}"#),
        ("MAP__A", "1"),
        ("LETTER", "7"),
    ];
    let config = texts.iter().fold(config(""), |config, (key, text)| {
        config.env(&format!("SLACKWATER_APP__{key}"), text)
    });
    let expected = All {
        password: "123456".into(),
        number: 123_456,
        optional: Some(-1),
        flag: true,
        camel_case: "x".into(),
        list: vec![1, 2],
        words: vec!["1".into(), "b".into()],
        inline: vec!["a,b".into(), "c".into()],
        mode: Mode::Fast,
        other: Mode::Slow(3),
        server: Server {
            url: "a".into(),
            weight: 2.0,
        },
        map: BTreeMap::from([("a".into(), 1)]),
        letter: '7',
    };
    assert_eq!(config.app::<All>(), expected);
    assert_eq!(config.warnings(), Vec::<String>::new());
}

#[test]
fn numbers_of_the_environment_work_in_flattened_structs() {
    #[derive(Deserialize)]
    struct Outer {
        #[serde(flatten)]
        inner: Inner,
    }
    #[derive(Deserialize)]
    struct Inner {
        count: u32,
    }
    assert_eq!(config("").set("app.count=3").app::<Outer>().inner.count, 3);
}

#[test]
fn values_that_do_not_match_the_type_are_rejected_with_their_location() {
    #[derive(Deserialize, Debug)]
    #[allow(dead_code)]
    struct Shop {
        greeting: String,
        #[serde(default)]
        servers: Vec<Server>,
        db: Option<Server>,
        password: Option<u8>,
        pin: Option<Secret<u8>>,
    }
    #[derive(Deserialize, Debug)]
    #[allow(dead_code)]
    struct Server {
        url: String,
        #[serde(default)]
        weight: u8,
    }
    let error = |toml: &str| config(toml).app_error::<Shop>();
    assert_eq!(
        error("[app]\n\ngreeting = 5"),
        "slackwater.toml:3: app.greeting: expected a string, found integer 5"
    );
    assert_eq!(
        error("[app]"),
        "app.greeting: missing; set it in slackwater.toml under [app], or in the environment as SLACKWATER_APP__GREETING"
    );
    assert_eq!(
        error("[app]\ngreeting = ''\n[app.db]\n"),
        "app.db.url: missing; set it in slackwater.toml under [app.db], or in the environment as SLACKWATER_APP__DB__URL"
    );
    let servers = "[app]\ngreeting = ''\n[[app.servers]]\nurl = ''\n[[app.servers]]\n";
    assert_eq!(
        error(servers),
        "slackwater.toml:5: app.servers[1].url: missing"
    );
    assert_eq!(
        error(&format!("{servers}url = ''\nweight = 300")),
        "slackwater.toml:7: app.servers[1].weight: expected a whole number (u8), found integer 300"
    );
    assert_eq!(
        error("[app]\ngreeting = ''\npassword = 'swordfish'"),
        "slackwater.toml:3: app.password: expected a whole number (u8); the value is secret"
    );
    assert_eq!(
        error("[app]\ngreeting = ''\npin = 'swordfish'"),
        "slackwater.toml:3: app.pin: expected a whole number (u8); the value is secret"
    );
    let set = config("")
        .set("app.greeting=x")
        .set("app.db={ url = 'a', weight = 'heavy' }");
    assert_eq!(
        set.app_error::<Shop>(),
        "--set app.db.weight: expected a whole number (u8), found string \"heavy\""
    );
}

#[test]
fn unknown_keys_of_the_application_cause_warnings() {
    let mut loaded = config("[app]\ngreeting = ''\ngreting = ''\n[app.nothing]\nx = 1").load();
    loaded.app::<Greeting>().unwrap();
    let warnings: Vec<_> = loaded
        .warnings
        .iter()
        .map(|warning| warning.rsplit_once('/').unwrap().1)
        .collect();
    let expected = [
        "slackwater.toml:3: app.greting: unknown key, ignored; did you mean greeting?",
        "slackwater.toml:4: app.nothing: unknown key, ignored",
    ];
    assert_eq!(warnings, expected);
}

#[test]
fn an_application_without_settings_accepts_any_key() {
    #[derive(Deserialize)]
    struct Unit;
    for toml in ["", "[app]", "[app]\na = 1\nb = { c = 2 }"] {
        config(toml).app::<()>();
        config(toml).app::<Unit>();
        config(toml).app::<serde_json::Value>();
    }
}

#[test]
fn an_error_of_the_application_s_own_type_contains_no_secret() {
    #[derive(Debug)]
    struct Checked;
    impl TryFrom<BTreeMap<String, String>> for Checked {
        type Error = String;
        fn try_from(map: BTreeMap<String, String>) -> Result<Self, String> {
            Err(format!("{:?} does not open {}", map["password"], map["db"]))
        }
    }
    impl<'de> Deserialize<'de> for Checked {
        fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            Checked::try_from(BTreeMap::deserialize(deserializer)?)
                .map_err(serde::de::Error::custom)
        }
    }
    let error = config("[app]\npassword = 'swordfish'\ndb = 'pg://u:p@h'").app_error::<Checked>();
    assert_eq!(error, "app: \"***\" does not open pg://u:***@h");
}

#[test]
fn dates_are_read_as_text() {
    let greeting = config("[app]\ngreeting = 1979-05-27T07:32:00Z")
        .app::<Greeting>()
        .greeting;
    assert_eq!(greeting, "1979-05-27T07:32:00Z");
}

#[test]
fn config_text_shows_the_source_of_each_value_and_hides_secrets() {
    let toml = r#"
[http]
body_limit = 2097153
[app]
db = "postgres://u:p@host/shop"
api_key = 5
[app.nested]
list = [1, { token = "x", b = 2.0 }]
[profile.debug.log]
level = "warn"
"#;
    let mut config = config(toml)
        .env("SLACKWATER_BACKLOG", "128")
        .env("PORT", "1")
        .set("app.greeting=\"hi\"");
    config.sources.figment = Some(Figment::from(("app.title", "Shop")));
    let text = config.without_directory(config_text(&config.load(), None).unwrap());
    let lines: Vec<String> = text
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
        .collect();
    let address = if cfg!(debug_assertions) {
        "127.0.0.1"
    } else {
        "0.0.0.0"
    };
    for line in [
        &format!("listen = \"{address}:1\" # PORT"),
        "backlog = 128 # environment SLACKWATER_BACKLOG",
        "threads = 0 # default",
        "http.header_timeout = \"10s\" # default",
        "http.body_limit = \"2097153B\" # slackwater.toml:3",
        "log.level = \"warn\" # slackwater.toml:10 (profile debug)",
        "app.api_key = \"***\" # slackwater.toml:6",
        "app.db = \"postgres://u:***@host/shop\" # slackwater.toml:5",
        "app.greeting = \"\\\"hi\\\"\" # --set",
        "app.nested.list = [1, { b = 2.0, token = \"***\" }] # slackwater.toml:8",
        "app.title = \"Shop\" # application",
    ] {
        assert!(
            lines.iter().any(|found| found == line),
            "{line}\nis not in\n{text}"
        );
    }
    assert_eq!(config.config_text("log").lines().count(), 4);
    let expected = "# largest head of a request: 431 above it; at least 8KiB, because hyper needs it, at most 120KiB, because an upgrade sends it in one message\n\
                    # a size such as \"2MiB\"; default \"64KiB\"; for example \"16KiB\"; class: next request\n\
                    http.max_header_bytes = \"64KiB\"  # default\n";
    assert_eq!(config.config_text("http.max_header_bytes"), expected);
    let error = config_text(&config.load(), Some("http.body_limt")).unwrap_err();
    assert_eq!(
        error.to_string(),
        "config: the key http.body_limt does not exist; did you mean http.body_limit?"
    );
    assert_eq!(error.exit_code(), 2);
}

#[test]
fn a_value_of_the_type_secret_is_hidden() {
    #[derive(Deserialize)]
    struct Hidden {
        pin: Secret<String>,
    }
    let mut loaded = config("[app]\npin = '4711'").load();
    assert_eq!(loaded.app::<Hidden>().unwrap().pin.reveal(), "4711");
    assert!(config_text(&loaded, Some("app.pin"))
        .unwrap()
        .starts_with("app.pin = \"***\""));
}

#[test]
fn the_fields_of_a_secret_and_lists_of_secrets_are_hidden() {
    #[derive(Deserialize)]
    #[allow(dead_code, reason = "read, not used")]
    struct Creds {
        user: String,
    }
    #[derive(Deserialize)]
    #[allow(dead_code, reason = "read, not used")]
    struct Server {
        name: String,
        pin: Secret<String>,
    }
    #[derive(Deserialize)]
    #[allow(dead_code, reason = "read, not used")]
    struct Hidden {
        smtp: Secret<Creds>,
        pins: Vec<Secret<String>>,
        servers: Vec<Server>,
    }
    let text =
        "[app]\nsmtp.user = 'Ada4711'\npins = ['4711']\nservers = [{ name = 'one', pin = '4711' }]";
    let mut loaded = config(text).load();
    assert_eq!(loaded.app::<Hidden>().unwrap().pins[0].reveal(), "4711");
    let shown = config_text(&loaded, Some("app")).unwrap();
    assert!(!shown.contains("4711") && shown.contains("one"), "{shown}");
}

#[test]
fn check_text_names_the_file_the_profile_and_the_warnings() {
    let config = config("").env("SLACKWATER_HTPP", "1");
    let expected = "shop: configuration ok (slackwater.toml, profile debug)\n\
                    warning: environment SLACKWATER_HTPP: unknown, ignored\n";
    assert_eq!(
        config.without_directory(check_text("shop", &config.load())),
        expected
    );
}

#[test]
fn a_diff_lists_changed_keys_and_hides_secrets() {
    let old =
        config("threads = 2\n[http]\nbody_limit = '1MiB'\n[app]\npassword = 'a'\ngone = 1").load();
    let new =
        config("threads = 3\n[http]\nbody_limit = '1024KiB'\n[app]\npassword = 'b'\nadded = 'x'")
            .load();
    let change = |key: &str, class, from: &str, to: &str| SettingChange {
        key: key.into(),
        class,
        from: from.into(),
        to: to.into(),
    };
    let expected = [
        change("threads", Class::Upgrade, "2", "3"),
        change("app.added", Class::Live, "unset", "\"x\""),
        change("app.password", Class::Live, "\"***\"", "\"***\""),
        change("app.gone", Class::Live, "1", "unset"),
    ];
    assert_eq!(diff(&old, &new), expected);
    assert_eq!(diff(&new, &new), []);
}

#[test]
fn deeply_nested_keys_do_not_overflow_the_stack() {
    let deep = "A__".repeat(40_000);
    config("")
        .env(&format!("SLACKWATER_APP__{deep}B"), "1")
        .load();
    assert!(config("")
        .set(&format!("app.{}b=1", "a.".repeat(40_000)))
        .sources
        .load()
        .is_err());
    assert!(config(format!("app.{}b=1", "a.".repeat(40_000)))
        .sources
        .load()
        .is_err());
    let brackets = "[".repeat(100_000);
    config("")
        .set(&format!("app.x={brackets}"))
        .load()
        .app::<BTreeMap<String, Vec<String>>>()
        .unwrap();
}

fn settings_text() -> impl Strategy<Value = String> {
    let key = prop::sample::select(
        Config::FIELDS
            .iter()
            .map(|field| field.key)
            .collect::<Vec<_>>(),
    );
    let value = prop_oneof![
        prop::sample::select(vec![
            "\"none\"",
            "\"1m 30s\"",
            "\"2MiB\"",
            "0",
            "17",
            "-1",
            "1.5",
            "true",
            "[]",
            "{}",
            "\"/x\""
        ])
        .prop_map(str::to_owned),
        "[ -~]{0,12}",
    ];
    prop::collection::vec((key, value), 0..4).prop_map(|lines| {
        lines
            .iter()
            .map(|(key, value)| format!("{key} = {value}\n"))
            .collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn no_input_of_any_source_causes_a_panic(
        file in prop::collection::vec(any::<u8>(), 0..200),
        text in "(\\[[a-z.]{0,8}\\]\n|[a-z_]{1,8} = [ -~]{0,12}\n){0,6}",
        name in "(HTTP__|APP__|_|[A-Z_]){0,12}(_FILE)?",
        value in "\\PC{0,20}",
        set in "(app\\.|http\\.)?[ -~]{0,20}",
    ) {
        let _ = config(&file).sources.load();
        let mixed = config(text).env(&format!("SLACKWATER_{name}"), &value).env("PORT", &value).set(&set);
        if let Ok(mut loaded) = mixed.sources.load() {
            let _ = loaded.app::<Greeting>();
            let _ = config_text(&loaded, None);
        }
        let mut alone = config("").env(&format!("SLACKWATER_APP__{name}"), &value).load();
        let _ = alone.app::<BTreeMap<String, serde_json::Value>>();
        let _ = alone.app::<BTreeMap<String, Vec<u8>>>();
        let _ = Listen::parse(&value);
    }

    #[test]
    fn the_printed_settings_load_to_the_same_values(text in settings_text()) {
        if let Ok(loaded) = config(&text).sources.load() {
            let printed = config_text(&loaded, None).unwrap();
            let again = config(&printed).load();
            prop_assert_eq!(&again.config, &loaded.config);
            prop_assert_eq!(diff(&loaded, &again), vec![]);
        }
    }

    #[test]
    fn strings_survive_printing_and_loading(greeting in any::<String>().prop_filter("a URL", |text| !text.contains("://"))) {
        let loaded = config("").env("SLACKWATER_APP__GREETING", &greeting).load();
        let again = config(config_text(&loaded, None).unwrap());
        prop_assert_eq!(again.app::<Greeting>(), Greeting { greeting });
    }
}
