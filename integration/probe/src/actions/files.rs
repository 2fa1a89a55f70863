// SPDX-License-Identifier: Apache-2.0
//! Files: opening, making, removing, renaming, changing.

use crate::chain::{Action, Failure, Preparation, State, number, string};
use crate::flags;
use crate::sys::sys;

/// See the module.
pub const ACTIONS: &[Action] = &[
    Action {
        name: "open",
        arguments: "FLAGS PATH",
        run: open,
    },
    Action {
        name: "openat2",
        arguments: "FLAGS PATH [RESOLVE]",
        run: openat2,
    },
    Action {
        name: "creat",
        arguments: "PATH",
        run: creat,
    },
    Action {
        name: "read",
        arguments: "FD",
        run: read,
    },
    Action {
        name: "write",
        arguments: "FD TEXT",
        run: write,
    },
    Action {
        name: "truncate",
        arguments: "PATH LENGTH",
        run: truncate,
    },
    Action {
        name: "ftruncate",
        arguments: "FD LENGTH",
        run: ftruncate,
    },
    Action {
        name: "stat",
        arguments: "PATH",
        run: stat,
    },
    Action {
        name: "readlink",
        arguments: "PATH",
        run: readlink,
    },
    Action {
        name: "unlink",
        arguments: "PATH",
        run: unlink,
    },
    Action {
        name: "rmdir",
        arguments: "PATH",
        run: rmdir,
    },
    Action {
        name: "mkdir",
        arguments: "PATH",
        run: mkdir,
    },
    Action {
        name: "mknod",
        arguments: "file|fifo|sock|chr|blk PATH [MAJOR] [MINOR]",
        run: mknod,
    },
    Action {
        name: "symlink",
        arguments: "TARGET PATH",
        run: symlink,
    },
    Action {
        name: "link",
        arguments: "OLD NEW",
        run: link,
    },
    Action {
        name: "rename",
        arguments: "OLD NEW",
        run: rename,
    },
    Action {
        name: "renameat2",
        arguments: "exchange|noreplace|whiteout OLD NEW",
        run: renameat2,
    },
    Action {
        name: "open-by-handle",
        arguments: "MOUNT PATH",
        run: open_by_handle,
    },
    Action {
        name: "chdir",
        arguments: "PATH",
        run: chdir,
    },
    Action {
        name: "fchdir",
        arguments: "FD",
        run: fchdir,
    },
    Action {
        name: "chroot",
        arguments: "PATH",
        run: chroot,
    },
];

const MODE: u32 = 0o644;

fn open(state: &mut State, words: &[String]) -> Result<(), Failure> {
    let flags = flags::parse(flags::OPEN, &words[0])?;
    let at = state.at(&words[1])?;
    let fd = sys!(SYS_openat, at.fd, &at.path, flags, MODE)?;
    state.keep(fd);
    Ok(())
}

fn openat2(state: &mut State, words: &[String]) -> Result<(), Failure> {
    let flags = flags::parse(flags::OPEN, &words[0])?;
    let at = state.at(&words[1])?;
    let resolve = match words.get(2) {
        Some(resolve) => flags::parse(flags::RESOLVE, resolve)?,
        None => 0,
    };
    // openat2 refuses a mode without a flag that makes a file.
    let creates = flags & (libc::O_CREAT as u64) != 0
        || flags & libc::O_TMPFILE as u64 == libc::O_TMPFILE as u64;
    let how = [flags, if creates { u64::from(MODE) } else { 0 }, resolve];
    let fd = sys!(SYS_openat2, at.fd, &at.path, &how[..], size_of_val(&how))?;
    state.keep(fd);
    Ok(())
}

fn creat(state: &mut State, words: &[String]) -> Result<(), Failure> {
    let fd = sys!(SYS_creat, &string(&words[0])?, MODE)?;
    state.keep(fd);
    Ok(())
}

