// SPDX-License-Identifier: Apache-2.0
//! What the programs report, decoded from the ring buffer's records.

use std::ffi::OsString;
use std::net::Ipv6Addr;
use std::os::unix::ffi::OsStringExt;
use std::time::Duration;

use varmor_bpf_abi::events as e;
use varmor_bpf_abi::layout::{Plain, TEXT_MAX, ViolationHeader};

/// One report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// Time since boot, suspended time included.
    pub time: Duration,
    /// Key of the container.
    pub container: u64,
    /// Key of the profile.
    pub profile: u64,
    /// Process id in the initial pid namespace.
    pub tgid: u32,
    /// Thread id in the initial pid namespace.
    pub tid: u32,
    /// Inode number of the task's mount namespace.
    pub mntns: u32,
    /// The task's name; any bytes, the task chooses them.
    pub comm: OsString,
    /// What became of it.
    pub action: Action,
    /// What was done.
    pub event: Event,
}

/// What became of an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Refused.
    Denied,
    /// Allowed; a rule asks for the report.
    Audit,
    /// Allowed by a profile that refuses nothing and reports everything.
    Allowed,
}

/// What was done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A capability was used.
    Capability {
        /// Its number.
        capability: u32,
    },
    /// A file was opened or changed.
    File {
        /// How.
        operation: FileOperation,
        /// `PERM_*` of `varmor_policy::plan::automaton`.
        permissions: u32,
        /// Absolute path in the container; any bytes but NUL. Empty where the path could not be told.
        path: OsString,
    },
    /// A file was executed.
    Exec {
        /// `PERM_*`.
        permissions: u32,
        /// The file that was resolved.
        path: OsString,
    },
    /// A socket was made, connected or sent through.
    Network {
        /// How.
        operation: NetworkOperation,
        /// `AF_*`.
        family: u16,
        /// `SOCK_*`.
        socket_type: u32,
        /// IP protocol.
        protocol: u32,
        /// Destination, IPv4 mapped into IPv6; unspecified for a new socket.
        address: Ipv6Addr,
        /// Destination port.
        port: u16,
    },
    /// A process was traced or read.
    Ptrace {
        /// `PTRACE_*` of `varmor_policy::plan::bpf`.
        permissions: u32,
        /// The other process is outside the container.
        external: bool,
    },
    /// Something was mounted, unmounted or moved.
    Mount {
        /// Flags of mount(2).
        flags: u32,
        /// File system type, or `none`.
        fstype: OsString,
        /// Source or path.
        source: OsString,
    },
    /// A user namespace was made.
    Userns,
}

/// How a file was used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileOperation {
    /// open of a file that exists.
    Open,
    /// open that makes the file.
    Create,
    /// unlink.
    Unlink,
    /// rmdir.
    Rmdir,
    /// mkdir.
    Mkdir,
    /// mknod, a new file, or a Unix socket that is bound.
    Mknod,
    /// symlink.
    Symlink,
    /// link.
    Link,
    /// rename.
    Rename,
    /// truncate.
    Truncate,
    /// chmod.
    Chmod,
    /// chown.
    Chown,
    /// An executable mapping.
    Mmap,
    /// A connection or message to a Unix socket.
    Unix,
    /// execve.
    Exec,
    /// The path could not be told: refused without a rule.
    Path,
    /// setxattr, removexattr, access control lists.
    Xattr,
}

/// How the network was used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NetworkOperation {
    /// socket(2).
    Socket,
    /// connect(2).
    Connect,
    /// A send with an address.
    Send,
}

/// Why a record could not be decoded: it isn't one of this version's programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// Shorter than its head.
    #[error(
        "a record of {found} bytes is shorter than its head of {} bytes",
        ViolationHeader::SIZE
    )]
    Short {
        /// Length of the record.
        found: usize,
    },
    /// The text's length is not what follows the head.
    #[error("a record says it has {said} bytes of text and has {found}, {TEXT_MAX} at most")]
    Text {
        /// Length that the head tells.
        said: u32,
        /// Length that follows.
        found: usize,
    },
    /// A number has no meaning.
    #[error("unknown {field} {value} in a record")]
    Unknown {
        /// The field.
        field: &'static str,
        /// Its value.
        value: u8,
    },
    /// A mount event without the NUL between type and source.
    #[error("the text of a mount event has no NUL between type and source")]
    MountText,
}

