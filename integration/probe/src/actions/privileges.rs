// SPDX-License-Identifier: Apache-2.0
//! One trial for each of the rarer capabilities, and `keep-caps`, which takes all the others away first, so that a trial shows
//! one capability and no other that would do as well.

use varmor_policy::capability;

use crate::chain::{Action, Failure, Preparation, State, number, string};
use crate::errno::Errno;
use crate::sys::sys;

/// See the module.
pub const ACTIONS: &[Action] = &[
    Action {
        name: "keep-caps",
        arguments: "NAME[,NAME...]|-",
        run: keep_caps,
    },
    Action {
        name: "has-cap",
        arguments: "NAME",
        run: has_cap,
    },
    Action {
        name: "drop-bounding",
        arguments: "NAME",
        run: drop_bounding,
    },
    Action {
        name: "chmod-setgid",
        arguments: "PATH",
        run: chmod_setgid,
    },
    Action {
        name: "append-only",
        arguments: "PATH",
        run: append_only,
    },
    Action {
        name: "setcap",
        arguments: "PATH",
        run: setcap,
    },
    Action {
        name: "lease",
        arguments: "PATH",
        run: lease,
    },
    Action {
        name: "mlock",
        arguments: "",
        run: mlock,
    },
    Action {
        name: "shm-of",
        arguments: "UID",
        run: shm_of,
    },
    Action {
        name: "shm-attach",
        arguments: "",
        run: shm_attach,
    },
    Action {
        name: "vhangup",
        arguments: "",
        run: |_, _| Ok(sys!(SYS_vhangup).map(drop)?),
    },
    Action {
        name: "alarm-timer",
        arguments: "",
        run: alarm_timer,
    },
    Action {
        name: "epoll-wakeup",
        arguments: "",
        run: epoll_wakeup,
    },
    Action {
        name: "audit-write",
        arguments: "",
        run: audit_write,
    },
    Action {
        name: "audit-read",
        arguments: "",
        run: audit_read,
    },
    Action {
        name: "loginuid",
        arguments: "UID",
        run: loginuid,
    },
    Action {
        name: "apparmor-load",
        arguments: "PATH",
        run: apparmor_load,
    },
];

fn number_of(name: &str) -> Result<usize, Failure> {
    capability::NAMES
        .iter()
        .position(|known| *known == name)
        .ok_or_else(|| Failure::Usage(format!("{name:?} is no capability")))
}

/// `_LINUX_CAPABILITY_VERSION_3`, and this process.
const HEADER: [u64; 1] = [0x2008_0522];

fn word(number: u64) -> [u8; 4] {
    (number as u32).to_ne_bytes()
}

/// Effective and permitted capabilities become these.
fn keep_caps(_: &mut State, words: &[String]) -> Result<(), Failure> {
    let mut mask = 0u64;
    for name in words[0].split(',').filter(|name| *name != "-") {
        mask |= 1 << number_of(name)?;
    }
    // struct __user_cap_data_struct twice: effective, permitted, inheritable; the low halves first.
    let (low, high) = (word(mask), word(mask >> 32));
    let data = [low, low, [0; 4], high, high, [0; 4]].concat();
    sys!(SYS_capset, &HEADER[..], &data[..]).prepared()?;
    Ok(())
}

/// Whether capget(2) shows the capability. AppArmor takes what it refuses out of the answer, and for a capability that nothing
/// in the kernel asks for there is no other sign. EPERM is this program's own.
fn has_cap(_: &mut State, words: &[String]) -> Result<(), Failure> {
    let number = number_of(&words[0])?;
    let mut data = [0u8; 24];
    sys!(SYS_capget, &HEADER[..], &mut data[..]).prepared()?;
    let at = number / 32 * 12 + number % 32 / 8;
    if data[at] & 1 << (number % 8) == 0 {
        return Err(Errno(libc::EPERM).into());
    }
    Ok(())
}

/// CAP_SETPCAP.
fn drop_bounding(_: &mut State, words: &[String]) -> Result<(), Failure> {
    sys!(
        SYS_prctl,
        libc::PR_CAPBSET_DROP,
        number_of(&words[0])?,
        0,
        0,
        0
    )?;
    Ok(())
}

/// CAP_FSETID, for a file of a group that the process is not in. Without it chmod(2) succeeds and the bit is not there; EPERM is
/// then this program's own.
fn chmod_setgid(_: &mut State, words: &[String]) -> Result<(), Failure> {
    let path = string(&words[0])?;
    sys!(SYS_chmod, &path, 0o2755).prepared()?;
    // SAFETY: all-zero bytes are a valid stat, and both pointers live.
    let status = unsafe {
        let mut status: libc::stat = std::mem::zeroed();
        (libc::stat(path.as_ptr(), &mut status) == 0).then_some(status)
    };
    match status {
        None => Err(Failure::Setup(Errno::last())),
        Some(status) if status.st_mode & 0o2000 == 0 => Err(Errno(libc::EPERM).into()),
        Some(_) => Ok(()),
    }
}

