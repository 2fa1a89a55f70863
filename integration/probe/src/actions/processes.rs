// SPDX-License-Identifier: Apache-2.0
//! Processes: children and threads, namespaces, and reaching into other processes.

use crate::chain::{Action, Failure, Preparation, State, number};
use crate::errno::Errno;
use crate::flags;
use crate::sys::sys;

/// See the module.
pub const ACTIONS: &[Action] = &[
    Action {
        name: "fork",
        arguments: "",
        run: fork,
    },
    Action {
        name: "child",
        arguments: "UID [NAMESPACES]",
        run: child,
    },
    // The chain itself runs what follows in a new thread.
    Action {
        name: "thread",
        arguments: "",
        run: |_, _| Ok(()),
    },
    Action {
        name: "clone",
        arguments: "FLAGS",
        run: clone,
    },
    Action {
        name: "clone3",
        arguments: "FLAGS",
        run: clone3,
    },
    Action {
        name: "unshare",
        arguments: "FLAGS",
        run: unshare,
    },
    Action {
        name: "setns",
        arguments: "FD|PATH [FLAGS]",
        run: setns,
    },
    Action {
        name: "setns-pid",
        arguments: "PID FLAGS",
        run: setns_pid,
    },
    Action {
        name: "setsid",
        arguments: "",
        run: setsid,
    },
    Action {
        name: "setuid",
        arguments: "UID",
        run: setuid,
    },
    Action {
        name: "setgid",
        arguments: "GID",
        run: setgid,
    },
    Action {
        name: "map-root",
        arguments: "",
        run: map_root,
    },
    Action {
        name: "no-new-privs",
        arguments: "",
        run: no_new_privs,
    },
    Action {
        name: "kill",
        arguments: "PID SIGNAL",
        run: kill,
    },
    Action {
        name: "ptrace-attach",
        arguments: "PID",
        run: ptrace_attach,
    },
    Action {
        name: "ptrace-seize",
        arguments: "PID",
        run: ptrace_seize,
    },
    Action {
        name: "ptrace-traceme",
        arguments: "",
        run: ptrace_traceme,
    },
    Action {
        name: "process-vm-readv",
        arguments: "PID ADDRESS",
        run: process_vm_readv,
    },
    Action {
        name: "pidfd-getfd",
        arguments: "PID FD",
        run: pidfd_getfd,
    },
    Action {
        name: "sleep",
        arguments: "SECONDS",
        run: sleep,
    },
    Action {
        name: "hold",
        arguments: "",
        run: hold,
    },
];

const PTRACE_CONT: u32 = 7;
const PTRACE_ATTACH: u32 = 16;
const PTRACE_DETACH: u32 = 17;
const PTRACE_SEIZE: u32 = 0x4206;
const PTRACE_TRACEME: u32 = 0;

/// In the child: returns, and the rest of the chain runs there. In the parent: waits and ends with the child's status.
fn follow_child(pid: i64) {
    if pid == 0 {
        return;
    }
    let mut status = 0;
    // SAFETY: waits for a child of this process and writes into a live integer.
    while unsafe { libc::waitpid(pid as i32, &mut status, libc::__WALL) } == -1 {
        if Errno::last() != Errno(libc::EINTR) {
            std::process::exit(2);
        }
    }
    let code = if libc::WIFEXITED(status) {
        libc::WEXITSTATUS(status)
    } else {
        128 + libc::WTERMSIG(status)
    };
    // SAFETY: ends the process at once; nothing of the child's output is in this process's buffers.
    unsafe { libc::_exit(code) }
}

fn fork(_: &mut State, _: &[String]) -> Result<(), Failure> {
    follow_child(sys!(SYS_clone, libc::SIGCHLD, 0, 0, 0, 0)?);
    Ok(())
}

