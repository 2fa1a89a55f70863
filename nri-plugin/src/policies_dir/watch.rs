// SPDX-License-Identifier: Apache-2.0
//! Tells when the folder of policies may have changed.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use inotify::{EventMask, Inotify, WatchMask};
use tokio::io::unix::AsyncFd;
use tokio::time::{Instant, sleep, timeout_at};

/// A change is acted upon when nothing has happened for this long ...
const QUIET: Duration = Duration::from_millis(50);
/// ... or, when something happens all the time, after this long.
const AT_MOST: Duration = Duration::from_millis(500);
/// The folder is also read this often: a file behind a symbolic link changes without a sign.
const ANYWAY: Duration = Duration::from_secs(30);
/// A writer that keeps a file open longer than this is not waited for.
const WRITER_TIMEOUT: Duration = Duration::from_secs(10);

/// Watches one folder.
pub struct Watch {
    folder: PathBuf,
    inotify: Option<AsyncFd<Inotify>>,
    being_written: BTreeSet<String>,
    last_write: Instant,
}

impl Watch {
    /// Starts to watch. A folder that can't be watched (yet) is tried again at every [`Watch::changed`].
    pub fn new(folder: &Path) -> Self {
        let mut watch = Self {
            folder: folder.to_owned(),
            inotify: None,
            being_written: BTreeSet::new(),
            last_write: Instant::now(),
        };
        watch.start();
        watch
    }

    fn start(&mut self) {
        match open(&self.folder) {
            Ok(inotify) => self.inotify = Some(inotify),
            Err(error) => {
                tracing::warn!(
                    "can't watch {}, reading it now and then: {error}",
                    self.folder.display()
                );
            }
        }
    }

    /// Waits until the folder should be read again; the result names the files that somebody is writing just now.
    pub async fn changed(&mut self) -> BTreeSet<String> {
        if self.inotify.is_none() {
            sleep(Duration::from_secs(2)).await;
            self.start();
            return BTreeSet::new();
        }
        let anyway = if self.being_written.is_empty() {
            ANYWAY
        } else {
            WRITER_TIMEOUT
        };
        if self.events(Instant::now() + anyway).await {
            let latest = Instant::now() + AT_MOST;
            while self.events((Instant::now() + QUIET).min(latest)).await && Instant::now() < latest
            {
            }
        }
        if self.last_write.elapsed() >= WRITER_TIMEOUT {
            self.being_written.clear();
        }
        self.being_written.clone()
    }

    /// Takes the events that are there, waiting for the first until `deadline`; false when none came.
    async fn events(&mut self, deadline: Instant) -> bool {
        let Some(inotify) = &mut self.inotify else {
            return false;
        };
        let mut guard = match timeout_at(deadline, inotify.readable_mut()).await {
            Err(_) => return false,
            Ok(Err(_)) => {
                self.inotify = None;
                return true;
            }
            Ok(Ok(guard)) => guard,
        };
        let mut buffer = [0; 4096];
        let mut over = false;
        match guard.get_inner_mut().read_events(&mut buffer) {
            Ok(events) => {
                for event in events {
                    let name = event.name.and_then(OsStr::to_str).unwrap_or_default();
                    if event.mask.contains(EventMask::MODIFY) {
                        self.being_written.insert(name.to_owned());
                        self.last_write = Instant::now();
                    } else {
                        self.being_written.remove(name);
                    }
                    over |= event.mask.intersects(
                        EventMask::IGNORED | EventMask::DELETE_SELF | EventMask::MOVE_SELF,
                    );
                }
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => guard.clear_ready(),
            Err(_) => over = true,
        }
        if over {
            self.inotify = None;
        }
        true
    }
}

fn open(folder: &Path) -> io::Result<AsyncFd<Inotify>> {
    let inotify = Inotify::init()?;
    let mask = WatchMask::MODIFY
        | WatchMask::CLOSE_WRITE
        | WatchMask::CREATE
        | WatchMask::DELETE
        | WatchMask::MOVE
        | WatchMask::DELETE_SELF
        | WatchMask::MOVE_SELF
        | WatchMask::ONLYDIR;
    inotify.watches().add(folder, mask)?;
    // SAFETY: an `Inotify` owns one descriptor, which it gives out unchanged until it is dropped.
    unsafe { AsyncFd::register(inotify) }.map_err(Into::into)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::io::Write;
    use tokio::time::timeout;

    const SOON: Duration = Duration::from_secs(5);

    #[tokio::test]
    async fn a_file_is_named_while_it_is_being_written() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("a.yaml"), "one").unwrap();
        let mut watch = Watch::new(folder.path());
        let mut writer = fs::File::create(folder.path().join("a.yaml")).unwrap();
        writer.write_all(b"tw").unwrap();
        let being_written = timeout(SOON, watch.changed()).await.unwrap();
        assert_eq!(being_written, BTreeSet::from(["a.yaml".to_owned()]));
        drop(writer);
        assert_eq!(
            timeout(SOON, watch.changed()).await.unwrap(),
            BTreeSet::new()
        );
    }

    #[tokio::test]
    async fn renames_and_deletions_are_changes() {
        let folder = tempfile::tempdir().unwrap();
        let mut watch = Watch::new(folder.path());
        fs::write(folder.path().join(".new"), "one").unwrap();
        fs::rename(folder.path().join(".new"), folder.path().join("a.yaml")).unwrap();
        timeout(SOON, watch.changed()).await.unwrap();
        fs::remove_file(folder.path().join("a.yaml")).unwrap();
        timeout(SOON, watch.changed()).await.unwrap();
    }

    #[tokio::test]
    async fn a_folder_that_is_made_again_is_watched_again() {
        let parent = tempfile::tempdir().unwrap();
        let folder = parent.path().join("d");
        fs::create_dir(&folder).unwrap();
        let mut watch = Watch::new(&folder);
        fs::remove_dir(&folder).unwrap();
        timeout(SOON, watch.changed()).await.unwrap();
        fs::create_dir(&folder).unwrap();
        timeout(SOON, watch.changed()).await.unwrap();
        fs::write(folder.join("a.yaml"), "one").unwrap();
        timeout(SOON, watch.changed()).await.unwrap();
    }
}