/// CAP_LINUX_IMMUTABLE: makes the file append-only, and undoes it.
fn append_only(_: &mut State, words: &[String]) -> Result<(), Failure> {
    const FS_IOC_GETFLAGS: u64 = 0x8008_6601;
    const FS_IOC_SETFLAGS: u64 = 0x4008_6602;
    const FS_APPEND_FL: u64 = 0x20;
    let path = string(&words[0])?;
    let fd = sys!(SYS_openat, libc::AT_FDCWD, &path, libc::O_RDONLY).prepared()? as i32;
    let mut flags = [0u8; 8];
    sys!(SYS_ioctl, fd, FS_IOC_GETFLAGS, &mut flags[..]).prepared()?;
    let plain = u64::from_ne_bytes(flags);
    let wanted = [plain | FS_APPEND_FL];
    sys!(SYS_ioctl, fd, FS_IOC_SETFLAGS, &wanted[..])?;
    sys!(SYS_ioctl, fd, FS_IOC_SETFLAGS, &[plain][..]).prepared()?;
    Ok(())
}

/// CAP_SETFCAP: gives the file the capability to bind low ports.
fn setcap(_: &mut State, words: &[String]) -> Result<(), Failure> {
    // struct vfs_cap_data: VFS_CAP_REVISION_2, then permitted and inheritable in low and high halves.
    let data = [word(0x0200_0000), word(1 << 10), [0; 4], [0; 4], [0; 4]].concat();
    sys!(
        SYS_setxattr,
        &string(&words[0])?,
        c"security.capability",
        &data[..],
        data.len(),
        0
    )?;
    Ok(())
}

/// CAP_LEASE, for a file of another user.
fn lease(_: &mut State, words: &[String]) -> Result<(), Failure> {
    let path = string(&words[0])?;
    let fd = sys!(SYS_openat, libc::AT_FDCWD, &path, libc::O_RDONLY).prepared()? as i32;
    sys!(SYS_fcntl, fd, libc::F_SETLEASE, libc::F_RDLCK)?;
    Ok(())
}

/// CAP_IPC_LOCK, once the limit of locked memory is 0.
fn mlock(_: &mut State, _: &[String]) -> Result<(), Failure> {
    let none = [0u64; 2];
    sys!(SYS_prlimit64, 0, libc::RLIMIT_MEMLOCK as i32, &none[..], 0).prepared()?;
    let page = [0u8; 8];
    sys!(SYS_mlock, &page[..], page.len())?;
    Ok(())
}

/// A segment of shared memory that is another user's alone.
fn shm_of(state: &mut State, words: &[String]) -> Result<(), Failure> {
    let uid = number(&words[0])?;
    let id = sys!(SYS_shmget, libc::IPC_PRIVATE, 4096, libc::IPC_CREAT | 0o600).prepared()? as i32;
    // struct shmid64_ds, which begins with struct ipc64_perm: key, uid, gid, cuid, cgid, mode. Setting it is the owner's right.
    let mut description = [0u8; 112];
    sys!(SYS_shmctl, id, libc::IPC_STAT, &mut description[..]).prepared()?;
    description[4..8].copy_from_slice(&word(uid));
    description[8..12].copy_from_slice(&word(uid));
    description[20..24].copy_from_slice(&word(0));
    sys!(SYS_shmctl, id, libc::IPC_SET, &description[..]).prepared()?;
    state.keep_shared_memory(id);
    Ok(())
}

/// CAP_IPC_OWNER, when the segment's mode lets nobody in.
fn shm_attach(state: &mut State, _: &[String]) -> Result<(), Failure> {
    let id = state.shared_memory()?;
    let attached = sys!(SYS_shmat, id, 0, 0);
    // The creator may remove what it may not attach.
    sys!(SYS_shmctl, id, libc::IPC_RMID, 0).prepared()?;
    attached?;
    Ok(())
}

/// CAP_WAKE_ALARM: a timer that would wake the machine.
fn alarm_timer(_: &mut State, _: &[String]) -> Result<(), Failure> {
    const CLOCK_REALTIME_ALARM: u32 = 8;
    sys!(SYS_timerfd_create, CLOCK_REALTIME_ALARM, 0)?;
    Ok(())
}

/// CAP_BLOCK_SUSPEND. Without it the kernel drops EPOLLWAKEUP and says nothing; fdinfo shows it, and EPERM is this program's own.
fn epoll_wakeup(_: &mut State, _: &[String]) -> Result<(), Failure> {
    const EPOLLWAKEUP: u32 = 1 << 29;
    let poll = sys!(SYS_epoll_create1, 0).prepared()? as i32;
    let event = sys!(SYS_eventfd2, 0, 0).prepared()? as i32;
    // struct epoll_event is packed: u32 events, u64 data.
    let mut wanted = [0u8; 12];
    wanted[..4].copy_from_slice(&word((EPOLLWAKEUP | libc::EPOLLIN as u32).into()));
    sys!(SYS_epoll_ctl, poll, libc::EPOLL_CTL_ADD, event, &wanted[..]).prepared()?;
    let information = std::fs::read_to_string(format!("/proc/self/fdinfo/{poll}"))
        .map_err(|error| Failure::Setup(Errno(error.raw_os_error().unwrap_or(libc::EIO))))?;
    let events = information
        .split_once("events:")
        .and_then(|(_, rest)| rest.split_whitespace().next())
        .and_then(|word| u32::from_str_radix(word, 16).ok())
        .ok_or(Failure::Setup(Errno(libc::EIO)))?;
    if events & EPOLLWAKEUP == 0 {
        return Err(Errno(libc::EPERM).into());
    }
    Ok(())
}

