// SPDX-License-Identifier: Apache-2.0
//! Trials of single capabilities, and calls that a seccomp rule may name.
//!
//! Where a call can't be made harmless it is given arguments that the kernel refuses only after it has checked the capability;
//! that later error then counts as success.

use crate::chain::{Action, Failure, Preparation, State, number, string};
use crate::errno::Errno;
use crate::sys::sys;

/// See the module.
pub const ACTIONS: &[Action] = &[
    Action {
        name: "sethostname",
        arguments: "NAME",
        run: sethostname,
    },
    Action {
        name: "settimeofday",
        arguments: "",
        run: settimeofday,
    },
    Action {
        name: "setpriority",
        arguments: "NICE",
        run: setpriority,
    },
    Action {
        name: "raise-rlimit",
        arguments: "",
        run: raise_rlimit,
    },
    Action {
        name: "net-admin",
        arguments: "",
        run: net_admin,
    },
    Action {
        name: "syslog",
        arguments: "",
        run: syslog,
    },
    Action {
        name: "reboot",
        arguments: "",
        run: reboot,
    },
    Action {
        name: "init-module",
        arguments: "",
        run: init_module,
    },
    Action {
        name: "iopl",
        arguments: "",
        run: iopl,
    },
    Action {
        name: "acct",
        arguments: "",
        run: acct,
    },
    Action {
        name: "capset-none",
        arguments: "",
        run: capset_none,
    },
    Action {
        name: "bpf-map",
        arguments: "",
        run: bpf_map,
    },
    Action {
        name: "bpf-prog-load",
        arguments: "",
        run: bpf_prog_load,
    },
    Action {
        name: "perf-event-open",
        arguments: "",
        run: perf_event_open,
    },
    Action {
        name: "keyctl",
        arguments: "",
        run: keyctl,
    },
    Action {
        name: "userfaultfd",
        arguments: "",
        run: userfaultfd,
    },
    Action {
        name: "splice",
        arguments: "",
        run: splice,
    },
    Action {
        name: "syscall",
        arguments: "NUMBER [ARGUMENT...]",
        run: syscall,
    },
];

