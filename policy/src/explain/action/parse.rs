// SPDX-License-Identifier: Apache-2.0
//! The text of an action.

use super::{Action, ActionError, CHANGES, Protocol};
use crate::compile::bpf::{mounts, sockets};
use crate::mount_flags::change_a_mount;
use crate::{capability, error::suggestion, syscalls};

const OTHERS: [&str; 12] = [
    "open", "exec", "rename", "link", "connect", "socket", "mount", "umount", "ptrace", "cap",
    "userns", "syscall",
];
/// Protocols beside those of the rules (include/uapi/linux/in.h).
const PROTOCOLS: [(&str, u16); 6] = [
    ("tcp", 6),
    ("udp", 17),
    ("icmp", 1),
    ("icmpv6", 58),
    ("sctp", 132),
    ("mptcp", 262),
];

impl std::str::FromStr for Action {
    type Err = ActionError;

    fn from_str(text: &str) -> Result<Self, ActionError> {
        parse(text).map_err(|message| ActionError {
            text: text.to_owned(),
            message,
        })
    }
}

fn parse(text: &str) -> Result<Action, String> {
    let (name, rest) = match text.split_once(':') {
        Some((name, rest)) => (name, Some(rest)),
        None => (text, None),
    };
    let needs = |what: &str| rest.ok_or_else(|| format!("write {what}"));
    if let Some((_, change)) = CHANGES.iter().find(|(other, _)| *other == name) {
        return Ok(Action::Change(
            *change,
            path(needs(&format!("{name}:PATH"))?)?,
        ));
    }
    match name {
        "open" => open(needs("open:PATH:r, with some of r, w and a")?),
        "exec" => Ok(Action::Exec(path(needs("exec:PATH")?)?)),
        "rename" => two_paths(needs("rename:OLD:NEW")?).map(|(old, new)| Action::Rename(old, new)),
        "link" => two_paths(needs("link:OLD:NEW")?).map(|(old, new)| Action::Link(old, new)),
        "connect" => connect(needs("connect:ADDRESS:PORT or connect:PATH")?),
        "socket" => socket(needs("socket:FAMILY:TYPE, such as socket:inet:stream")?),
        "mount" => mount(needs("mount:FSTYPE:SOURCE, such as mount:proc:proc")?),
        "umount" => Ok(Action::Umount(path(needs("umount:PATH")?)?)),
        "ptrace" => ptrace(needs("ptrace:trace or ptrace:read, with :external")?),
        "cap" => named_capability(needs("cap:NAME, such as cap:sys_admin")?),
        "userns" if rest.is_none() => Ok(Action::UserNamespace),
        "userns" => Err("write `userns` alone".to_owned()),
        "syscall" => syscall(needs("syscall:NAME, such as syscall:unshare:0x10000000")?),
        other => {
            let names = CHANGES.iter().map(|(name, _)| *name).chain(OTHERS);
            let all: Vec<_> = names.clone().collect();
            Err(format!(
                "`{other}` begins none{}; write one of {}",
                suggestion(other, names),
                all.join(", ")
            ))
        }
    }
}

/// A path as the kernel resolves it: absolute, without `.`, `..` and `//`.
fn path(text: &str) -> Result<String, String> {
    if super::is_resolved(text) {
        Ok(text.to_owned())
    } else {
        Err(format!(
            "`{text}` is no resolved path; write an absolute one without links, `.`, `..` and `//`"
        ))
    }
}

fn two_paths(text: &str) -> Result<(String, String), String> {
    match text.split(':').collect::<Vec<_>>()[..] {
        [old, new] => Ok((path(old)?, path(new)?)),
        _ => Err("write two paths without `:` in them".to_owned()),
    }
}

fn open(text: &str) -> Result<Action, String> {
    let Some((name, how)) = text.rsplit_once(':') else {
        return Err("write what for: open:PATH:r, with some of r, w and a".to_owned());
    };
    if how.is_empty() || how.chars().any(|c| !"rwa".contains(c)) {
        return Err(format!("`{how}`: write some of r, w and a"));
    }
    Ok(Action::Open {
        path: path(name)?,
        read: how.contains('r'),
        write: how.contains('w'),
        append: how.contains('a') && !how.contains('w'),
    })
}

