// SPDX-License-Identifier: Apache-2.0
//! `violations.log`: JSON lines, rotated by size.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::record::Entry;
use super::sinks::Sink;

/// A file that grew past this is put aside.
const MAX_BYTES: u64 = 10 << 20;
/// How many are kept beside the current one: `violations.log.1` is the youngest.
const BACKUPS: u32 = 3;

/// Writes entries to a file.
pub struct Log {
    path: PathBuf,
    max_bytes: u64,
    open: Option<(File, u64)>,
}

impl Log {
    /// A log at `path`, whose folder is made when it is missing.
    pub fn new(path: PathBuf) -> Self {
        Self {
            path,
            max_bytes: MAX_BYTES,
            open: None,
        }
    }

    fn backup(&self, number: u32) -> PathBuf {
        let mut name = self.path.clone().into_os_string();
        name.push(format!(".{number}"));
        name.into()
    }

    fn rotate(&mut self) -> io::Result<()> {
        self.open = None;
        for number in (1..=BACKUPS).rev() {
            let from = if number == 1 {
                self.path.clone()
            } else {
                self.backup(number - 1)
            };
            match fs::rename(from, self.backup(number)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }
}

impl Sink for Log {
    fn name(&self) -> &'static str {
        "violation log"
    }

    fn write(&mut self, entry: &Entry) -> io::Result<()> {
        // Somebody else may have moved or deleted the file.
        if self
            .open
            .as_ref()
            .is_some_and(|(file, _)| !is_at(file, &self.path))
        {
            self.open = None;
        }
        if self
            .open
            .as_ref()
            .is_some_and(|(_, length)| *length >= self.max_bytes)
        {
            self.rotate()?;
        }
        let (file, length) = match &mut self.open {
            Some(open) => open,
            None => self.open.insert(open(&self.path)?),
        };
        let line = entry.line();
        // One write per line: a reader never sees half of one, except when the disk is full.
        file.write_all(&line)?;
        *length += line.len() as u64;
        Ok(())
    }
}

fn open(path: &Path) -> io::Result<(File, u64)> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    let file = OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o640)
        .open(path)?;
    let length = file.metadata()?.len();
    Ok((file, length))
}

fn is_at(file: &File, path: &Path) -> bool {
    match (file.metadata(), fs::metadata(path)) {
        (Ok(open), Ok(named)) => open.ino() == named.ino() && open.dev() == named.dev(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(path: &Path) -> usize {
        fs::read_to_string(path).unwrap_or_default().lines().count()
    }

    #[test]
    fn it_rotates_and_keeps_three() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log/violations.log");
        let mut log = Log::new(path.clone());
        let entry = Entry::loss("n1", 1, "kernel");
        log.max_bytes = entry.line().len() as u64 * 2;
        for _ in 0..11 {
            log.write(&entry).unwrap();
        }
        assert_eq!(lines(&path), 1);
        assert_eq!(
            [1, 2, 3, 4].map(|number| lines(&log.backup(number))),
            [2, 2, 2, 0]
        );
    }

    #[test]
    fn it_appends_and_follows_a_file_that_was_moved_away() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("violations.log");
        let entry = Entry::loss("n1", 1, "kernel");
        Log::new(path.clone()).write(&entry).unwrap();
        let mut log = Log::new(path.clone());
        log.write(&entry).unwrap();
        assert_eq!(lines(&path), 2);
        fs::rename(&path, folder.path().join("old")).unwrap();
        log.write(&entry).unwrap();
        assert_eq!(lines(&path), 1);
    }
}
