//! Deploys as people do them: the binary renamed over, deleted, behind a link, relative, from PATH; its directory gone.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use slackwater_tests::conn::Conn;
use slackwater_tests::launch::Launch;
use slackwater_tests::lineage::Lineage;
use slackwater_tests::process::Signal;
use slackwater_tests::program;
use slackwater_tests::wait::{maybe, until};

use super::{LONG, SOON, WINDOW};
use crate::help::{held_socket, pid_of_server};

/// The playground as a build with a name, which `/generation` tells: a script that becomes it, called as it was.
fn build(path: &Path, name: &str) {
    let playground = program::playground();
    let text = format!(
        "#!/bin/bash\nPLAYGROUND_BUILD={name} exec -a \"$0\" {} \"$@\"\n",
        playground.display()
    );
    program::script(path, text);
}

fn served_build(lineage: &Lineage) -> String {
    let told = lineage.conn().ask("/generation").unwrap().json();
    told["build"].as_str().unwrap_or_default().to_owned()
}

/// Upgrades and expects the build of that name.
fn becomes(lineage: &mut Lineage, name: &str) {
    let old = lineage.newest();
    let new = lineage.upgrade();
    assert_eq!(
        served_build(lineage),
        name,
        "the output:\n{}",
        lineage.log()
    );
    assert_eq!(pid_of_server(lineage), new);
    lineage.gone(old, SOON);
}

#[test]
fn a_binary_that_was_renamed_over_is_the_new_one() {
    let launch = Launch::playground().settings(WINDOW);
    let path = launch.dir().path().join("app");
    build(&path, "one");
    let mut lineage = Lineage::serve(&launch.called(&path));
    assert_eq!(served_build(&lineage), "one");
    for name in ["two", "three"] {
        build(&path, name);
        becomes(&mut lineage, name);
    }
}

#[test]
fn a_true_binary_that_was_deleted_and_put_back_is_upgraded_to() {
    let launch = Launch::playground().settings(WINDOW);
    let path = launch.dir().install(&program::playground(), "app");
    let mut lineage = Lineage::serve(&launch.called(&path));
    for name in ["two", "three"] {
        fs::remove_file(&path).unwrap();
        build(&path, name);
        becomes(&mut lineage, name);
    }
}

#[test]
fn a_link_that_was_switched_is_followed() {
    let launch = Launch::playground().settings(WINDOW);
    let dir = launch.dir().path().to_owned();
    for release in ["1", "2", "3"] {
        fs::create_dir_all(dir.join("releases").join(release)).unwrap();
        build(&dir.join("releases").join(release).join("app"), release);
    }
    let switch = |release: &str| {
        symlink(Path::new("releases").join(release), dir.join("next")).unwrap();
        fs::rename(dir.join("next"), dir.join("current")).unwrap();
    };
    switch("1");
    let mut lineage = Lineage::serve(&launch.called(dir.join("current/app")));
    assert_eq!(served_build(&lineage), "1");
    for release in ["2", "3", "1"] {
        switch(release);
        becomes(&mut lineage, release);
    }
    // as a deploy that keeps few releases does
    switch("2");
    fs::remove_dir_all(dir.join("releases/1")).unwrap();
    becomes(&mut lineage, "2");
}

#[test]
fn a_program_that_was_called_by_a_relative_path_is_found_again() {
    let launch = Launch::playground().settings(WINDOW);
    fs::create_dir(launch.dir().path().join("bin")).unwrap();
    let path = launch.dir().path().join("bin/app");
    build(&path, "one");
    let mut lineage = Lineage::serve(&launch.called("./bin/app"));
    for name in ["two", "three"] {
        build(&path, name);
        becomes(&mut lineage, name);
    }
}

#[test]
fn a_program_that_was_called_by_a_name_from_path_is_found_again() {
    let launch = Launch::playground().settings(WINDOW);
    let bin = launch.dir().path().join("bin");
    fs::create_dir(&bin).unwrap();
    // no script here: the kernel would name it by its path, and bash is to be found in PATH, too
    launch
        .dir()
        .install(&program::playground(), "bin/slackwater-app");
    let path = format!("/nonexistent:{}:/usr/bin:/bin", bin.display());
    let mut lineage = Lineage::serve(&launch.env("PATH", path).called("slackwater-app"));
    build(&bin.join("slackwater-app"), "two");
    becomes(&mut lineage, "two");
}

/// The playground in a working directory that can be taken away, with its settings outside.
fn in_a_place_of_its_own() -> Lineage {
    let launch = Launch::playground().settings(WINDOW).works_in("place");
    let settings = launch.dir().path().join("slackwater.toml");
    Lineage::serve(&launch.args(["--config".as_ref(), settings.as_os_str()]))
}

#[test]
fn a_working_directory_that_has_been_removed_is_no_hindrance() {
    let mut lineage = in_a_place_of_its_own();
    fs::remove_dir(lineage.dir().path().join("place")).unwrap();
    for _ in 0..2 {
        let old = lineage.newest();
        let new = lineage.upgrade();
        assert_eq!(pid_of_server(&lineage), new);
        lineage.gone(old, SOON);
    }
}

#[test]
fn a_working_directory_that_was_made_anew_is_the_new_process_s() {
    let mut lineage = in_a_place_of_its_own();
    let place = lineage.dir().path().join("place");
    fs::remove_dir(&place).unwrap();
    fs::create_dir(&place).unwrap();
    let new = lineage.upgrade();
    assert_eq!(
        fs::read_link(format!("/proc/{new}/cwd")).unwrap(),
        place.canonicalize().unwrap()
    );
}

#[test]
fn a_standard_output_that_nobody_reads_any_more_is_no_hindrance() {
    let (reader, writer) = std::io::pipe().unwrap();
    let launch = Launch::playground().settings(WINDOW).stdout(&writer);
    // what it says cannot be read, so the address is the test's
    let (listener, addr) = held_socket();
    let launch = launch.socket("web", &listener);
    let lineage = Lineage::start(&launch);
    let pid = || {
        Conn::open(&addr)
            .and_then(|mut conn| conn.ask("/pid"))
            .ok()
            .map(|answer| answer.text())
    };
    let old = until(LONG, "it serves", pid);
    drop((reader, writer));
    lineage.signal(Signal::USR2);
    let new = || pid().filter(|pid| *pid != old);
    let new = maybe(LONG, new)
        .unwrap_or_else(|| panic!("no new process; the output:\n{}", lineage.log()));
    until(LONG, "the old one is gone", || {
        (lineage.alive() == [new.parse::<u32>().unwrap()]).then_some(())
    });
    assert_eq!(pid(), Some(new));
}