/// Decodes one record.
pub fn decode(record: &[u8]) -> Result<Violation, DecodeError> {
    let (head, text) =
        record
            .split_at_checked(ViolationHeader::SIZE)
            .ok_or(DecodeError::Short {
                found: record.len(),
            })?;
    let head = ViolationHeader::from_bytes(head).ok_or(DecodeError::Short {
        found: record.len(),
    })?;
    if text.len() > TEXT_MAX || usize::try_from(head.text_length) != Ok(text.len()) {
        return Err(DecodeError::Text {
            said: head.text_length,
            found: text.len(),
        });
    }
    Ok(Violation {
        time: Duration::from_nanos(head.time),
        container: head.container,
        profile: head.profile,
        tgid: head.tgid,
        tid: head.tid,
        mntns: head.mntns,
        comm: string(
            head.comm
                .split(|byte| *byte == 0)
                .next()
                .unwrap_or_default(),
        ),
        action: action(head.action)?,
        event: event(&head, text)?,
    })
}

fn string(bytes: &[u8]) -> OsString {
    OsString::from_vec(bytes.to_vec())
}

fn action(value: u8) -> Result<Action, DecodeError> {
    Ok(match value {
        e::ACTION_DENIED => Action::Denied,
        e::ACTION_AUDIT => Action::Audit,
        e::ACTION_ALLOWED => Action::Allowed,
        value => {
            return Err(DecodeError::Unknown {
                field: "action",
                value,
            });
        }
    })
}

fn event(head: &ViolationHeader, text: &[u8]) -> Result<Event, DecodeError> {
    let permissions = head.permissions;
    Ok(match head.kind {
        e::EVENT_CAPABILITY => Event::Capability {
            capability: permissions,
        },
        e::EVENT_FILE => Event::File {
            operation: file_operation(head.op)?,
            permissions,
            path: string(text),
        },
        e::EVENT_EXEC => Event::Exec {
            permissions,
            path: string(text),
        },
        e::EVENT_NETWORK => Event::Network {
            operation: network_operation(head.op)?,
            family: head.family,
            socket_type: head.socket_type,
            protocol: head.protocol,
            address: head.address.into(),
            port: head.port,
        },
        e::EVENT_PTRACE => Event::Ptrace {
            permissions,
            external: head.external != 0,
        },
        e::EVENT_MOUNT => {
            let nul = text
                .iter()
                .position(|byte| *byte == 0)
                .ok_or(DecodeError::MountText)?;
            Event::Mount {
                flags: permissions,
                fstype: string(&text[..nul]),
                source: string(&text[nul + 1..]),
            }
        }
        e::EVENT_USERNS => Event::Userns,
        value => {
            return Err(DecodeError::Unknown {
                field: "event type",
                value,
            });
        }
    })
}

fn file_operation(value: u8) -> Result<FileOperation, DecodeError> {
    Ok(match value {
        e::OP_OPEN => FileOperation::Open,
        e::OP_CREATE => FileOperation::Create,
        e::OP_UNLINK => FileOperation::Unlink,
        e::OP_RMDIR => FileOperation::Rmdir,
        e::OP_MKDIR => FileOperation::Mkdir,
        e::OP_MKNOD => FileOperation::Mknod,
        e::OP_SYMLINK => FileOperation::Symlink,
        e::OP_LINK => FileOperation::Link,
        e::OP_RENAME => FileOperation::Rename,
        e::OP_TRUNCATE => FileOperation::Truncate,
        e::OP_CHMOD => FileOperation::Chmod,
        e::OP_CHOWN => FileOperation::Chown,
        e::OP_MMAP => FileOperation::Mmap,
        e::OP_UNIX => FileOperation::Unix,
        e::OP_EXEC => FileOperation::Exec,
        e::OP_PATH => FileOperation::Path,
        e::OP_XATTR => FileOperation::Xattr,
        value => {
            return Err(DecodeError::Unknown {
                field: "file operation",
                value,
            });
        }
    })
}

