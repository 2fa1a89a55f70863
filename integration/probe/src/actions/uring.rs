// SPDX-License-Identifier: Apache-2.0
//! The same calls through io_uring, which other kernel paths and other credentials make.

use std::sync::atomic::{AtomicU32, Ordering};

use crate::chain::{Action, Failure, Preparation, State, number, string};
use crate::errno::Errno;
use crate::flags;
use crate::sys::sys;

/// See the module.
pub const ACTIONS: &[Action] = &[
    Action {
        name: "uring-open",
        arguments: "FLAGS PATH",
        run: open,
    },
    Action {
        name: "uring-open-async",
        arguments: "FLAGS PATH",
        run: open_async,
    },
    Action {
        name: "uring-unlink",
        arguments: "PATH",
        run: unlink,
    },
    Action {
        name: "uring-rename",
        arguments: "OLD NEW",
        run: rename,
    },
    Action {
        name: "uring-personality-open",
        arguments: "UID FLAGS PATH",
        run: personality_open,
    },
];

// From linux/io_uring.h.
const IORING_OFF_SQ_RING: i64 = 0;
const IORING_OFF_SQES: i64 = 0x1000_0000;
const IORING_ENTER_GETEVENTS: u32 = 1;
const IORING_REGISTER_PERSONALITY: u32 = 9;
const IORING_OP_OPENAT: u8 = 18;
const IORING_OP_RENAMEAT: u8 = 35;
const IORING_OP_UNLINKAT: u8 = 36;
const IOSQE_ASYNC: u8 = 1 << 4;

const RING_SIZE: usize = 4096;

/// A ring of one entry. Both queues lie in one mapping, as on every kernel from 5.4 on.
struct Ring {
    fd: i32,
    /// struct io_uring_params as the kernel filled it in.
    parameters: [u8; 120],
    queues: *mut u8,
    entries: *mut u8,
}

/// The fields of struct io_uring_sqe that an operation here needs.
#[derive(Default)]
struct Entry {
    opcode: u8,
    flags: u8,
    fd: i32,
    /// `off`, or a second pointer.
    offset: u64,
    address: u64,
    length: u32,
    operation_flags: u32,
    personality: u16,
}

impl Ring {
    fn new() -> Result<Self, Errno> {
        let mut parameters = [0u8; 120];
        let fd = sys!(SYS_io_uring_setup, 1, &mut parameters[..])? as i32;
        let map = |offset: i64| -> Result<*mut u8, Errno> {
            let protection = libc::PROT_READ | libc::PROT_WRITE;
            let address = sys!(
                SYS_mmap,
                0,
                RING_SIZE,
                protection,
                libc::MAP_SHARED | libc::MAP_POPULATE,
                fd,
                offset as u64
            )?;
            Ok(address as *mut u8)
        };
        Ok(Self {
            fd,
            parameters,
            queues: map(IORING_OFF_SQ_RING)?,
            entries: map(IORING_OFF_SQES)?,
        })
    }

    /// A field of io_uring_params: sq_off begins at 40, cq_off at 80.
    fn offset(&self, at: usize) -> usize {
        u32::from_ne_bytes(self.parameters[at..at + 4].try_into().expect("four bytes")) as usize
    }

    fn word(&self, offset: usize) -> &AtomicU32 {
        // SAFETY: the offset is one that the kernel gave for a 32-bit word inside the mapping, which lives as long as the
        // process.
        unsafe { &*self.queues.add(offset).cast::<AtomicU32>() }
    }

