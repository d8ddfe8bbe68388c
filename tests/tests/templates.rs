//! The templates. cargo-generate generates each outside of this workspace, and the tests build, run, reload and upgrade it.

use std::path::Path;
use std::process::Command;

use slackwater_tests::balancer::Kind;
use slackwater_tests::conn::PATIENCE;
use slackwater_tests::load::{Load, Pattern};
use slackwater_tests::process::{Process, Signal};
use slackwater_tests::project::{answers, Project, BUILD};
use slackwater_tests::tools::{cargo_generate, or_skip, systemd_analyze};
use slackwater_tests::{program, wait};

use crate::help::free_addr;

fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

/// Generates the template as `name` in the directory of a project.
///
/// # Errors
///
/// Returns the standard error of cargo-generate if it fails.
fn generate(generator: &Path, template: &str, name: &str) -> Result<Project, String> {
    let project = Project::at(name);
    let mut command = Command::new(generator);
    command.args([
        "generate", "--init", "--silent", "--vcs", "none", "--name", name, "--path",
    ]);
    command.arg(workspace().join("templates").join(template));
    command
        .args(["-d", &format!("slackwater_path={}", workspace().display())])
        .current_dir(project.root());
    let output = command.output().expect("cargo-generate starts");
    match output.status.success() {
        true => Ok(project),
        false => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
    }
}

fn generated(template: &str, name: &str) -> Option<Project> {
    let generator = or_skip(cargo_generate())?;
    let project =
        generate(&generator, template, name).unwrap_or_else(|error| panic!("{template}: {error}"));
    project.use_our_lock();
    Some(project)
}

fn page(process: &Process, text: &str) {
    wait::until(PATIENCE, text, || {
        process.get("/").contains(text).then_some(())
    });
}

/// Runs the project, reloads it with another greeting, changes its page, and upgrades it, while clients send requests.
fn reloads_and_upgrades(project: &Project, name: &str) {
    project.cargo(&["build", "--quiet"]);
    let binary = program::target_dir().join("debug").join(name);
    // `target` beside the settings, where cargo builds by default
    std::fs::create_dir_all(project.root().join("target")).unwrap();
    project.edit(
        "slackwater.toml",
        "127.0.0.1:8080",
        &free_addr().to_string(),
    );
    let mut process = project.launch(&binary, &[]).start();
    let addr = answers(&mut process);
    page(&process, "Hello, world!");
    let load = Load::on(&addr)
        .clients(2, Pattern::KeepAlive)
        .clients(1, Pattern::NewConnection)
        .at_most(BUILD);
    let load = load.start();

    project.edit("slackwater.toml", "\"Hello\"", "\"Good evening\"");
    process.signal(Signal::HUP);
    page(&process, "Good evening, world!");
    project.edit("src/index.html", ", world!", ", everybody!");
    project.cargo(&["build", "--quiet"]);
    let upgraded = project.launch(&binary, &["upgrade"]).run(BUILD);
    assert_eq!(
        upgraded.code(),
        Some(0),
        "{}{}{}",
        upgraded.stdout,
        upgraded.stderr,
        process.log()
    );
    page(&process, "Good evening, everybody!");

    load.wait_for(20, PATIENCE);
    load.stop().assert_flawless();
    process.signal(Signal::TERM);
    assert_eq!(
        process.wait_exit(PATIENCE).code(),
        Some(0),
        "{}",
        process.log()
    );
}

#[test]
fn the_minimal_template_builds_runs_reloads_and_upgrades() {
    let Some(project) = generated("minimal", "tpl-minimal") else {
        return;
    };
    reloads_and_upgrades(&project, "tpl-minimal");
}

#[test]
fn the_service_template_builds_passes_its_tests_runs_reloads_and_upgrades() {
    let Some(project) = generated("service", "tpl-service") else {
        return;
    };
    project.cargo(&["test", "--quiet"]);
    project.cargo(&["run", "--quiet", "--", "-p", "release", "check"]);
    reloads_and_upgrades(&project, "tpl-service");
}