/// A process that does nothing, with this user id and in new namespaces when some are named. It ends with the chain.
fn child(state: &mut State, words: &[String]) -> Result<(), Failure> {
    let uid = number(&words[0])?;
    let namespaces = flags::parse(flags::CLONE, words.get(1).map_or("", String::as_str))?;
    let mut ready = [0u8; 8];
    sys!(SYS_pipe2, &mut ready[..], 0).prepared()?;
    let end = |at: usize| i32::from_ne_bytes(ready[at..at + 4].try_into().expect("four bytes"));
    let pid = sys!(SYS_clone, libc::SIGCHLD, 0, 0, 0, 0).prepared()?;
    if pid == 0 {
        let prepared = (|| {
            if namespaces != 0 {
                sys!(SYS_unshare, namespaces)?;
            }
            if uid != 0 {
                sys!(SYS_setresgid, uid, uid, uid)?;
                sys!(SYS_setresuid, uid, uid, uid)?;
            }
            // After the change of ids, which clears it.
            sys!(SYS_prctl, libc::PR_SET_PDEATHSIG, libc::SIGKILL, 0, 0, 0)
        })();
        let errno = prepared.err().map_or(0, |Errno(errno)| errno);
        let _ = sys!(SYS_write, end(4), &errno.to_ne_bytes()[..], 4);
        loop {
            std::thread::park();
        }
    }
    let mut errno = [0u8; 4];
    sys!(SYS_read, end(0), &mut errno[..], 4).prepared()?;
    state.keep_child(pid as i32);
    match i32::from_ne_bytes(errno) {
        0 => Ok(()),
        errno => Err(Failure::Call(Errno(errno))),
    }
}

fn clone(_: &mut State, words: &[String]) -> Result<(), Failure> {
    let flags = flags::parse(flags::CLONE, &words[0])? | libc::SIGCHLD as u64;
    follow_child(sys!(SYS_clone, flags, 0, 0, 0, 0)?);
    Ok(())
}

fn clone3(_: &mut State, words: &[String]) -> Result<(), Failure> {
    // struct clone_args: flags, pidfd, child_tid, parent_tid, exit_signal, stack, stack_size, tls.
    let arguments = [
        flags::parse(flags::CLONE, &words[0])?,
        0,
        0,
        0,
        libc::SIGCHLD as u64,
        0,
        0,
        0,
    ];
    follow_child(sys!(SYS_clone3, &arguments[..], size_of_val(&arguments))?);
    Ok(())
}

fn unshare(_: &mut State, words: &[String]) -> Result<(), Failure> {
    sys!(SYS_unshare, flags::parse(flags::CLONE, &words[0])?)?;
    Ok(())
}

fn setns(state: &mut State, words: &[String]) -> Result<(), Failure> {
    let flags = flags::parse(flags::CLONE, words.get(1).map_or("", String::as_str))?;
    let fd = if words[0].starts_with('/') {
        sys!(
            SYS_openat,
            libc::AT_FDCWD,
            &state.path(&words[0])?,
            libc::O_RDONLY
        )
        .prepared()? as i32
    } else {
        state.descriptor(&words[0])?
    };
    sys!(SYS_setns, fd, flags)?;
    Ok(())
}

fn setns_pid(state: &mut State, words: &[String]) -> Result<(), Failure> {
    let flags = flags::parse(flags::CLONE, &words[1])?;
    let fd = sys!(SYS_pidfd_open, state.pid(&words[0])?, 0).prepared()? as i32;
    sys!(SYS_setns, fd, flags)?;
    Ok(())
}

fn setsid(_: &mut State, _: &[String]) -> Result<(), Failure> {
    sys!(SYS_setsid)?;
    Ok(())
}

fn setuid(_: &mut State, words: &[String]) -> Result<(), Failure> {
    sys!(SYS_setuid, number(&words[0])?)?;
    Ok(())
}

fn setgid(_: &mut State, words: &[String]) -> Result<(), Failure> {
    sys!(SYS_setgid, number(&words[0])?)?;
    Ok(())
}

/// Makes the process root of the user namespace that it has just made.
fn map_root(_: &mut State, _: &[String]) -> Result<(), Failure> {
    for (file, text) in [
        ("setgroups", "deny"),
        ("uid_map", "0 0 1"),
        ("gid_map", "0 0 1"),
    ] {
        std::fs::write(format!("/proc/self/{file}"), text)
            .map_err(|error| Failure::Call(Errno(error.raw_os_error().unwrap_or(libc::EIO))))?;
    }
    Ok(())
}

