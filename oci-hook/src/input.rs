// SPDX-License-Identifier: Apache-2.0
//! Reading what another program sends or left, without trusting that it is short or that it ends.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::path::Path;
use std::time::{Duration, Instant};

/// Reads to the end of a pipe or file, but no more than `limit` bytes and for no longer than `patience`.
///
/// # Errors
/// `TimedOut` and `FileTooLarge` for the two limits, else what the kernel said.
pub fn read_pipe(pipe: BorrowedFd<'_>, limit: usize, patience: Duration) -> io::Result<Vec<u8>> {
    // A duplicate, because the standard library's own handle hides bytes from poll(2) in its buffer.
    let mut pipe = File::from(pipe.try_clone_to_owned()?);
    let deadline = Instant::now() + patience;
    let mut bytes = Vec::new();
    let mut chunk = [0; 16 << 10];
    loop {
        wait_readable(
            pipe.as_fd(),
            deadline.saturating_duration_since(Instant::now()),
        )?;
        match pipe.read(&mut chunk)? {
            0 => return Ok(bytes),
            read => bytes.extend_from_slice(&chunk[..read]),
        }
        if bytes.len() > limit {
            return Err(too_large(limit));
        }
    }
}

/// Reads a file of at most `limit` bytes.
///
/// # Errors
/// `FileTooLarge` for a longer one, else what the kernel said.
pub fn read_file(path: &Path, limit: usize) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?
        .take(limit as u64 + 1)
        .read_to_end(&mut bytes)?;
    if bytes.len() > limit {
        return Err(too_large(limit));
    }
    Ok(bytes)
}

fn too_large(limit: usize) -> io::Error {
    io::Error::new(
        io::ErrorKind::FileTooLarge,
        format!("it is longer than {limit} bytes"),
    )
}

fn wait_readable(pipe: BorrowedFd<'_>, patience: Duration) -> io::Result<()> {
    let deadline = Instant::now() + patience;
    loop {
        let mut request = libc::pollfd {
            fd: pipe.as_raw_fd(),
            events: libc::POLLIN,
            revents: 0,
        };
        let left = deadline
            .saturating_duration_since(Instant::now())
            .as_millis();
        // SAFETY: one pollfd, alive and writable for the whole call; the descriptor is borrowed, so it is open.
        let ready = unsafe { libc::poll(&mut request, 1, i32::try_from(left).unwrap_or(i32::MAX)) };
        match ready {
            1.. => return Ok(()),
            0 => {
                return Err(io::Error::new(
                    io::ErrorKind::TimedOut,
                    "it did not end in time",
                ));
            }
            _ => {
                let error = io::Error::last_os_error();
                if error.kind() != io::ErrorKind::Interrupted {
                    return Err(error);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn a_pipe_is_read_to_its_end() {
        let (reader, mut writer) = io::pipe().unwrap();
        let text = vec![b'x'; 50_000];
        let expected = text.clone();
        let thread = std::thread::spawn(move || writer.write_all(&text));
        assert_eq!(
            read_pipe(reader.as_fd(), 50_000, Duration::from_secs(5)).unwrap(),
            expected
        );
        thread.join().unwrap().unwrap();
    }

    #[test]
    fn a_pipe_that_never_ends_is_given_up() {
        let (reader, mut writer) = io::pipe().unwrap();
        writer.write_all(b"{").unwrap();
        let error = read_pipe(reader.as_fd(), 10, Duration::from_millis(20)).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }

    #[test]
    fn too_much_is_refused() {
        let (reader, mut writer) = io::pipe().unwrap();
        writer.write_all(&[b'x'; 11]).unwrap();
        let error = read_pipe(reader.as_fd(), 10, Duration::from_secs(5)).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::FileTooLarge);
        assert_eq!(
            read_file(Path::new("/dev/zero"), 10).unwrap_err().kind(),
            io::ErrorKind::FileTooLarge
        );
    }
}