fn network_operation(value: u8) -> Result<NetworkOperation, DecodeError> {
    Ok(match value {
        e::NETWORK_SOCKET => NetworkOperation::Socket,
        e::NETWORK_CONNECT => NetworkOperation::Connect,
        e::NETWORK_SEND => NetworkOperation::Send,
        value => {
            return Err(DecodeError::Unknown {
                field: "network operation",
                value,
            });
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn head(kind: u8, op: u8, text: &[u8]) -> ViolationHeader {
        let mut comm = [0; 16];
        comm[..3].copy_from_slice(b"cat");
        ViolationHeader {
            time: 1_500_000_000,
            container: 7,
            profile: 8,
            tgid: 10,
            tid: 11,
            mntns: 12,
            action: e::ACTION_DENIED,
            kind,
            op,
            permissions: 1,
            text_length: text.len() as u32,
            comm,
            ..ViolationHeader::default()
        }
    }

    fn record(head: &ViolationHeader, text: &[u8]) -> Vec<u8> {
        [&head.to_bytes()[..], text].concat()
    }

    #[test]
    fn a_refused_open_is_read_back() {
        let head = head(e::EVENT_FILE, e::OP_OPEN, b"/etc/shadow");
        let violation = decode(&record(&head, b"/etc/shadow")).unwrap();
        let event = Event::File {
            operation: FileOperation::Open,
            permissions: 1,
            path: "/etc/shadow".into(),
        };
        let expected = Violation {
            time: Duration::from_millis(1500),
            container: 7,
            profile: 8,
            tgid: 10,
            tid: 11,
            mntns: 12,
            comm: "cat".into(),
            action: Action::Denied,
            event,
        };
        assert_eq!(violation, expected);
    }

    #[test]
    fn a_mount_has_a_type_and_a_source() {
        let text = b"tmpfs\0/mnt";
        let event = decode(&record(&head(e::EVENT_MOUNT, 0, text), text))
            .unwrap()
            .event;
        assert_eq!(
            event,
            Event::Mount {
                flags: 1,
                fstype: "tmpfs".into(),
                source: "/mnt".into()
            }
        );
        let error = decode(&record(&head(e::EVENT_MOUNT, 0, b"tmpfs"), b"tmpfs")).unwrap_err();
        assert_eq!(error, DecodeError::MountText);
    }

    #[test]
    fn a_connection_has_a_destination() {
        let address: Ipv6Addr = "::ffff:169.254.169.254".parse().unwrap();
        let head = ViolationHeader {
            family: 2,
            port: 80,
            protocol: 6,
            socket_type: 1,
            address: address.octets(),
            ..head(e::EVENT_NETWORK, e::NETWORK_CONNECT, b"")
        };
        let event = decode(&record(&head, b"")).unwrap().event;
        let operation = NetworkOperation::Connect;
        assert_eq!(
            event,
            Event::Network {
                operation,
                family: 2,
                socket_type: 1,
                protocol: 6,
                address,
                port: 80
            }
        );
    }

    #[test]
    fn lengths_and_numbers_are_checked() {
        let good = head(e::EVENT_FILE, e::OP_OPEN, b"/a");
        let bytes = record(&good, b"/a");
        assert_eq!(decode(&bytes[..10]), Err(DecodeError::Short { found: 10 }));
        assert_eq!(
            decode(&bytes[..bytes.len() - 1]),
            Err(DecodeError::Text { said: 2, found: 1 })
        );
        assert_eq!(
            decode(&record(&good, b"/ab")),
            Err(DecodeError::Text { said: 2, found: 3 })
        );
        let long = vec![b'/'; TEXT_MAX + 1];
        let head = head(e::EVENT_FILE, e::OP_OPEN, &long);
        assert_eq!(
            decode(&record(&head, &long)),
            Err(DecodeError::Text {
                said: 4097,
                found: 4097
            })
        );
        for (bad, field) in [
            (ViolationHeader { action: 3, ..good }, "action"),
            (ViolationHeader { kind: 3, ..good }, "event type"),
            (ViolationHeader { op: 255, ..good }, "file operation"),
            (
                ViolationHeader {
                    kind: e::EVENT_NETWORK,
                    op: 0,
                    ..good
                },
                "network operation",
            ),
        ] {
            match decode(&record(&bad, b"/a")) {
                Err(DecodeError::Unknown { field: found, .. }) => assert_eq!(found, field),
                other => panic!("{other:?}"),
            }
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            let _ = decode(&bytes);
        }

        #[test]
        fn a_head_with_any_numbers_is_decoded_or_refused(
            kind in prop::sample::select(vec![1_u8, 2, 4, 8, 0x10, 0x20, 0x40, 0]), op in 0..20_u8, action in 0..6_u8,
            text in prop::collection::vec(any::<u8>(), 0..40), comm: [u8; 16],
        ) {
            let head = ViolationHeader { action, comm, ..head(kind, op, &text) };
            if let Ok(violation) = decode(&record(&head, &text)) {
                prop_assert!(violation.comm.len() <= 16);
                if let Event::File { path, .. } = violation.event {
                    prop_assert_eq!(path.into_vec(), text);
                }
            }
        }
    }
}
