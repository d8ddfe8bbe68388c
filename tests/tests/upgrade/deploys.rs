//! Upgrades after common ways to deploy: the binary is replaced, deleted, behind a link, called by a relative path or from
//! PATH, or its directory is removed.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use slackwater_tests::conn::Conn;
use slackwater_tests::launch::Launch;
use slackwater_tests::process::Signal;
use slackwater_tests::process_chain::ProcessChain;
use slackwater_tests::program;
use slackwater_tests::wait::{maybe, until};

use super::{LONG, SOON, WINDOW};
use crate::help::{held_socket, pid_of_server};

/// Writes a script that executes the playground as a build with a name, which `/generation` returns. The script keeps its
/// own `$0`.
fn build(path: &Path, name: &str) {
    let playground = program::playground();
    let text = format!(
        "#!/bin/bash\nPLAYGROUND_BUILD={name} exec -a \"$0\" {} \"$@\"\n",
        playground.display()
    );
    program::script(path, text);
}

fn served_build(chain: &ProcessChain) -> String {
    let answer = chain.conn().fetch("/generation").unwrap().json();
    answer["build"].as_str().unwrap_or_default().to_owned()
}

/// Upgrades, and checks that the build of that name serves.
fn upgrades_to(chain: &mut ProcessChain, name: &str) {
    let old = chain.newest();
    let new = chain.upgrade();
    assert_eq!(served_build(chain), name, "the output:\n{}", chain.log());
    assert_eq!(pid_of_server(chain), new);
    chain.wait_gone(old, SOON);
}

#[test]
fn a_binary_that_was_replaced_by_a_rename_is_started() {
    let launch = Launch::playground().settings(WINDOW);
    let path = launch.dir().path().join("app");
    build(&path, "one");
    let mut chain = ProcessChain::serve(&launch.with_program(&path));
    assert_eq!(served_build(&chain), "one");
    for name in ["two", "three"] {
        build(&path, name);
        upgrades_to(&mut chain, name);
    }
}

#[test]
fn a_binary_that_was_deleted_and_written_again_is_started() {
    let launch = Launch::playground().settings(WINDOW);
    let path = launch.dir().install(&program::playground(), "app");
    let mut chain = ProcessChain::serve(&launch.with_program(&path));
    for name in ["two", "three"] {
        fs::remove_file(&path).unwrap();
        build(&path, name);
        upgrades_to(&mut chain, name);
    }
}

#[test]
fn a_symbolic_link_that_was_changed_is_followed() {
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
    let mut chain = ProcessChain::serve(&launch.with_program(dir.join("current/app")));
    assert_eq!(served_build(&chain), "1");
    for release in ["2", "3", "1"] {
        switch(release);
        upgrades_to(&mut chain, release);
    }
    // a deploy that keeps few releases removes old ones
    switch("2");
    fs::remove_dir_all(dir.join("releases/1")).unwrap();
    upgrades_to(&mut chain, "2");
}

#[test]
fn a_program_that_was_called_by_a_relative_path_is_found_again() {
    let launch = Launch::playground().settings(WINDOW);
    fs::create_dir(launch.dir().path().join("bin")).unwrap();
    let path = launch.dir().path().join("bin/app");
    build(&path, "one");
    let mut chain = ProcessChain::serve(&launch.with_program("./bin/app"));
    for name in ["two", "three"] {
        build(&path, name);
        upgrades_to(&mut chain, name);
    }
}

#[test]
fn a_program_that_was_called_by_a_name_from_path_is_found_again() {
    let launch = Launch::playground().settings(WINDOW);
    let bin = launch.dir().path().join("bin");
    fs::create_dir(&bin).unwrap();
    // this is the binary and not a script, because the kernel replaces `$0` of a script by its path
    launch
        .dir()
        .install(&program::playground(), "bin/slackwater-app");
    let path = format!("/nonexistent:{}:/usr/bin:/bin", bin.display());
    let mut chain = ProcessChain::serve(&launch.env("PATH", path).with_program("slackwater-app"));
    build(&bin.join("slackwater-app"), "two");
    upgrades_to(&mut chain, "two");
}

/// Starts the playground in a working directory that the test can remove; its settings are outside of it.
fn in_removable_directory() -> ProcessChain {
    let launch = Launch::playground()
        .settings(WINDOW)
        .in_subdirectory("place");
    let settings = launch.dir().path().join("slackwater.toml");
    ProcessChain::serve(&launch.args(["--config".as_ref(), settings.as_os_str()]))
}

#[test]
fn an_upgrade_succeeds_after_the_working_directory_was_removed() {
    let mut chain = in_removable_directory();
    fs::remove_dir(chain.dir().path().join("place")).unwrap();
    for _ in 0..2 {
        let old = chain.newest();
        let new = chain.upgrade();
        assert_eq!(pid_of_server(&chain), new);
        chain.wait_gone(old, SOON);
    }
}

#[test]
fn the_new_process_works_in_a_working_directory_that_was_created_again() {
    let mut chain = in_removable_directory();
    let place = chain.dir().path().join("place");
    fs::remove_dir(&place).unwrap();
    fs::create_dir(&place).unwrap();
    let new = chain.upgrade();
    assert_eq!(
        fs::read_link(format!("/proc/{new}/cwd")).unwrap(),
        place.canonicalize().unwrap()
    );
}

#[test]
fn an_upgrade_succeeds_after_the_reader_of_the_standard_output_has_exited() {
    let (reader, writer) = std::io::pipe().unwrap();
    let launch = Launch::playground().settings(WINDOW).stdout(&writer);
    // the log cannot be read, so the test binds the address itself
    let (listener, addr) = held_socket();
    let launch = launch.socket("web", &listener);
    let chain = ProcessChain::start(&launch);
    let pid = || {
        Conn::open(&addr)
            .and_then(|mut conn| conn.fetch("/pid"))
            .ok()
            .map(|answer| answer.text())
    };
    let old = until(LONG, "the process serves", pid);
    drop((reader, writer));
    chain.signal(Signal::USR2);
    let new = || pid().filter(|pid| *pid != old);
    let new =
        maybe(LONG, new).unwrap_or_else(|| panic!("no new process; the output:\n{}", chain.log()));
    until(LONG, "the old process has exited", || {
        (chain.alive() == [new.parse::<u32>().unwrap()]).then_some(())
    });
    assert_eq!(pid(), Some(new));
}