fn read(state: &mut State, words: &[String]) -> Result<(), Failure> {
    let mut buffer = [0u8; 4096];
    let length = buffer.len();
    sys!(
        SYS_read,
        state.descriptor(&words[0])?,
        &mut buffer[..],
        length
    )?;
    Ok(())
}

fn write(state: &mut State, words: &[String]) -> Result<(), Failure> {
    sys!(
        SYS_write,
        state.descriptor(&words[0])?,
        words[1].as_bytes(),
        words[1].len()
    )?;
    Ok(())
}

fn truncate(_: &mut State, words: &[String]) -> Result<(), Failure> {
    sys!(SYS_truncate, &string(&words[0])?, number(&words[1])?)?;
    Ok(())
}

fn ftruncate(state: &mut State, words: &[String]) -> Result<(), Failure> {
    sys!(
        SYS_ftruncate,
        state.descriptor(&words[0])?,
        number(&words[1])?
    )?;
    Ok(())
}

fn stat(state: &mut State, words: &[String]) -> Result<(), Failure> {
    let at = state.at(&words[0])?;
    let mut buffer = [0u8; size_of::<libc::stat>()];
    sys!(
        SYS_newfstatat,
        at.fd,
        &at.path,
        &mut buffer[..],
        at.empty_path() | libc::AT_SYMLINK_NOFOLLOW
    )?;
    Ok(())
}

fn readlink(state: &mut State, words: &[String]) -> Result<(), Failure> {
    let at = state.at(&words[0])?;
    let mut buffer = [0u8; 4096];
    let length = buffer.len();
    sys!(SYS_readlinkat, at.fd, &at.path, &mut buffer[..], length)?;
    Ok(())
}

fn unlink(state: &mut State, words: &[String]) -> Result<(), Failure> {
    let at = state.at(&words[0])?;
    sys!(SYS_unlinkat, at.fd, &at.path, 0)?;
    Ok(())
}

fn rmdir(state: &mut State, words: &[String]) -> Result<(), Failure> {
    let at = state.at(&words[0])?;
    sys!(SYS_unlinkat, at.fd, &at.path, libc::AT_REMOVEDIR)?;
    Ok(())
}

fn mkdir(state: &mut State, words: &[String]) -> Result<(), Failure> {
    let at = state.at(&words[0])?;
    sys!(SYS_mkdirat, at.fd, &at.path, 0o755)?;
    Ok(())
}

fn mknod(state: &mut State, words: &[String]) -> Result<(), Failure> {
    let kind = match words[0].as_str() {
        "file" => libc::S_IFREG,
        "fifo" => libc::S_IFIFO,
        "sock" => libc::S_IFSOCK,
        "chr" => libc::S_IFCHR,
        "blk" => libc::S_IFBLK,
        other => return Err(Failure::Usage(format!("unknown kind {other:?}"))),
    };
    let part = |index: usize| words.get(index).map_or(Ok(0), |word| number(word));
    let device = libc::makedev(part(2)? as u32, part(3)? as u32);
    let at = state.at(&words[1])?;
    sys!(SYS_mknodat, at.fd, &at.path, kind | MODE, device)?;
    Ok(())
}

fn symlink(state: &mut State, words: &[String]) -> Result<(), Failure> {
    let at = state.at(&words[1])?;
    sys!(SYS_symlinkat, &string(&words[0])?, at.fd, &at.path)?;
    Ok(())
}

fn link(state: &mut State, words: &[String]) -> Result<(), Failure> {
    let (old, new) = (state.at(&words[0])?, state.at(&words[1])?);
    sys!(
        SYS_linkat,
        old.fd,
        &old.path,
        new.fd,
        &new.path,
        old.empty_path()
    )?;
    Ok(())
}

fn rename(state: &mut State, words: &[String]) -> Result<(), Failure> {
    let (old, new) = (state.at(&words[0])?, state.at(&words[1])?);
    sys!(SYS_renameat, old.fd, &old.path, new.fd, &new.path)?;
    Ok(())
}

