// SPDX-License-Identifier: Apache-2.0
//! The hook's own log. A runtime shows a hook's stderr only when the hook fails, so what it lets pass with a warning would
//! be lost there.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use serde::Serialize;

/// Beside the daemon's violations.log.
pub const DEFAULT_LOG: &str = "/var/log/varmor/hook.log";

/// A log longer than this many bytes becomes `<name>.1`, in place of the one before.
const ROTATE_AT: u64 = 8 << 20;

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// A container started without what a policy may demand.
    Warn,
    /// A container was refused, or a clean-up failed.
    Error,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Line<'a> {
    level: Level,
    container_id: &'a str,
    /// Seconds since 1970, UTC.
    time: u64,
    message: &'a str,
}

/// Appends one line of JSON: `level`, `containerId`, `time` (seconds since 1970), `message`. The file is made for root only.
pub fn append(log: &Path, level: Level, container_id: &str, message: &str) -> io::Result<()> {
    let time = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |time| time.as_secs());
    let mut line = serde_json::to_vec(&Line {
        level,
        container_id,
        time,
        message,
    })?;
    line.push(b'\n');
    if let Some(directory) = log.parent() {
        DirBuilder::new()
            .recursive(true)
            .mode(0o750)
            .create(directory)?;
    }
    let mut file = OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o600)
        .custom_flags(libc::O_NOFOLLOW)
        .open(log)?;
    // One write, so that the lines of hooks that run at the same time don't mix.
    file.write_all(&line)?;
    if file.metadata()?.len() > ROTATE_AT {
        let mut old = log.as_os_str().to_owned();
        old.push(".1");
        fs::rename(log, PathBuf::from(old))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_json_and_stay_lines() {
        let directory = tempfile::tempdir().unwrap();
        let log = directory.path().join("new/hook.log");
        append(&log, Level::Warn, "abc", "two\nlines \"quoted\"").unwrap();
        append(&log, Level::Error, "abd", "x").unwrap();
        let text = fs::read_to_string(&log).unwrap();
        let lines: Vec<serde_json::Value> = text
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        assert_eq!(lines.len(), 2);
        assert_eq!(lines[0]["message"], "two\nlines \"quoted\"");
        assert_eq!(
            (&lines[0]["level"], &lines[1]["level"]),
            (&"warn".into(), &"error".into())
        );
    }

    #[test]
    fn a_long_log_is_put_aside() {
        let directory = tempfile::tempdir().unwrap();
        let log = directory.path().join("hook.log");
        fs::File::create(&log).unwrap().set_len(ROTATE_AT).unwrap();
        append(&log, Level::Warn, "abc", "last").unwrap();
        assert!(!log.exists());
        append(&log, Level::Warn, "abc", "first").unwrap();
        assert!(
            fs::metadata(directory.path().join("hook.log.1"))
                .unwrap()
                .len()
                > ROTATE_AT
        );
        assert_eq!(fs::read_to_string(&log).unwrap().lines().count(), 1);
    }

    #[test]
    fn a_link_in_the_logs_place_is_not_followed() {
        let directory = tempfile::tempdir().unwrap();
        let (target, log) = (
            directory.path().join("target"),
            directory.path().join("hook.log"),
        );
        std::os::unix::fs::symlink(&target, &log).unwrap();
        assert!(append(&log, Level::Warn, "abc", "x").is_err());
        assert!(!target.exists());
    }
}
