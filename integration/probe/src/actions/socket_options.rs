// SPDX-License-Identifier: Apache-2.0
//! Options of sockets, those that load a program among them.

use crate::chain::{Action, Failure, State, number};
use crate::errno::Errno;
use crate::sys::sys;

/// See the module.
pub const ACTIONS: &[Action] = &[
    Action {
        name: "attach-filter",
        arguments: "FD",
        run: |state, words| attach(state, words, libc::SO_ATTACH_FILTER),
    },
    Action {
        name: "attach-reuseport-filter",
        arguments: "FD",
        run: |state, words| attach(state, words, libc::SO_ATTACH_REUSEPORT_CBPF),
    },
    Action {
        name: "reuse-port",
        arguments: "FD",
        run: reuse_port,
    },
];

/// A plain socket option, and the one that a filter for choosing among several sockets needs.
fn reuse_port(state: &mut State, words: &[String]) -> Result<(), Failure> {
    let fd = state.descriptor(&words[0])?;
    let one = 1i32.to_ne_bytes();
    sys!(
        SYS_setsockopt,
        fd,
        libc::SOL_SOCKET,
        libc::SO_REUSEPORT,
        &one[..],
        one.len()
    )?;
    Ok(())
}

/// A classic BPF filter that accepts everything, attached by a socket option.
fn attach(state: &mut State, words: &[String], option: i32) -> Result<(), Failure> {
    let fd = state.descriptor(&words[0])?;
    let accept = number("0xffffffff")? as u32;
    let mut code = [libc::sock_filter {
        code: 0x06,
        jt: 0,
        jf: 0,
        k: accept,
    }];
    let program = libc::sock_fprog {
        len: 1,
        filter: code.as_mut_ptr(),
    };
    let size = size_of_val(&program) as u32;
    // SAFETY: `program` and the code that it points at live until the call is over.
    let result = unsafe {
        libc::setsockopt(
            fd,
            libc::SOL_SOCKET,
            option,
            (&raw const program).cast(),
            size,
        )
    };
    if result < 0 {
        Err(Errno::last().into())
    } else {
        Ok(())
    }
}