fn renameat2(state: &mut State, words: &[String]) -> Result<(), Failure> {
    let flag = match words[0].as_str() {
        "noreplace" => libc::RENAME_NOREPLACE,
        "exchange" => libc::RENAME_EXCHANGE,
        "whiteout" => libc::RENAME_WHITEOUT,
        other => return Err(Failure::Usage(format!("unknown flag {other:?}"))),
    };
    let (old, new) = (state.at(&words[1])?, state.at(&words[2])?);
    sys!(SYS_renameat2, old.fd, &old.path, new.fd, &new.path, flag)?;
    Ok(())
}

/// Reaches a file by its handle, past every directory on the way: name_to_handle_at, then open_by_handle_at.
fn open_by_handle(state: &mut State, words: &[String]) -> Result<(), Failure> {
    let mount = sys!(
        SYS_openat,
        libc::AT_FDCWD,
        &string(&words[0])?,
        libc::O_RDONLY | libc::O_DIRECTORY
    )
    .prepared()?;
    // struct file_handle: u32 handle_bytes, i32 handle_type, then at most MAX_HANDLE_SZ (128) bytes.
    let mut handle = [0u8; 8 + 128];
    handle[0] = 128;
    let mut mount_id = [0u8; 4];
    sys!(
        SYS_name_to_handle_at,
        libc::AT_FDCWD,
        &string(&words[1])?,
        &mut handle[..],
        &mut mount_id[..],
        0
    )
    .prepared()?;
    let fd = sys!(
        SYS_open_by_handle_at,
        mount as i32,
        &mut handle[..],
        libc::O_RDONLY
    )?;
    state.keep(fd);
    Ok(())
}

fn chdir(_: &mut State, words: &[String]) -> Result<(), Failure> {
    sys!(SYS_chdir, &string(&words[0])?)?;
    Ok(())
}

fn fchdir(state: &mut State, words: &[String]) -> Result<(), Failure> {
    sys!(SYS_fchdir, state.descriptor(&words[0])?)?;
    Ok(())
}

fn chroot(_: &mut State, words: &[String]) -> Result<(), Failure> {
    sys!(SYS_chroot, &string(&words[0])?)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::chain::{Chain, Verdict};

    fn run(line: &str) -> Verdict {
        Chain::parse(
            &line
                .split_whitespace()
                .map(str::to_string)
                .collect::<Vec<_>>(),
        )
        .unwrap()
        .run()
    }

    #[test]
    fn each_call_does_what_it_is_named_after() {
        let folder = tempfile::tempdir().unwrap();
        let d = folder.path().display();
        for line in [
            format!(
                "open w,creat,excl {d}/a then write @ text then ftruncate @ 2 then fchmod 600 @"
            ),
            format!("openat2 r {d}/a no_symlinks then read @"),
            format!("truncate {d}/a 1"),
            format!("mkdir {d}/dir then open path,directory {d}/dir then mknod fifo @/pipe"),
            format!("symlink a {d}/link then readlink {d}/link"),
            format!("link {d}/a {d}/hard"),
            format!("rename {d}/hard {d}/moved then renameat2 exchange {d}/moved {d}/link"),
            format!("chmod 640 {d}/a then fchmodat 600 {d}/a then utimes {d}/a"),
            format!("unlink {d}/dir/pipe then rmdir {d}/dir"),
            format!("creat {d}/b then stat {d}/b"),
        ] {
            assert_eq!(run(&line), Verdict::Success, "{line}");
        }
        assert_eq!(std::fs::read(folder.path().join("a")).unwrap(), b"t");
        assert!(folder.path().join("moved").is_symlink());
        assert!(!folder.path().join("dir").exists());
        assert!(matches!(
            run(&format!("openat2 r {d}/moved no_symlinks")),
            Verdict::Refused { .. }
        ));
    }
}
