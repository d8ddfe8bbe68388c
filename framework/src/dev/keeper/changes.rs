//! What a change of the files leads to: a build, and what comes of it.

use std::collections::BTreeSet;

use super::super::build::{Build, Outcome, Passed, Show};
use super::super::pages::State;
use super::super::running::Phase;
use super::super::watch::Change;
use super::{Keeper, Wanted};

impl Keeper {
    pub(super) fn act_on_changes(&mut self) {
        let mut changes = std::mem::take(&mut self.changes);
        if changes.remove(&Change::Settings) {
            self.settings_changed();
        }
        if changes.is_empty() {
            return;
        }
        // a build that was for an older state of the files is of no use any more
        self.give_up_build();
        self.building.extend(changes);
        self.pages.building();
        self.begin_build(Show::All);
    }

    fn settings_changed(&mut self) {
        if let Ok(loaded) = self.program.start.load() {
            self.watch
                .settings(&self.program.start.settings_files(&loaded));
        }
        // code that did not start may do so with these
        self.want(if self.program.is_newest() {
            Wanted::Reload
        } else {
            Wanted::Upgrade
        });
    }

    pub(super) fn begin_build(&mut self, show: Show) {
        self.builds += 1;
        match Build::start(&self.package, self.builds, show, self.sender.clone()) {
            Ok(build) => self.build = Some(build),
            Err(error) => log::error!("nothing can be built: {}", error.chain()),
        }
    }

    pub(super) fn give_up_build(&mut self) {
        if let Some(build) = self.build.take() {
            build.abandon();
        }
    }

    pub(super) fn built(&mut self, outcome: Outcome) {
        let Some(build) = self.build.take() else {
            return;
        };
        let took = build.began.elapsed();
        let changes = std::mem::take(&mut self.building);
        match outcome {
            Outcome::Passed(passed) => self.passed(passed, &changes),
            Outcome::Failed(text) => {
                let serves = match self.program.phase() {
                    Phase::Down => "nothing serves until it is mended",
                    _ => "the version before serves on",
                };
                log::error!("the build failed after {took:.1?}; {serves}");
                self.pages.show(State::Failed {
                    title: "The build failed".to_owned(),
                    text,
                });
            }
        }
    }

    fn passed(&mut self, passed: Passed, changes: &BTreeSet<Change>) {
        let Passed {
            executable,
            packages,
            inputs,
        } = passed;
        packages
            .iter()
            .for_each(|package| self.watch.package(package));
        self.watch.inputs(inputs);
        log::debug!("{} directories are watched", self.watch.len());
        self.program.executable = executable;
        self.times.built();
        if self.program.is_newest() {
            return self.nothing_new(changes);
        }
        // the first build, beside a start: whatever runs was built a moment ago
        let is_first = changes.is_empty() && self.program.phase() != Phase::Down;
        self.want(if is_first {
            Wanted::Nothing
        } else {
            Wanted::Upgrade
        });
    }

    /// The build has given the program that runs already; what it reads while it runs may have changed.
    fn nothing_new(&mut self, changes: &BTreeSet<Change>) {
        let is_read_again = |change: &Change| *change != Change::ConfigSources;
        match changes.iter().any(is_read_again) {
            true => self.want(Wanted::Reload),
            false => self.pages.show(State::Fine),
        }
        if changes.contains(&Change::ConfigSources) {
            log::info!("built, and the program is the same as before");
        }
    }
}
