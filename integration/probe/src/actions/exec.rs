// SPDX-License-Identifier: Apache-2.0
//! Executing: programs, descriptors, memory. A program that was executed gives the exit status, and nothing is printed.

use std::ffi::CString;

use crate::chain::{Action, Failure, Preparation, State, string};
use crate::sys::sys;

/// See the module.
pub const ACTIONS: &[Action] = &[
    Action {
        name: "exec",
        arguments: "PATH [ARGUMENT...]",
        run: exec,
    },
    Action {
        name: "execveat",
        arguments: "PATH [ARGUMENT...]",
        run: execveat,
    },
    Action {
        name: "exec-memfd",
        arguments: "FILE [ARGUMENT...]",
        run: exec_memfd,
    },
    Action {
        name: "memfd",
        arguments: "NAME",
        run: memfd,
    },
    Action {
        name: "mmap-exec",
        arguments: "FILE",
        run: mmap_exec,
    },
    Action {
        name: "mprotect-exec",
        arguments: "FILE",
        run: mprotect_exec,
    },
];

/// argv as execve takes it; the pointers are valid as long as the strings live.
struct Vector {
    _strings: Vec<CString>,
    pointers: Vec<u64>,
}

fn vector(words: &[String]) -> Result<Vector, Failure> {
    let strings = words
        .iter()
        .map(|word| string(word))
        .collect::<Result<Vec<_>, _>>()?;
    let mut pointers: Vec<u64> = strings.iter().map(|word| word.as_ptr() as u64).collect();
    pointers.push(0);
    Ok(Vector {
        _strings: strings,
        pointers,
    })
}

fn exec(_: &mut State, words: &[String]) -> Result<(), Failure> {
    let argv = vector(words)?;
    let environment = [0u64];
    sys!(
        SYS_execve,
        &string(&words[0])?,
        &argv.pointers[..],
        &environment[..]
    )?;
    Ok(())
}

fn execveat(state: &mut State, words: &[String]) -> Result<(), Failure> {
    let at = state.at(&words[0])?;
    let argv = vector(words)?;
    let environment = [0u64];
    sys!(
        SYS_execveat,
        at.fd,
        &at.path,
        &argv.pointers[..],
        &environment[..],
        at.empty_path()
    )?;
    Ok(())
}

/// A copy of a program that has no name in any file system.
fn exec_memfd(_: &mut State, words: &[String]) -> Result<(), Failure> {
    let program = std::fs::read(&words[0]).map_err(|error| Failure::Setup(errno_of(&error)))?;
    let fd = sys!(SYS_memfd_create, c"copy", 0).prepared()? as i32;
    let mut written = 0;
    while written < program.len() {
        written +=
            sys!(SYS_write, fd, &program[written..], program.len() - written).prepared()? as usize;
    }
    let argv = vector(words)?;
    let environment = [0u64];
    sys!(
        SYS_execveat,
        fd,
        c"",
        &argv.pointers[..],
        &environment[..],
        libc::AT_EMPTY_PATH
    )?;
    Ok(())
}

fn errno_of(error: &std::io::Error) -> crate::errno::Errno {
    crate::errno::Errno(error.raw_os_error().unwrap_or(libc::EIO))
}

fn memfd(state: &mut State, words: &[String]) -> Result<(), Failure> {
    let fd = sys!(SYS_memfd_create, &string(&words[0])?, 0)?;
    state.keep(fd);
    Ok(())
}

const PAGE: usize = 4096;

fn map(file: &str, protection: i32) -> Result<Result<i64, crate::errno::Errno>, Failure> {
    let fd = sys!(SYS_openat, libc::AT_FDCWD, &string(file)?, libc::O_RDONLY).prepared()? as i32;
    Ok(sys!(
        SYS_mmap,
        0,
        PAGE,
        protection,
        libc::MAP_PRIVATE,
        fd,
        0
    ))
}

fn mmap_exec(_: &mut State, words: &[String]) -> Result<(), Failure> {
    map(&words[0], libc::PROT_READ | libc::PROT_EXEC)??;
    Ok(())
}

fn mprotect_exec(_: &mut State, words: &[String]) -> Result<(), Failure> {
    let address = map(&words[0], libc::PROT_READ)?.prepared()? as u64;
    sys!(
        SYS_mprotect,
        address,
        PAGE,
        libc::PROT_READ | libc::PROT_EXEC
    )?;
    Ok(())
}