/// Success, or an error that comes after the check.
fn past_the_check(result: Result<i64, Errno>, later: i32) -> Result<(), Failure> {
    match result {
        Ok(_) => Ok(()),
        Err(Errno(errno)) if errno == later => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}

/// CAP_SYS_ADMIN.
fn sethostname(_: &mut State, words: &[String]) -> Result<(), Failure> {
    sys!(SYS_sethostname, words[0].as_bytes(), words[0].len())?;
    Ok(())
}

/// CAP_SYS_TIME, with the time that it is.
fn settimeofday(_: &mut State, _: &[String]) -> Result<(), Failure> {
    let mut now = [0u8; 16];
    sys!(SYS_gettimeofday, &mut now[..], 0).prepared()?;
    sys!(SYS_settimeofday, &now[..], 0)?;
    Ok(())
}

/// CAP_SYS_NICE, when below the present one.
fn setpriority(_: &mut State, words: &[String]) -> Result<(), Failure> {
    let nice: i32 = words[0]
        .parse()
        .map_err(|_| Failure::Usage(format!("{:?} is no nice value", words[0])))?;
    sys!(SYS_setpriority, libc::PRIO_PROCESS as i32, 0, nice)?;
    Ok(())
}

/// CAP_SYS_RESOURCE: the hard limit of open files, one up.
fn raise_rlimit(_: &mut State, _: &[String]) -> Result<(), Failure> {
    let mut bytes = [0u8; 16];
    sys!(
        SYS_prlimit64,
        0,
        libc::RLIMIT_NPROC as i32,
        0,
        &mut bytes[..]
    )
    .prepared()?;
    let word = |at: usize| u64::from_ne_bytes(bytes[at..at + 8].try_into().expect("eight bytes"));
    if word(8) == u64::MAX {
        // Nothing is above infinity: come back from below it, which needs the capability just as well.
        let lower = [word(0).min(1 << 20), 1 << 20];
        sys!(SYS_prlimit64, 0, libc::RLIMIT_NPROC as i32, &lower[..], 0).prepared()?;
    }
    let raised = [word(0).min(1 << 20), word(8).saturating_add(1)];
    sys!(SYS_prlimit64, 0, libc::RLIMIT_NPROC as i32, &raised[..], 0)?;
    Ok(())
}

/// CAP_NET_ADMIN in the network namespace: sets the flags of `lo` to what they are.
fn net_admin(_: &mut State, _: &[String]) -> Result<(), Failure> {
    let fd = sys!(SYS_socket, libc::AF_INET, libc::SOCK_DGRAM, 0).prepared()? as i32;
    // struct ifreq: 16 bytes of name, then the union; flags are its first two bytes.
    let mut request = [0u8; 40];
    request[..2].copy_from_slice(b"lo");
    sys!(SYS_ioctl, fd, libc::SIOCGIFFLAGS, &mut request[..]).prepared()?;
    sys!(SYS_ioctl, fd, libc::SIOCSIFFLAGS, &mut request[..])?;
    Ok(())
}

/// CAP_SYSLOG: reads the kernel's log.
fn syslog(_: &mut State, _: &[String]) -> Result<(), Failure> {
    const SYSLOG_ACTION_READ_ALL: i32 = 3;
    let mut buffer = [0u8; 256];
    sys!(SYS_syslog, SYSLOG_ACTION_READ_ALL, &mut buffer[..], 256)?;
    Ok(())
}

/// CAP_SYS_BOOT, with magic numbers that can't boot anything: EINVAL comes after the check.
fn reboot(_: &mut State, _: &[String]) -> Result<(), Failure> {
    past_the_check(sys!(SYS_reboot, 0, 0, 0, 0), libc::EINVAL)
}

/// CAP_SYS_MODULE, with what is no module.
fn init_module(_: &mut State, _: &[String]) -> Result<(), Failure> {
    past_the_check(
        sys!(SYS_init_module, &b"nothing"[..], 7, c""),
        libc::ENOEXEC,
    )
}

/// CAP_SYS_RAWIO.
fn iopl(_: &mut State, _: &[String]) -> Result<(), Failure> {
    sys!(SYS_iopl, 3)?;
    Ok(())
}

/// CAP_SYS_PACCT: turns process accounting off, which it is.
fn acct(_: &mut State, _: &[String]) -> Result<(), Failure> {
    sys!(SYS_acct, 0)?;
    Ok(())
}

/// Gives every capability up, for what follows in the chain.
fn capset_none(_: &mut State, _: &[String]) -> Result<(), Failure> {
    const LINUX_CAPABILITY_VERSION_3: u32 = 0x2008_0522;
    let mut header = [0u8; 8];
    header[..4].copy_from_slice(&LINUX_CAPABILITY_VERSION_3.to_ne_bytes());
    let none = [0u64; 3];
    sys!(SYS_capset, &header[..], &none[..])?;
    Ok(())
}

const BPF_MAP_CREATE: i32 = 0;
const BPF_PROG_LOAD: i32 = 5;

/// CAP_BPF or CAP_SYS_ADMIN where unprivileged BPF is off: an array of one element.
fn bpf_map(_: &mut State, _: &[String]) -> Result<(), Failure> {
    const BPF_MAP_TYPE_ARRAY: u32 = 2;
    let mut attributes = [0u8; 128];
    for (index, word) in [BPF_MAP_TYPE_ARRAY, 4, 8, 1].into_iter().enumerate() {
        attributes[index * 4..][..4].copy_from_slice(&word.to_ne_bytes());
    }
    sys!(SYS_bpf, BPF_MAP_CREATE, &attributes[..], 128)?;
    Ok(())
}

/// A socket filter that returns 0.
fn bpf_prog_load(_: &mut State, _: &[String]) -> Result<(), Failure> {
    const BPF_PROG_TYPE_SOCKET_FILTER: u64 = 1;
    // r0 = 0; exit.
    let code = [0xb7u64, 0x95u64];
    // union bpf_attr for BPF_PROG_LOAD: prog_type and insn_cnt, insns, license, log fields, ...
    let mut attributes = [0u64; 16];
    attributes[0] = BPF_PROG_TYPE_SOCKET_FILTER | (code.len() as u64) << 32;
    attributes[1] = code.as_ptr() as u64;
    attributes[2] = c"GPL".as_ptr() as u64;
    sys!(
        SYS_bpf,
        BPF_PROG_LOAD,
        &attributes[..],
        size_of_val(&attributes)
    )?;
    Ok(())
}

/// CAP_PERFMON where perf_event_paranoid is above 1: a software counter of the kernel.
fn perf_event_open(_: &mut State, _: &[String]) -> Result<(), Failure> {
    const PERF_TYPE_SOFTWARE: u64 = 1;
    let mut attributes = [0u64; 14];
    attributes[0] = PERF_TYPE_SOFTWARE | (size_of_val(&attributes) as u64) << 32;
    sys!(SYS_perf_event_open, &attributes[..], 0, -1, -1, 0)?;
    Ok(())
}

/// The id of the session keyring.
fn keyctl(_: &mut State, _: &[String]) -> Result<(), Failure> {
    const KEY_SPEC_SESSION_KEYRING: i32 = -3;
    sys!(SYS_keyctl, 0, KEY_SPEC_SESSION_KEYRING, 1)?;
    Ok(())
}

/// Of user mode only where the kernel knows that (5.11), as an ordinary user must ask for it.
fn userfaultfd(_: &mut State, _: &[String]) -> Result<(), Failure> {
    const USER_MODE_ONLY: i32 = 1;
    match sys!(SYS_userfaultfd, libc::O_CLOEXEC | USER_MODE_ONLY) {
        Err(Errno(libc::EINVAL)) => sys!(SYS_userfaultfd, libc::O_CLOEXEC)?,
        answer => answer?,
    };
    Ok(())
}

/// From one pipe to another; the bytes are there.
fn splice(_: &mut State, _: &[String]) -> Result<(), Failure> {
    let pipe = || -> Result<(i32, i32), Failure> {
        let mut pair = [0u8; 8];
        sys!(SYS_pipe2, &mut pair[..], 0).prepared()?;
        let end = |at: usize| i32::from_ne_bytes(pair[at..at + 4].try_into().expect("four bytes"));
        Ok((end(0), end(4)))
    };
    let (from, to) = (pipe()?, pipe()?);
    sys!(SYS_write, from.1, &b"x"[..], 1).prepared()?;
    sys!(SYS_splice, from.0, 0, to.1, 0, 1, 0)?;
    Ok(())
}

/// Any call by number. An argument is a number, or text after `s:`.
fn syscall(_: &mut State, words: &[String]) -> Result<(), Failure> {
    let texts = words[1..]
        .iter()
        .map(|word| word.strip_prefix("s:").map(string).transpose())
        .collect::<Result<Vec<_>, _>>()?;
    let mut arguments = Vec::new();
    for (word, text) in words[1..].iter().zip(&texts) {
        arguments.push(match text {
            Some(text) => crate::sys::Arg::from(text),
            None => number(word)?.into(),
        });
    }
    if arguments.len() > 6 {
        return Err(Failure::Usage(
            "a system call has at most six arguments".into(),
        ));
    }
    crate::sys::call(number(&words[0])? as libc::c_long, &mut arguments)?;
    Ok(())
}
