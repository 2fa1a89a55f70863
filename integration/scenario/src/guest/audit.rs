// SPDX-License-Identifier: Apache-2.0
//! The kernel's audit records, as the kernel sends them to everybody who may read them. The kernel's log would do for a few,
//! but it drops some of a burst, and where auditd runs they don't reach it.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;

use anyhow::{Context, Result};
use rustix::io::Errno;
use rustix::net::netlink::{AUDIT, SocketAddrNetlink};
use rustix::net::{
    AddressFamily, RecvFlags, SocketFlags, SocketType, bind, recv, socket_with, sockopt,
};

/// `AUDIT_NLGRP_READLOG` of linux/audit.h, group 1, as the bit mask that bind(2) takes.
const READ_LOG: u32 = 1;
/// `AUDIT_AVC` of linux/audit.h: what AppArmor's records are.
const APPARMOR: u16 = 1400;
/// `AUDIT_SECCOMP` of linux/audit.h.
const SECCOMP: u16 = 1326;
/// `MAX_AUDIT_MESSAGE_LENGTH` of linux/audit.h, with the header.
const LONGEST: usize = 8970 + HEADER;
/// `struct nlmsghdr`.
const HEADER: usize = 16;

/// A record's fields, with quotes taken off. (A value that has unusual bytes is hex without quotes: left so.)
pub type Record = BTreeMap<String, String>;

/// The stream of records since it was opened.
pub struct Audit(OwnedFd);

impl Audit {
    /// Opens it; needs CAP_AUDIT_READ, and the node's own network namespace.
    ///
    /// # Errors
    /// The kernel has no audit, or the caller may not read it.
    pub fn open() -> Result<Self> {
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, Some(AUDIT))
            .context("the kernel's audit socket")?;
        // A container's start can write more than the default holds.
        sockopt::set_socket_recv_buffer_size(&socket, 4 << 20)
            .context("the audit socket's buffer")?;
        bind(&socket, &SocketAddrNetlink::new(0, READ_LOG))
            .context("joining the readers of the audit log")?;
        Ok(Self(socket))
    }

    /// The AppArmor records since the last call.
    ///
    /// # Errors
    /// Reading fails.
    pub fn apparmor(&mut self) -> Result<Vec<Record>> {
        let of_apparmor = |(source, record)| (source == Source::AppArmor).then_some(record);
        Ok(self.read()?.into_iter().filter_map(of_apparmor).collect())
    }

    /// The records of both since the last call, in the kernel's order.
    ///
    /// # Errors
    /// Reading fails.
    pub fn read(&mut self) -> Result<Vec<(Source, Record)>> {
        let mut found = Vec::new();
        let mut buffer = vec![0; LONGEST];
        loop {
            match recv(&self.0, &mut *buffer, RecvFlags::empty()) {
                // The length in the header is not the message's for this group; the datagram's is.
                Ok((length, _)) => found.extend(parse(&buffer[..length])),
                Err(Errno::AGAIN) => return Ok(found),
                // Some were lost, which the reader sees by what he misses.
                Err(Errno::NOBUFS | Errno::INTR) => {}
                Err(error) => return Err(error).context("reading the audit log"),
            }
        }
    }
}

/// Who wrote a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// AppArmor, refusing or reporting.
    AppArmor,
    /// A filter whose action reports.
    Seccomp,
}

fn parse(message: &[u8]) -> Option<(Source, Record)> {
    let kind = u16::from_ne_bytes(message.get(4..6)?.try_into().ok()?);
    let text = String::from_utf8_lossy(message.get(HEADER..)?);
    let record = fields(text.trim_end_matches(['\0', '\n']));
    match kind {
        APPARMOR if record.contains_key("apparmor") => Some((Source::AppArmor, record)),
        SECCOMP if record.contains_key("syscall") => Some((Source::Seccomp, record)),
        _ => None,
    }
}

/// `key=word` and `key="some words"`, whatever else is between them.
fn fields(text: &str) -> Record {
    let mut found = Record::new();
    let mut rest = text;
    while let Some(at) = rest.find('=') {
        let key = rest[..at].rsplit(' ').next().unwrap_or_default();
        rest = &rest[at + 1..];
        let value;
        (value, rest) = match rest.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"').unwrap_or((quoted, "")),
            None => rest.split_once(' ').unwrap_or((rest, "")),
        };
        found.insert(key.to_owned(), value.to_owned());
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    const DENIED: &str = r#"audit(1795326742.680:10): apparmor="DENIED" operation="open" class="file" profile="p" name="/etc/a=b c" pid=203 comm="cat" requested_mask="r" denied_mask="r" fsuid=0 ouid=0"#;

    fn message(kind: u16, text: &str) -> Vec<u8> {
        let mut message = vec![0; HEADER];
        message[4..6].copy_from_slice(&kind.to_ne_bytes());
        message.extend(text.as_bytes());
        message
    }

    #[test]
    fn an_apparmor_record_is_taken_apart() {
        let (source, record) = parse(&message(APPARMOR, DENIED)).unwrap();
        assert_eq!(source, Source::AppArmor);
        for (key, value) in [
            ("apparmor", "DENIED"),
            ("name", "/etc/a=b c"),
            ("pid", "203"),
            ("ouid", "0"),
        ] {
            assert_eq!(record.get(key).map(String::as_str), Some(value), "{key}");
        }
    }

    #[test]
    fn a_seccomp_record_is_taken_apart() {
        let text = r#"audit(1795326749.936:174): auid=4294967295 uid=0 pid=236 comm="sc" exe="/mnt/sc" sig=0 arch=c000003e syscall=83 compat=0 ip=0x439389 code=0x7ffc0000"#;
        let (source, record) = parse(&message(SECCOMP, text)).unwrap();
        assert_eq!(source, Source::Seccomp);
        assert_eq!(
            (&*record["syscall"], &*record["code"]),
            ("83", "0x7ffc0000")
        );
        assert_eq!(parse(&message(SECCOMP, DENIED)), None);
    }

    #[test]
    fn other_messages_are_left_out() {
        assert_eq!(parse(&message(1300, DENIED)), None);
        assert_eq!(
            parse(&message(APPARMOR, "audit(1:2): avc: denied { read }")),
            None
        );
        assert_eq!(parse(&[0; 3]), None);
        assert_eq!(
            parse(&message(APPARMOR, "apparmor=\"DENIED")).unwrap().1["apparmor"],
            "DENIED"
        );
    }
}