/// Runs a tool that checks files, and panics with its output if it fails.
fn approve(tool: &Path, args: &[&str]) {
    let output = Command::new(tool)
        .args(args)
        .output()
        .expect("the tool starts");
    let printed =
        [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
    assert!(
        output.status.success(),
        "{} {args:?}: {}\n{}",
        tool.display(),
        output.status,
        printed.concat()
    );
}

#[test]
fn systemd_nginx_and_haproxy_accept_the_deployment_files_of_the_service_template() {
    let Some(generator) = or_skip(cargo_generate()) else {
        return;
    };
    let project =
        generate(&generator, "service", "tpl-deploy").unwrap_or_else(|error| panic!("{error}"));
    let path = |name: &str| project.root().join(name).to_string_lossy().into_owned();
    if let Some(systemd_analyze) = or_skip(systemd_analyze()) {
        // systemd-analyze checks that the program exists
        project.edit(
            "deploy/tpl-deploy.service",
            "ExecStart=/usr/local/bin/tpl-deploy",
            "ExecStart=/bin/true",
        );
        let units = [
            path("deploy/tpl-deploy.service"),
            path("deploy/tpl-deploy.socket"),
        ];
        approve(&systemd_analyze, &["verify", &units[0], &units[1]]);
    }
    if let Some(nginx) = or_skip(Kind::Nginx.installed()) {
        // nginx binds the address even for a test
        project.edit(
            "deploy/nginx.conf",
            "listen 80;",
            &format!("listen {};", free_addr()),
        );
        let around = format!(
            "pid {};\nevents {{}}\nhttp {{ access_log off; include {}; }}\n",
            path("pid"),
            path("deploy/nginx.conf")
        );
        project.write("nginx.conf", &around);
        approve(
            &nginx,
            &[
                "-t",
                "-e",
                "stderr",
                "-p",
                &path(""),
                "-c",
                &path("nginx.conf"),
            ],
        );
    }
    if let Some(haproxy) = or_skip(Kind::HaProxy.installed()) {
        let around = format!(
            "defaults\n    mode http\n    timeout connect 1s\n    timeout client 1m\n    timeout server 1m\n\
             frontend web\n    bind {}\n    default_backend tpl-deploy\n",
            free_addr()
        );
        project.write("around.cfg", &around);
        approve(
            &haproxy,
            &[
                "-c",
                "-f",
                &path("around.cfg"),
                "-f",
                &path("deploy/haproxy.cfg"),
            ],
        );
    }
}

#[test]
fn a_project_with_the_name_of_a_dependency_is_refused() {
    let Some(generator) = or_skip(cargo_generate()) else {
        return;
    };
    let refused = generate(&generator, "minimal", "tide").expect_err("refused");
    assert!(
        refused.contains("the name tide is the name of a crate that the application needs"),
        "{refused}"
    );
}

/// Returns the first number after `key`.
fn number_after(text: &str, key: &str) -> u32 {
    let (_, rest) = text.split_once(key).unwrap_or_else(|| panic!("no {key:?}"));
    let digits = rest.trim_start_matches(|c: char| !c.is_ascii_digit());
    let end = digits
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(digits.len());
    digits[..end]
        .parse()
        .unwrap_or_else(|_| panic!("no number after {key:?}"))
}

#[test]
fn systemd_and_kubernetes_wait_longer_than_the_service_takes_to_stop() {
    let read = |path: &str| {
        std::fs::read_to_string(workspace().join("templates/service").join(path)).unwrap()
    };
    let settings = read("slackwater.toml");
    let (_, shutdown) = settings.split_once("[profile.release.shutdown]").unwrap();
    let delay = number_after(shutdown, "delay = ");
    let stop =
        delay + number_after(shutdown, "grace = ") + number_after(shutdown, "force_after = ");
    let kubernetes = read("deploy/kubernetes.yaml");
    assert!(stop < number_after(&kubernetes, "terminationGracePeriodSeconds:"));
    let (_, readiness) = kubernetes.split_once("readinessProbe:").unwrap();
    assert!(
        delay
            > number_after(readiness, "periodSeconds:")
                * number_after(readiness, "failureThreshold:")
    );
    let unit = read("deploy/{{project-name}}.service");
    assert!(stop < number_after(&unit, "TimeoutStopSec="));
    let haproxy = read("deploy/haproxy.cfg");
    assert!(delay > number_after(&haproxy, "inter ") * number_after(&haproxy, "fall "));
}