fn no_new_privs(_: &mut State, _: &[String]) -> Result<(), Failure> {
    sys!(SYS_prctl, libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)?;
    Ok(())
}

fn kill(state: &mut State, words: &[String]) -> Result<(), Failure> {
    sys!(SYS_kill, state.pid(&words[0])?, number(&words[1])?)?;
    Ok(())
}

/// Attaching sends SIGSTOP. Who lets go before it has arrived leaves the other process stopped for good, init too: so the probe
/// waits for it, and takes it away again.
fn ptrace_attach(state: &mut State, words: &[String]) -> Result<(), Failure> {
    let pid = state.pid(&words[0])?;
    sys!(SYS_ptrace, PTRACE_ATTACH, pid, 0, 0)?;
    loop {
        let mut status = [0; 4];
        sys!(SYS_wait4, pid, &mut status[..], libc::__WALL, 0).prepared()?;
        let status = i32::from_ne_bytes(status);
        if !libc::WIFSTOPPED(status) {
            return Ok(());
        }
        match libc::WSTOPSIG(status) {
            libc::SIGSTOP => break,
            // Made up for the tracer at the end of an execve.
            libc::SIGTRAP => sys!(SYS_ptrace, PTRACE_CONT, pid, 0, 0).prepared()?,
            signal => sys!(SYS_ptrace, PTRACE_CONT, pid, 0, signal).prepared()?,
        };
    }
    sys!(SYS_ptrace, PTRACE_DETACH, pid, 0, 0).prepared()?;
    Ok(())
}

fn ptrace_seize(state: &mut State, words: &[String]) -> Result<(), Failure> {
    sys!(SYS_ptrace, PTRACE_SEIZE, state.pid(&words[0])?, 0, 0)?;
    Ok(())
}

fn ptrace_traceme(_: &mut State, _: &[String]) -> Result<(), Failure> {
    sys!(SYS_ptrace, PTRACE_TRACEME, 0, 0, 0)?;
    Ok(())
}

/// With an address that the other process has not mapped the answer is EFAULT: it was let in.
fn process_vm_readv(state: &mut State, words: &[String]) -> Result<(), Failure> {
    let mut buffer = [0u8; 8];
    let local = [buffer.as_mut_ptr() as u64, buffer.len() as u64];
    let remote = [number(&words[1])?, 8];
    match sys!(
        SYS_process_vm_readv,
        state.pid(&words[0])?,
        &local[..],
        1,
        &remote[..],
        1,
        0
    ) {
        Err(Errno(libc::EFAULT)) | Ok(_) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}

fn pidfd_getfd(state: &mut State, words: &[String]) -> Result<(), Failure> {
    let process = sys!(SYS_pidfd_open, state.pid(&words[0])?, 0).prepared()? as i32;
    let fd = sys!(SYS_pidfd_getfd, process, number(&words[1])?, 0)?;
    state.keep(fd);
    Ok(())
}

fn sleep(_: &mut State, words: &[String]) -> Result<(), Failure> {
    let seconds: f64 = words[0]
        .parse()
        .map_err(|_| Failure::Usage(format!("{:?} is no number of seconds", words[0])))?;
    std::thread::sleep(
        std::time::Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string())?,
    );
    Ok(())
}

/// Keeps the process and its descriptors for as long as somebody lets it live.
fn hold(_: &mut State, _: &[String]) -> Result<(), Failure> {
    loop {
        std::thread::park();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_that_was_attached_to_goes_on() {
        let mut other = std::process::Command::new("sleep")
            .arg("60")
            .spawn()
            .unwrap();
        let attached = ptrace_attach(&mut State::default(), &[other.id().to_string()]);
        // A SIGSTOP that was left behind would have arrived by now.
        std::thread::sleep(std::time::Duration::from_millis(100));
        let status = std::fs::read_to_string(format!("/proc/{}/status", other.id())).unwrap();
        other.kill().unwrap();
        other.wait().unwrap();
        assert_eq!(attached, Ok(()));
        assert!(status.contains("State:\tS"), "{status}");
    }
}