fn audit_socket(groups: u32) -> Result<Result<i32, Errno>, Failure> {
    const NETLINK_AUDIT: i32 = 9;
    let fd = sys!(SYS_socket, libc::AF_NETLINK, libc::SOCK_RAW, NETLINK_AUDIT).prepared()? as i32;
    // struct sockaddr_nl: u16 family, u16, u32 pid, u32 groups.
    let address = [word(libc::AF_NETLINK as u64), [0; 4], word(groups.into())].concat();
    Ok(sys!(SYS_bind, fd, &address[..], address.len()).map(|_| fd))
}

/// CAP_AUDIT_WRITE: a message of the kind that login programs write; the answer has the kernel's verdict.
fn audit_write(_: &mut State, _: &[String]) -> Result<(), Failure> {
    const AUDIT_USER_AUTH: u16 = 1100;
    const NLM_F_REQUEST_ACK: u16 = 5;
    let fd = audit_socket(0)?.prepared()?;
    let text = b"op=probe\0\0\0\0";
    let mut message = word(16 + text.len() as u64).to_vec();
    message.extend(AUDIT_USER_AUTH.to_ne_bytes());
    message.extend(NLM_F_REQUEST_ACK.to_ne_bytes());
    message.extend([0; 8]);
    message.extend(text);
    sys!(SYS_sendto, fd, &message[..], message.len(), 0, 0, 0).prepared()?;
    let mut answer = [0u8; 64];
    sys!(SYS_recvfrom, fd, &mut answer[..], 64, 0, 0, 0).prepared()?;
    // struct nlmsghdr, then struct nlmsgerr, which begins with the negative errno.
    match i32::from_ne_bytes(answer[16..20].try_into().expect("four bytes")) {
        0 => Ok(()),
        error => Err(Errno(-error).into()),
    }
}

/// CAP_AUDIT_READ: joins the readers of the audit log.
fn audit_read(_: &mut State, _: &[String]) -> Result<(), Failure> {
    const READ_LOG: u32 = 1;
    audit_socket(READ_LOG)??;
    Ok(())
}

/// CAP_AUDIT_CONTROL, when it was set before.
fn loginuid(_: &mut State, words: &[String]) -> Result<(), Failure> {
    number(&words[0])?;
    std::fs::write("/proc/self/loginuid", &words[0])
        .map_err(|error| Failure::Call(Errno(error.raw_os_error().unwrap_or(libc::EIO))))
}

/// CAP_MAC_ADMIN: writes what is no policy into AppArmor's `.replace`. Any error but a refusal comes after the check.
fn apparmor_load(_: &mut State, words: &[String]) -> Result<(), Failure> {
    let path = string(&words[0])?;
    let fd = sys!(SYS_openat, libc::AT_FDCWD, &path, libc::O_WRONLY).prepared()? as i32;
    match sys!(SYS_write, fd, &b"nothing"[..], 7) {
        Err(errno @ Errno(libc::EPERM | libc::EACCES)) => Err(errno.into()),
        Ok(_) | Err(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use crate::chain::{Chain, Verdict};

    fn run(line: &str) -> Verdict {
        let words: Vec<_> = line.split_whitespace().map(str::to_string).collect();
        Chain::parse(&words).unwrap().run()
    }

    #[test]
    fn without_capabilities_nothing_that_needs_one_succeeds() {
        for line in [
            "alarm-timer",
            "drop-bounding chown",
            "has-cap chown",
            "mlock",
        ] {
            // In a child, since a process does not get its capabilities back.
            // SAFETY: the child makes a few system calls and ends.
            let child = unsafe { libc::fork() };
            if child == 0 {
                let verdict = run(&format!("keep-caps - then {line}"));
                let refused =
                    matches!(verdict, Verdict::Refused { errno, .. } if errno.0 == libc::EPERM);
                // SAFETY: ends the child without the test harness's own ending.
                unsafe { libc::_exit(i32::from(!refused)) };
            }
            let mut status = 0;
            // SAFETY: a child of this process and a live integer.
            unsafe { libc::waitpid(child, &mut status, 0) };
            assert_eq!(status, 0, "{line}");
        }
    }

    #[test]
    fn unknown_capabilities_are_named() {
        assert!(matches!(run("keep-caps chwon"), Verdict::Usage(text) if text.contains("chwon")));
    }
}
