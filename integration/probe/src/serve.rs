// SPDX-License-Identifier: Apache-2.0
//! `probe serve`: a container's main process that does what it is asked to, one request after the other.
//!
//! A runtime's exec starts several programs for each question, which in an emulated machine takes a second. Here a question
//! costs one fork. What is tried is a child of the container's own main process, and so under the container's policy.
//!
//! A request is a line `NUMBER TEXT`. A text that is a plain `probe` line is made by the child itself, any other by `/bin/sh -c`.
//! The answer is a line `NUMBER STATUS OUTPUT ERROR`, parted by tabs, with `\n`, `\t` and `\\` in the outputs escaped; a child
//! that a signal ended has 128 and the signal's number for its status.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::fd::{AsRawFd, FromRawFd};
use std::os::unix::process::CommandExt;
use std::path::Path;

use crate::errno::Errno;

/// Longer than any trial takes.
const TIMEOUT_MS: i32 = 20_000;
/// As timeout(1) has it.
const TIMED_OUT: i32 = 124;
/// As the shell has it.
const CANNOT_EXECUTE: u8 = 126;

/// Serves until an error; both files are named pipes. Opening them for reading and writing keeps them from ever being at their
/// end.
pub fn serve(requests: &Path, answers: &Path) -> io::Error {
    let open = |path| File::options().read(true).write(true).open(path);
    let run = || -> io::Result<()> {
        let requests = BufReader::new(open(requests)?);
        let mut answers = open(answers)?;
        for line in requests.lines() {
            let line = line?;
            let (number, text) = line.split_once(' ').unwrap_or((&line, ""));
            let outcome = trial(text)?;
            let answer = format!(
                "{number}\t{}\t{}\t{}\n",
                outcome.status,
                escaped(&outcome.output),
                escaped(&outcome.error)
            );
            answers.write_all(answer.as_bytes())?;
        }
        Err(io::ErrorKind::UnexpectedEof.into())
    };
    match run() {
        Ok(()) => io::ErrorKind::UnexpectedEof.into(),
        Err(error) => error,
    }
}

struct Outcome {
    status: i32,
    output: String,
    error: String,
}

fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\")
        .replace('\t', "\\t")
        .replace('\n', "\\n")
}

/// The words of a line that needs no shell, without the first, which is `probe`.
fn plain(text: &str) -> Option<Vec<String>> {
    let mut words = text.split_ascii_whitespace().map(str::to_string);
    (words.next()? == "probe"
        && !text.contains(['$', '`', '\'', '"', '\\', '|', '&', ';', '<', '>', '(', ')']))
    .then(|| words.collect())
}

fn trial(text: &str) -> io::Result<Outcome> {
    let (mut output, output_end) = pipe()?;
    let (mut error, error_end) = pipe()?;
    // SAFETY: this process has one thread.
    let child = match unsafe { libc::fork() } {
        -1 => return Err(io::Error::last_os_error()),
        0 => in_child(text, &output_end, &error_end),
        pid => pid,
    };
    drop((output_end, error_end));
    let status = wait(child)?;
    // What it left behind, and with it the pipes' other ends.
    // SAFETY: kill(2) and waitpid(2) take numbers and a null pointer.
    unsafe {
        libc::kill(-child, libc::SIGKILL);
        while libc::waitpid(-child, std::ptr::null_mut(), libc::WNOHANG) > 0 {}
    }
    Ok(Outcome {
        status,
        output: drained(&mut output),
        error: drained(&mut error),
    })
}

/// Reads what is there; somebody may hold the other end still.
fn drained(pipe: &mut File) -> String {
    let mut text = Vec::new();
    let mut buffer = [0; 4096];
    while let Ok(length @ 1..) = pipe.read(&mut buffer) {
        text.extend_from_slice(&buffer[..length]);
    }
    String::from_utf8_lossy(&text).into_owned()
}