fn connect(text: &str) -> Result<Action, String> {
    if text.starts_with('/') {
        return Ok(Action::ConnectUnix(path(text)?));
    }
    let (text, protocol) = match text.split_once('/') {
        None => (text, Protocol::Tcp),
        Some((text, "tcp")) => (text, Protocol::Tcp),
        Some((text, "udp")) => (text, Protocol::Udp),
        Some((_, other)) => return Err(format!("`/{other}`: write /tcp or /udp")),
    };
    let form = "write ADDRESS:PORT, such as 10.0.0.1:443 or [fd00::1]:53";
    let (address, port) = text.rsplit_once(':').ok_or(form)?;
    let address = address
        .strip_prefix('[')
        .and_then(|a| a.strip_suffix(']'))
        .unwrap_or(address);
    Ok(Action::Connect {
        address: address
            .parse()
            .map_err(|_| format!("`{address}` is no address; {form}"))?,
        port: port
            .parse()
            .map_err(|_| format!("`{port}` is no port; {form}"))?,
        protocol,
    })
}

fn socket(text: &str) -> Result<Action, String> {
    let lower = text.to_ascii_lowercase();
    let words: Vec<&str> = lower.split(':').collect();
    let (family, kind, protocol) = match words[..] {
        [family, kind] => (family, kind, "0"),
        [family, kind, protocol] => (family, kind, protocol),
        _ => return Err("write socket:FAMILY:TYPE or socket:FAMILY:TYPE:PROTOCOL".to_owned()),
    };
    Ok(Action::Socket {
        family: number(family, sockets::FAMILIES, "socket family")?,
        // What is left of the type may be SOCK_CLOEXEC and SOCK_NONBLOCK.
        kind: number(kind, sockets::TYPES, "socket type")? & 15,
        protocol: number(protocol, &PROTOCOLS, "protocol")?,
    })
}

