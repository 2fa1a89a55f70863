// SPDX-License-Identifier: Apache-2.0
//! What a file has beside its content: mode, owner, times, extended attributes.

use crate::chain::{Action, Failure, State, number, string};
use crate::sys::sys;

/// See the module.
pub const ACTIONS: &[Action] = &[
    Action {
        name: "chmod",
        arguments: "MODE PATH",
        run: chmod,
    },
    Action {
        name: "fchmod",
        arguments: "MODE FD",
        run: fchmod,
    },
    Action {
        name: "fchmodat",
        arguments: "MODE PATH",
        run: fchmodat,
    },
    Action {
        name: "fchmodat2",
        arguments: "MODE PATH",
        run: fchmodat2,
    },
    Action {
        name: "chown",
        arguments: "UID GID PATH",
        run: chown,
    },
    Action {
        name: "lchown",
        arguments: "UID GID PATH",
        run: lchown,
    },
    Action {
        name: "fchown",
        arguments: "UID GID FD",
        run: fchown,
    },
    Action {
        name: "fchownat",
        arguments: "UID GID PATH",
        run: fchownat,
    },
    Action {
        name: "utimes",
        arguments: "PATH",
        run: utimes,
    },
    Action {
        name: "setxattr",
        arguments: "PATH NAME VALUE",
        run: setxattr,
    },
    Action {
        name: "removexattr",
        arguments: "PATH NAME",
        run: removexattr,
    },
];

/// A mode is octal, as chmod(1) reads it.
fn mode(word: &str) -> Result<u32, Failure> {
    u32::from_str_radix(word, 8)
        .map_err(|_| Failure::Usage(format!("{word:?} is not an octal mode")))
}

fn chmod(_: &mut State, words: &[String]) -> Result<(), Failure> {
    sys!(SYS_chmod, &string(&words[1])?, mode(&words[0])?)?;
    Ok(())
}

fn fchmod(state: &mut State, words: &[String]) -> Result<(), Failure> {
    sys!(SYS_fchmod, state.descriptor(&words[1])?, mode(&words[0])?)?;
    Ok(())
}

fn fchmodat(state: &mut State, words: &[String]) -> Result<(), Failure> {
    let at = state.at(&words[1])?;
    sys!(SYS_fchmodat, at.fd, &at.path, mode(&words[0])?)?;
    Ok(())
}

fn fchmodat2(state: &mut State, words: &[String]) -> Result<(), Failure> {
    let at = state.at(&words[1])?;
    sys!(
        SYS_fchmodat2,
        at.fd,
        &at.path,
        mode(&words[0])?,
        at.empty_path()
    )?;
    Ok(())
}

fn ids(words: &[String]) -> Result<(u32, u32), Failure> {
    Ok((number(&words[0])? as u32, number(&words[1])? as u32))
}

fn chown(_: &mut State, words: &[String]) -> Result<(), Failure> {
    let (uid, gid) = ids(words)?;
    sys!(SYS_chown, &string(&words[2])?, uid, gid)?;
    Ok(())
}

fn lchown(_: &mut State, words: &[String]) -> Result<(), Failure> {
    let (uid, gid) = ids(words)?;
    sys!(SYS_lchown, &string(&words[2])?, uid, gid)?;
    Ok(())
}

fn fchown(state: &mut State, words: &[String]) -> Result<(), Failure> {
    let (uid, gid) = ids(words)?;
    sys!(SYS_fchown, state.descriptor(&words[2])?, uid, gid)?;
    Ok(())
}

fn fchownat(state: &mut State, words: &[String]) -> Result<(), Failure> {
    let (uid, gid) = ids(words)?;
    let at = state.at(&words[2])?;
    sys!(SYS_fchownat, at.fd, &at.path, uid, gid, at.empty_path())?;
    Ok(())
}

fn utimes(state: &mut State, words: &[String]) -> Result<(), Failure> {
    let at = state.at(&words[0])?;
    sys!(SYS_utimensat, at.fd, &at.path, 0, 0)?;
    Ok(())
}

fn setxattr(_: &mut State, words: &[String]) -> Result<(), Failure> {
    sys!(
        SYS_setxattr,
        &string(&words[0])?,
        &string(&words[1])?,
        words[2].as_bytes(),
        words[2].len(),
        0
    )?;
    Ok(())
}

fn removexattr(_: &mut State, words: &[String]) -> Result<(), Failure> {
    sys!(SYS_removexattr, &string(&words[0])?, &string(&words[1])?)?;
    Ok(())
}
