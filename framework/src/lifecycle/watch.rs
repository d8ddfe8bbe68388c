//! Watching the configuration's files (`reload.watch`): a change is a HUP that nobody had to send.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::time::Duration;

use async_channel::Sender;
use async_io::Timer;

use super::happening::Happening;

/// How often the files are looked at. They are few, and one look costs a stat(2) each.
const LOOK: Duration = Duration::from_millis(500);

/// What tells one content of a file from another: inode, size, and when it was last written.
type Print = Option<(u64, u64, i64, i64)>;

/// Asks for a reload each time that any of the files has changed; never ends.
pub(super) async fn watch(files: Vec<PathBuf>, events: Sender<Happening>) {
    let mut before = prints(&files);
    loop {
        Timer::after(LOOK).await;
        let now = prints(&files);
        if now != before {
            // an editor may write in several steps: the last one is meant
            before = settled(&files, now).await;
            log::info!("the configuration has changed; reloading");
            let _ = events.send(Happening::Changed).await;
        }
    }
}

async fn settled(files: &[PathBuf], mut seen: Vec<Print>) -> Vec<Print> {
    loop {
        Timer::after(LOOK / 5).await;
        let now = prints(files);
        if now == seen {
            return now;
        }
        seen = now;
    }
}

fn prints(files: &[PathBuf]) -> Vec<Print> {
    let print = |file: &PathBuf| {
        let data = fs::metadata(file).ok()?;
        Some((data.ino(), data.size(), data.mtime(), data.mtime_nsec()))
    };
    files.iter().map(print).collect()
}