/// A number, or a name for one.
fn number<T: Copy + std::str::FromStr>(
    word: &str,
    table: &[(&'static str, T)],
    what: &str,
) -> Result<T, String> {
    if let Ok(number) = word.parse() {
        return Ok(number);
    }
    let names = table.iter().map(|(name, _)| *name);
    let found = table.iter().find(|(name, _)| *name == word);
    found
        .map(|(_, value)| *value)
        .ok_or_else(|| format!("`{word}` is no {what}{}", suggestion(word, names)))
}

fn mount(text: &str) -> Result<Action, String> {
    let (text, target) = match text.rsplit_once(":on=") {
        Some((text, target)) => (text, Some(path(target)?)),
        None => (text, None),
    };
    let (fstype, rest) = text.split_once(':').ok_or("write mount:FSTYPE:SOURCE")?;
    // A source may hold `:` (nfs); what follows the last one is flags when all of it is.
    let (source, flags) = match rest
        .rsplit_once(':')
        .map(|(source, words)| (source, mounts::bits(words)))
    {
        Some((source, Ok(flags))) => (source, flags),
        Some((_, Err(word))) if !rest.contains('/') => {
            return Err(format!(
                "`{word}` is no mount flag; write some of bind, remount, ro, nosuid and the like"
            ));
        }
        _ => (rest, 0),
    };
    if target.is_some() && change_a_mount(flags) {
        return Err(
            "it changes a mount: write that one's path as the source, without `on=`".to_owned(),
        );
    }
    Ok(Action::Mount {
        fstype: fstype.to_owned(),
        source: source.to_owned(),
        flags,
        target,
    })
}

fn ptrace(text: &str) -> Result<Action, String> {
    use crate::plan::bpf::{PTRACE_READ, PTRACE_READBY, PTRACE_TRACE, PTRACE_TRACEBY};
    let (word, external) = match text.split_once(':') {
        None => (text, false),
        Some((word, "external")) => (word, true),
        Some((_, other)) => {
            return Err(format!(
                "`{other}`: write `external`, or nothing for a process of the container"
            ));
        }
    };
    let permission = match word {
        "trace" => PTRACE_TRACE,
        "read" => PTRACE_READ,
        "traceby" => PTRACE_TRACEBY,
        "readby" => PTRACE_READBY,
        _ => return Err(format!("`{word}`: write trace, read, traceby or readby")),
    };
    Ok(Action::Ptrace {
        permission,
        external,
    })
}

fn named_capability(text: &str) -> Result<Action, String> {
    let lower = text.to_ascii_lowercase().replace('-', "_");
    let name = lower.strip_prefix("cap_").unwrap_or(&lower);
    match capability::NAMES.iter().position(|other| *other == name) {
        Some(number) => Ok(Action::Capability(u8::try_from(number).expect("41 names"))),
        None => Err(format!(
            "there is no capability `{text}`{}",
            suggestion(name, capability::NAMES)
        )),
    }
}

fn syscall(text: &str) -> Result<Action, String> {
    let (name, rest) = text.split_once(':').unwrap_or((text, ""));
    if !syscalls::is_known(name) {
        return Err(format!(
            "there is no system call `{name}`{}",
            suggestion(name, syscalls::names())
        ));
    }
    let mut args = [None; 6];
    if !rest.is_empty() {
        for (index, word) in rest.split(',').enumerate() {
            let arg = args
                .get_mut(index)
                .ok_or("a system call has at most six arguments")?;
            let value = match word.strip_prefix("0x") {
                _ if word == "?" => continue,
                Some(digits) => u64::from_str_radix(digits, 16),
                None => word.parse(),
            };
            *arg =
                Some(value.map_err(|_| {
                    format!("`{word}`: write a number, 0x and digits, or ? for any")
                })?);
        }
    }
    Ok(Action::Syscall(name.to_owned(), args))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn actions_are_read_and_written() {
        for (text, expected) in [
            ("open:/etc/shadow:rw", "open:/etc/shadow:rw"),
            ("open:/a:b:a", "open:/a:b:a"),
            ("exec:/bin/sh", "exec:/bin/sh"),
            ("mkdir:/", "mkdir:/"),
            ("rename:/a:/b", "rename:/a:/b"),
            ("connect:10.0.0.1:443", "connect:10.0.0.1:443/tcp"),
            ("connect:[fd00::1]:53/udp", "connect:[fd00::1]:53/udp"),
            ("connect:/run/a.sock", "connect:/run/a.sock"),
            ("socket:inet:RAW:icmp", "socket:2:3:1"),
            ("socket:44:3", "socket:44:3:0"),
            ("mount:proc:proc", "mount:proc:proc (flags 0x0)"),
            ("mount:none:/a:bind,ro", "mount:none:/a (flags 0x1001)"),
            ("mount:nfs:host:/x", "mount:nfs:host:/x (flags 0x0)"),
            (
                "mount:nfs:host:/x:on=/a:b",
                "mount:nfs:host:/x (flags 0x0) on /a:b",
            ),
            (
                "mount:none:/a:bind:on=/mnt",
                "mount:none:/a (flags 0x1000) on /mnt",
            ),
            ("ptrace:read:external", "ptrace:read:external"),
            ("cap:CAP_SYS_ADMIN", "cap:sys_admin"),
            ("userns", "userns"),
            ("syscall:setns:?,0x10", "syscall:setns:?,0x10"),
        ] {
            let action: Action = text.parse().unwrap_or_else(|error| panic!("{error}"));
            assert_eq!(action.to_string(), expected);
        }
    }

    #[test]
    fn what_is_no_action_is_explained() {
        for (text, expected) in [
            ("opne:/a:r", "did you mean `open`?"),
            ("open:/a", "what for"),
            ("open:/a:x", "some of r, w and a"),
            ("open:a:r", "no resolved path"),
            ("exec:/a/../b", "no resolved path"),
            ("rename:/a", "two paths"),
            ("connect:host:1", "no address"),
            ("connect:1.2.3.4:99999", "no port"),
            ("connect:1.2.3.4:1/icmp", "/tcp or /udp"),
            ("socket:inet", "FAMILY:TYPE"),
            ("socket:inte:raw", "did you mean `inet`?"),
            ("mount:proc", "FSTYPE:SOURCE"),
            ("mount:none:x:bnd", "no mount flag"),
            ("mount:proc:proc:on=proc", "no resolved path"),
            ("mount:none:/a:remount,ro:on=/b", "path as the source"),
            ("ptrace:all", "trace, read"),
            ("cap:sys_admn", "did you mean `sys_admin`?"),
            ("syscall:opne", "did you mean `open`?"),
            ("syscall:open:x", "write a number"),
            ("syscall:open:1,2,3,4,5,6,7", "at most six"),
            ("userns:x", "alone"),
        ] {
            let error = text.parse::<Action>().expect_err(text).to_string();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }
}
