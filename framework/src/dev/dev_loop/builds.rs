//! The loop's reaction to changed files: it starts a build, and applies the outcome.

use std::collections::BTreeSet;

use super::super::build::{CargoBuild, Verbosity};
use super::super::event::{BuildOutcome, BuildOutput};
use super::super::pages::OverlayState;
use super::super::program::ProgramPhase;
use super::super::watch::ChangeKind;
use super::{DevLoop, PendingAction};

impl DevLoop {
    pub(super) fn handle_changes(&mut self) {
        let mut changes = std::mem::take(&mut self.changes);
        if changes.remove(&ChangeKind::Settings) {
            self.settings_changed();
        }
        if changes.is_empty() {
            return;
        }
        // the current build has read older files
        self.cancel_build();
        self.building.extend(changes);
        self.pages.announce_build();
        self.begin_build(Verbosity::All);
    }

    fn settings_changed(&mut self) {
        if let Ok(loaded) = self.program.launcher.load() {
            self.watcher
                .set_settings(&self.program.launcher.settings_files(&loaded));
        }
        // a build that failed to start may start with the new settings
        self.request(if self.program.runs_newest_build() {
            PendingAction::Reload
        } else {
            PendingAction::Upgrade
        });
    }

    pub(super) fn begin_build(&mut self, verbosity: Verbosity) {
        self.last_build_number += 1;
        let number = self.last_build_number;
        match CargoBuild::start(&self.package, number, verbosity, self.sender.clone()) {
            Ok(build) => self.build = Some(build),
            Err(error) => log::error!("the build cannot be started: {}", error.chain()),
        }
    }

    pub(super) fn cancel_build(&mut self) {
        if let Some(build) = self.build.take() {
            build.kill();
        }
    }

    pub(super) fn build_ended(&mut self, outcome: BuildOutcome) {
        let Some(build) = self.build.take() else {
            return;
        };
        let duration = build.began.elapsed();
        let changes = std::mem::take(&mut self.building);
        match outcome {
            BuildOutcome::Succeeded(output) => self.build_succeeded(output, &changes),
            BuildOutcome::Failed(text) => {
                let consequence = match self.program.phase() {
                    ProgramPhase::Stopped => "connections wait until a build succeeds",
                    _ => "the previous build keeps serving",
                };
                log::error!("the build failed after {duration:.1?}; {consequence}");
                self.pages.show(OverlayState::Error {
                    title: "The build failed".to_owned(),
                    text,
                });
            }
        }
    }

    fn build_succeeded(&mut self, output: BuildOutput, changes: &BTreeSet<ChangeKind>) {
        for package in &output.packages {
            self.watcher.watch_package(package);
        }
        self.watcher.set_inputs(&output.inputs);
        log::debug!("{} directories are watched", self.watcher.len());
        self.program.executable = output.executable;
        self.timings.record_build();
        if self.program.runs_newest_build() {
            return self.program_unchanged(changes);
        }
        // cargo run has built the program immediately before the first build, so an upgrade would
        // change nothing
        let is_first = changes.is_empty() && self.program.phase() != ProgramPhase::Stopped;
        if !is_first {
            self.request(PendingAction::Upgrade);
        }
    }

    /// Handles a build that has not changed the executable. Files that the program reads at run time
    /// may have changed, which a reload applies.
    fn program_unchanged(&mut self, changes: &BTreeSet<ChangeKind>) {
        if changes.iter().any(|kind| *kind != ChangeKind::Sources) {
            self.request(PendingAction::Reload);
        } else {
            self.pages.show(OverlayState::Hidden);
        }
        if changes.contains(&ChangeKind::Sources) {
            log::info!("built; the program has not changed");
        }
    }
}
