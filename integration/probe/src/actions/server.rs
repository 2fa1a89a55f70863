// SPDX-License-Identifier: Apache-2.0
//! A web server of the kind that nginx is: a master that binds and forks, workers that give their privileges up and send files
//! with sendfile(2).

use crate::chain::{Action, Failure, Preparation, State, number, string};
use crate::sys::sys;

/// See the module.
pub const ACTIONS: &[Action] = &[Action {
    name: "web-server",
    arguments: "FD FILE UID WORKERS",
    run: web_server,
}];

/// Serves on a listening socket until it is killed. Ends with the first error of a worker's start.
fn web_server(state: &mut State, words: &[String]) -> Result<(), Failure> {
    let listener = state.descriptor(&words[0])?;
    let file = string(&words[1])?;
    let uid = number(&words[2])?;
    for _ in 0..number(&words[3])? {
        if sys!(SYS_clone, libc::SIGCHLD, 0, 0, 0, 0)? == 0 {
            let started = (|| {
                sys!(SYS_setgroups, 0, 0)?;
                sys!(SYS_setresgid, uid, uid, uid)?;
                sys!(SYS_setresuid, uid, uid, uid)
            })();
            if started.is_ok() {
                while answer(listener, &file).is_ok() {}
            }
            // SAFETY: ends the worker; it has no buffers.
            unsafe { libc::_exit(1) }
        }
    }
    let mut status = 0;
    // SAFETY: waits for a child of this process and writes into a live integer.
    unsafe { libc::waitpid(-1, &mut status, 0) };
    Err(Failure::Call(crate::errno::Errno(libc::ECHILD)))
}

fn answer(listener: i32, file: &std::ffi::CStr) -> Result<(), Failure> {
    let poll = sys!(SYS_epoll_create1, 0).prepared()? as i32;
    // struct epoll_event is packed: u32 events, u64 data.
    let mut wanted = [0u8; 12];
    wanted[0] = libc::EPOLLIN as u8;
    sys!(
        SYS_epoll_ctl,
        poll,
        libc::EPOLL_CTL_ADD,
        listener,
        &wanted[..]
    )
    .prepared()?;
    let mut ready = [0u8; 12];
    sys!(SYS_epoll_wait, poll, &mut ready[..], 1, -1).prepared()?;
    let connection = sys!(SYS_accept4, listener, 0, 0, 0).prepared()? as i32;
    let mut request = [0u8; 4096];
    sys!(SYS_read, connection, &mut request[..], 4096).prepared()?;
    let source = sys!(SYS_openat, libc::AT_FDCWD, file, libc::O_RDONLY)? as i32;
    let length = sys!(SYS_lseek, source, 0, libc::SEEK_END).prepared()? as u64;
    sys!(SYS_lseek, source, 0, libc::SEEK_SET).prepared()?;
    let header =
        format!("HTTP/1.0 200 OK\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n");
    sys!(SYS_write, connection, header.as_bytes(), header.len()).prepared()?;
    let mut sent = 0;
    while sent < length {
        sent += sys!(SYS_sendfile, connection, source, 0, length - sent)? as u64;
    }
    for fd in [connection, source, poll] {
        sys!(SYS_close, fd).prepared()?;
    }
    Ok(())
}