    /// Submits one operation and waits for its result.
    fn run(&self, entry: &Entry) -> Result<i32, Errno> {
        let mut bytes = [0u8; 64];
        bytes[0] = entry.opcode;
        bytes[1] = entry.flags;
        bytes[4..8].copy_from_slice(&entry.fd.to_ne_bytes());
        bytes[8..16].copy_from_slice(&entry.offset.to_ne_bytes());
        bytes[16..24].copy_from_slice(&entry.address.to_ne_bytes());
        bytes[24..28].copy_from_slice(&entry.length.to_ne_bytes());
        bytes[28..32].copy_from_slice(&entry.operation_flags.to_ne_bytes());
        bytes[42..44].copy_from_slice(&entry.personality.to_ne_bytes());
        // SAFETY: the ring has one entry of 64 bytes at the start of this mapping.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), self.entries, bytes.len()) };
        // The index array's only slot names entry 0; its offset follows head, tail, mask, entries, flags and dropped.
        self.word(self.offset(40 + 24)).store(0, Ordering::Relaxed);
        self.word(self.offset(40 + 4))
            .fetch_add(1, Ordering::Release);
        sys!(
            SYS_io_uring_enter,
            self.fd,
            1,
            1,
            IORING_ENTER_GETEVENTS,
            0,
            0
        )?;
        let head = self.word(self.offset(80)).load(Ordering::Acquire);
        let mask = self.word(self.offset(80 + 8)).load(Ordering::Relaxed);
        // struct io_uring_cqe: u64 user_data, i32 res, u32 flags.
        let completion = self.offset(80 + 20) + 16 * (head & mask) as usize;
        let result = self.word(completion + 8).load(Ordering::Acquire) as i32;
        self.word(self.offset(80))
            .store(head + 1, Ordering::Release);
        if result < 0 {
            Err(Errno(-result))
        } else {
            Ok(result)
        }
    }
}

fn open_with(
    state: &mut State,
    words: &[String],
    entry_flags: u8,
    personality: Option<u64>,
) -> Result<(), Failure> {
    let open_flags = flags::parse(flags::OPEN, &words[0])? as u32;
    let path = string(&words[1])?;
    let ring = Ring::new().prepared()?;
    let personality = match personality {
        None => 0,
        Some(uid) => {
            let id = sys!(
                SYS_io_uring_register,
                ring.fd,
                IORING_REGISTER_PERSONALITY,
                0,
                0
            )
            .prepared()? as u16;
            // Credentials of its own: from here on the registered ones are others than the task's.
            sys!(SYS_setresuid, -1, uid, -1).prepared()?;
            id
        }
    };
    let fd = ring.run(&Entry {
        opcode: IORING_OP_OPENAT,
        flags: entry_flags,
        fd: libc::AT_FDCWD,
        address: path.as_ptr() as u64,
        length: 0o644,
        operation_flags: open_flags,
        personality,
        ..Entry::default()
    })?;
    state.keep(fd.into());
    Ok(())
}

fn open(state: &mut State, words: &[String]) -> Result<(), Failure> {
    open_with(state, words, 0, None)
}

/// Made by a kernel worker thread of the ring instead of the caller.
fn open_async(state: &mut State, words: &[String]) -> Result<(), Failure> {
    open_with(state, words, IOSQE_ASYNC, None)
}

/// Registers the present credentials, takes another effective uid, and opens with the registered ones.
fn personality_open(state: &mut State, words: &[String]) -> Result<(), Failure> {
    open_with(state, &words[1..], 0, Some(number(&words[0])?))
}

fn unlink(_: &mut State, words: &[String]) -> Result<(), Failure> {
    let path = string(&words[0])?;
    let entry = Entry {
        opcode: IORING_OP_UNLINKAT,
        fd: libc::AT_FDCWD,
        address: path.as_ptr() as u64,
        ..Entry::default()
    };
    Ring::new().prepared()?.run(&entry)?;
    Ok(())
}

fn rename(_: &mut State, words: &[String]) -> Result<(), Failure> {
    let (old, new) = (string(&words[0])?, string(&words[1])?);
    let entry = Entry {
        opcode: IORING_OP_RENAMEAT,
        fd: libc::AT_FDCWD,
        address: old.as_ptr() as u64,
        offset: new.as_ptr() as u64,
        length: libc::AT_FDCWD as u32,
        ..Entry::default()
    };
    Ring::new().prepared()?.run(&entry)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::chain::{Chain, Verdict};

    /// Where the machine that runs the tests forbids io_uring there is nothing to compare with.
    #[test]
    fn a_file_is_opened_through_a_ring() {
        let run = |line: &str| {
            Chain::parse(
                &line
                    .split_whitespace()
                    .map(str::to_string)
                    .collect::<Vec<_>>(),
            )
            .unwrap()
            .run()
        };
        match run("uring-open r /etc/passwd then read @") {
            Verdict::Setup { errno, .. } if matches!(errno.name().as_str(), "EPERM" | "ENOSYS") => {
            }
            verdict => {
                assert_eq!(verdict, Verdict::Success);
                assert_eq!(
                    run("uring-open-async r /etc/passwd then read @"),
                    Verdict::Success
                );
                assert!(
                    matches!(run("uring-open r /nowhere"), Verdict::Refused { errno, .. } if errno.name() == "ENOENT")
                );
            }
        }
    }
}
