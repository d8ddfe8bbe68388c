//! Watches the configuration files (`reload.watch`), and requests a reload when one of them has changed.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::time::Duration;

use async_channel::Sender;
use async_io::Timer;

use super::event::DriverEvent;

/// The interval at which the files are checked. Each check costs one stat(2) per file.
const INTERVAL: Duration = Duration::from_millis(500);

/// The identity of a file's content: inode, size and modification time.
type Fingerprint = Option<(u64, u64, i64, i64)>;

/// Sends [`DriverEvent::ConfigChanged`] after each change of a file. Never returns.
pub(super) async fn watch(files: Vec<PathBuf>, events: Sender<DriverEvent>) {
    let mut before = fingerprints(&files);
    loop {
        Timer::after(INTERVAL).await;
        let now = fingerprints(&files);
        if now != before {
            before = settled(&files, now).await;
            let _ = events.send(DriverEvent::ConfigChanged).await;
        }
    }
}

/// Waits until the files no longer change, because an editor may write one in several steps.
async fn settled(files: &[PathBuf], mut last: Vec<Fingerprint>) -> Vec<Fingerprint> {
    loop {
        Timer::after(INTERVAL / 5).await;
        let now = fingerprints(files);
        if now == last {
            return now;
        }
        last = now;
    }
}

fn fingerprints(files: &[PathBuf]) -> Vec<Fingerprint> {
    let fingerprint = |file: &PathBuf| {
        let data = fs::metadata(file).ok()?;
        Some((data.ino(), data.size(), data.mtime(), data.mtime_nsec()))
    };
    files.iter().map(fingerprint).collect()
}
