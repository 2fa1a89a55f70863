// SPDX-License-Identifier: Apache-2.0
//! Asks a container's main process, `probe serve`, to try something.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use varmor_scenario::guest::cri::Output;

/// The driver itself gives up earlier.
const TIMEOUT: Duration = Duration::from_secs(60);

/// One container's driver.
pub struct Driver {
    requests: File,
    answers: File,
    /// Beyond the last whole answer.
    read: Vec<u8>,
    number: u64,
}

impl Driver {
    /// Makes the pipes that a container finds at /conformance when `folder` is mounted there.
    pub fn pipes(folder: &Path) -> Result<()> {
        std::fs::create_dir_all(folder)?;
        for name in ["requests", "answers"] {
            let path = folder.join(name);
            if path.exists() {
                std::fs::remove_file(&path)?;
            }
            let status = Command::new("mkfifo").arg(&path).status()?;
            ensure!(status.success(), "mkfifo {}: {status}", path.display());
        }
        Ok(())
    }

    /// Opens them on this side.
    pub fn open(folder: &Path) -> Result<Self> {
        let open = |name: &str| {
            let path: PathBuf = folder.join(name);
            File::options()
                .read(true)
                .write(true)
                .open(&path)
                .with_context(|| path.display().to_string())
        };
        Ok(Self {
            requests: open("requests")?,
            answers: open("answers")?,
            read: Vec::new(),
            number: 0,
        })
    }

    /// Has a line tried.
    ///
    /// # Errors
    /// The driver does not answer; what the line came to is no error.
    pub fn run(&mut self, line: &str) -> Result<Output> {
        ensure!(!line.contains('\n'), "{line:?} is more than one line");
        self.number += 1;
        writeln!(self.requests, "{} {line}", self.number)?;
        let until = Instant::now() + TIMEOUT;
        loop {
            let answer = self.line(until).with_context(|| line.to_string())?;
            let mut parts = answer.split('\t');
            // An answer that came too late belongs to an earlier question.
            if parts.next() != Some(&self.number.to_string()) {
                continue;
            }
            let (Some(status), Some(stdout), Some(stderr)) =
                (parts.next(), parts.next(), parts.next())
            else {
                bail!("the driver's answer makes no sense: {answer:?}");
            };
            return Ok(Output {
                status: status.parse().context("the driver's exit status")?,
                stdout: unescaped(stdout),
                stderr: unescaped(stderr),
            });
        }
    }

    fn line(&mut self, until: Instant) -> Result<String> {
        loop {
            if let Some(end) = self.read.iter().position(|byte| *byte == b'\n') {
                let rest = self.read.split_off(end + 1);
                let line = std::mem::replace(&mut self.read, rest);
                return Ok(String::from_utf8_lossy(&line[..end]).into_owned());
            }
            let left = until.saturating_duration_since(Instant::now());
            ensure!(
                !left.is_zero() && readable(&self.answers, left),
                "the container's driver does not answer"
            );
            let mut buffer = [0; 4096];
            let length = self.answers.read(&mut buffer)?;
            self.read.extend_from_slice(&buffer[..length]);
        }
    }
}

fn readable(file: &File, timeout: Duration) -> bool {
    let mut poll = libc::pollfd {
        fd: file.as_raw_fd(),
        events: libc::POLLIN,
        revents: 0,
    };
    // SAFETY: one live structure.
    unsafe { libc::poll(&mut poll, 1, timeout.as_millis() as i32) > 0 }
}

fn unescaped(text: &str) -> String {
    let mut plain = String::new();
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        match (character, character == '\\') {
            (_, true) => plain.push(match characters.next() {
                Some('n') => '\n',
                Some('t') => '\t',
                other => other.unwrap_or('\\'),
            }),
            (other, false) => plain.push(other),
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outputs_come_back_as_they_were() {
        assert_eq!(unescaped("a\\tb\\\\n\\n"), "a\tb\\n\n");
    }

    #[test]
    fn a_late_answer_is_not_taken_for_another_questions() {
        let folder = tempfile::tempdir().unwrap();
        Driver::pipes(folder.path()).unwrap();
        let mut driver = Driver::open(folder.path()).unwrap();
        let mut answers = File::options()
            .write(true)
            .open(folder.path().join("answers"))
            .unwrap();
        answers
            .write_all(b"7\t0\tlate\t\n1\t3\tone\\n\ttwo\n")
            .unwrap();
        let output = driver.run("probe fork").unwrap();
        assert_eq!(
            (output.status, &*output.stdout, &*output.stderr),
            (3, "one\n", "two")
        );
    }
}