/// The end to read from, which never waits, and the one to write to.
fn pipe() -> io::Result<(File, File)> {
    let mut ends = [0; 2];
    // SAFETY: pipe2 writes two descriptors, which are nobody else's.
    unsafe {
        if libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC) == -1 {
            return Err(io::Error::last_os_error());
        }
        libc::fcntl(ends[0], libc::F_SETFL, libc::O_NONBLOCK);
        Ok((File::from_raw_fd(ends[0]), File::from_raw_fd(ends[1])))
    }
}

fn in_child(text: &str, output: &File, error: &File) -> ! {
    // SAFETY: descriptors and numbers; the process is its own session from here, so that it can be ended with all it started.
    unsafe {
        libc::setsid();
        libc::dup2(output.as_raw_fd(), 1);
        libc::dup2(error.as_raw_fd(), 2);
    }
    let outcome = match plain(text) {
        Some(words) => crate::trial(&words),
        None => {
            let failed = std::process::Command::new("/bin/sh")
                .args(["-c", text])
                .exec();
            let errno = Errno(failed.raw_os_error().unwrap_or(0));
            crate::Outcome {
                status: CANNOT_EXECUTE,
                output: String::new(),
                error: format!("probe: /bin/sh: {}\n", errno.text()),
            }
        }
    };
    let (mut output, mut error) = (output, error);
    let _ = output.write_all(outcome.output.as_bytes());
    let _ = error.write_all(outcome.error.as_bytes());
    // SAFETY: ends the process without the parent's buffers.
    unsafe { libc::_exit(outcome.status.into()) }
}

/// The exit status of a child, which is killed when it takes too long.
fn wait(child: i32) -> io::Result<i32> {
    // SAFETY: pidfd_open takes two numbers.
    let descriptor = unsafe { libc::syscall(libc::SYS_pidfd_open, child, 0) } as i32;
    if descriptor == -1 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor is new.
    let descriptor = unsafe { File::from_raw_fd(descriptor) };
    let mut poll = libc::pollfd {
        fd: descriptor.as_raw_fd(),
        events: libc::POLLIN,
        revents: 0,
    };
    // SAFETY: one live structure.
    let timed_out = unsafe { libc::poll(&mut poll, 1, TIMEOUT_MS) } == 0;
    let mut status = 0;
    // SAFETY: a child of this process, and a live integer.
    unsafe {
        if timed_out {
            libc::kill(-child, libc::SIGKILL);
        }
        if libc::waitpid(child, &mut status, 0) == -1 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(match (timed_out, libc::WIFEXITED(status)) {
        (true, _) => TIMED_OUT,
        (false, true) => libc::WEXITSTATUS(status),
        (false, false) => 128 + libc::WTERMSIG(status),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_for_the_shell_are_told_from_plain_ones() {
        assert_eq!(
            plain("probe tcp-connect [::1]:80").unwrap(),
            ["tcp-connect", "[::1]:80"]
        );
        for line in ["cat /etc/shadow", "probe open r $X", "probe fork; true", ""] {
            assert_eq!(plain(line), None, "{line}");
        }
    }

    #[test]
    fn output_status_and_leftovers() {
        let outcome = trial("echo one; echo two >&2; sleep 1000 & exit 7").unwrap();
        assert_eq!(
            (
                outcome.status,
                outcome.output.as_str(),
                outcome.error.as_str()
            ),
            (7, "one\n", "two\n")
        );
        let outcome = trial("probe open r /nowhere/at/all").unwrap();
        assert_eq!(outcome.status, 1);
        assert!(
            outcome.output.starts_with("ERRNO ENOENT"),
            "{}",
            outcome.output
        );
        assert_eq!(trial("kill -9 $$").unwrap().status, 128 + 9);
    }

    #[test]
    fn answers_stay_on_one_line() {
        assert_eq!(escaped("a\tb\\n\n"), "a\\tb\\\\n\\n");
    }
}
