// SPDX-License-Identifier: Apache-2.0
//! Counts what four operations cost the process that runs this, in instructions of the guest.
//!
//! Under `-icount shift=0` QEMU's time stamp counter advances by one with each guest instruction, so that two readings
//! tell how many lie between them, whatever the machine around the guest is doing.

use std::fs::File;
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};

/// Readings per operation and batch; the timer's interrupts fall into a few of them, which a median leaves out.
const READINGS: usize = 101;
/// The first batch warms the caches of the kernel and does not count.
const BATCHES: usize = 5;

/// Medians for one process, in instructions, the reading of the counter included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// open(2) for reading and close(2) of the deep path.
    pub open: u64,
    /// vfork, execve of a static program, its exit, and wait.
    pub exec: u64,
    /// connect(2) of a UDP socket.
    pub udp: u64,
    /// socket, connect and close over TCP.
    pub tcp: u64,
}

impl Counts {
    /// The lower count of each operation.
    pub fn lower(self, other: Self) -> Self {
        Self {
            open: self.open.min(other.open),
            exec: self.exec.min(other.exec),
            udp: self.udp.min(other.udp),
            tcp: self.tcp.min(other.tcp),
        }
    }

    /// One line, for the process that started this one.
    pub fn to_line(self) -> String {
        format!(
            "counts {} {} {} {}",
            self.open, self.exec, self.udp, self.tcp
        )
    }

    /// Reads such a line.
    pub fn from_line(line: &str) -> Option<Self> {
        let mut numbers = line
            .trim()
            .strip_prefix("counts ")?
            .split(' ')
            .map(str::parse);
        let mut next = || numbers.next()?.ok();
        let counts = Self {
            open: next()?,
            exec: next()?,
            udp: next()?,
            tcp: next()?,
        };
        numbers.next().is_none().then_some(counts)
    }
}

/// Measures this process.
///
/// # Errors
///
/// Fails when an operation does: then something refused it, and its count would mean nothing.
pub fn measure(path: &Path, program: &Path) -> Result<Counts> {
    let udp = UdpSocket::bind("127.0.0.1:0").context("making a UDP socket")?;
    let receiver = UdpSocket::bind("127.0.0.1:0").context("making a UDP socket")?;
    let udp_target = receiver.local_addr()?;
    let listener = TcpListener::bind("127.0.0.1:0").context("listening on loopback")?;
    let tcp_target = listener.local_addr()?;
    Ok(Counts {
        open: batches(|| {
            count(|| File::open(path).map(drop))
                .with_context(|| format!("opening {}", path.display()))
        })?,
        exec: batches(|| {
            count(|| exec_and_wait(program))
                .with_context(|| format!("executing {}", program.display()))
        })?,
        udp: batches(|| count(|| udp.connect(udp_target)).context("connecting a UDP socket"))?,
        tcp: batches(|| connect_and_accept(&listener, tcp_target))?,
    })
}

fn connect_and_accept(listener: &TcpListener, target: SocketAddr) -> Result<u64> {
    let count = count(|| TcpStream::connect(target).map(drop)).context("connecting over TCP")?;
    // Not counted; without it the queue of waiting connections fills up.
    listener.accept().context("accepting")?;
    Ok(count)
}

fn exec_and_wait(program: &Path) -> std::io::Result<()> {
    // The standard library takes posix_spawn here, which is vfork and execve and hardly more.
    let status = Command::new(program).env_clear().status()?;
    if status.success() {
        Ok(())
    } else {
        Err(std::io::Error::other(format!("it ended with {status}")))
    }
}

fn batches(mut reading: impl FnMut() -> Result<u64>) -> Result<u64> {
    let mut medians = Vec::with_capacity(BATCHES);
    for batch in 0..=BATCHES {
        let mut readings = (0..READINGS)
            .map(|_| reading())
            .collect::<Result<Vec<_>>>()?;
        readings.sort_unstable();
        if batch > 0 {
            medians.push(readings[READINGS / 2]);
        }
    }
    medians.sort_unstable();
    let (lowest, highest) = (medians[0], medians[BATCHES - 1]);
    // Where the counter runs with real time instead, batches differ by far more.
    ensure!(
        highest - lowest <= lowest / 10 + 100,
        "batches between {lowest} and {highest}: does the guest run with -icount?"
    );
    Ok(medians[BATCHES / 2])
}

fn count(operation: impl FnOnce() -> std::io::Result<()>) -> std::io::Result<u64> {
    let before = counter();
    operation()?;
    Ok(counter() - before)
}

fn counter() -> u64 {
    // SAFETY: rdtsc exists on every x86-64 processor, touches no memory, and Linux permits it to processes.
    unsafe { std::arch::x86_64::_rdtsc() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_survive_the_way_to_the_other_process() {
        let counts = Counts {
            open: 8995,
            exec: 173_300,
            udp: 2009,
            tcp: 32_200,
        };
        assert_eq!(Counts::from_line(&counts.to_line()), Some(counts));
        assert_eq!(Counts::from_line("counts 1 2 3"), None);
        assert_eq!(Counts::from_line("counts 1 2 3 4 5"), None);
        assert_eq!(Counts::from_line("open 1"), None);
    }
}
