// SPDX-License-Identifier: Apache-2.0
//! What a process might do, as people write it: `open:/etc/shadow:w`, `connect:10.0.0.1:443`.

mod parse;

use crate::capability;
use std::fmt;
use std::net::IpAddr;

/// Something that a process in a container might do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Opening a file.
    Open {
        /// The path, resolved.
        path: String,
        /// For reading.
        read: bool,
        /// For writing.
        write: bool,
        /// For appending only.
        append: bool,
    },
    /// Executing a file.
    Exec(String),
    /// A change of one entry of a directory, or of a file's attributes.
    Change(Change, String),
    /// Giving a file another name.
    Rename(String, String),
    /// Giving a file a second name.
    Link(String, String),
    /// Connecting to an address, or sending to it.
    Connect {
        /// The address.
        address: IpAddr,
        /// The port.
        port: u16,
        /// `tcp` or `udp`.
        protocol: Protocol,
    },
    /// Connecting to a Unix socket.
    ConnectUnix(String),
    /// Making a socket.
    Socket {
        /// AF_*.
        family: u8,
        /// SOCK_*.
        kind: u8,
        /// IPPROTO_*; 0 is the default of the type.
        protocol: u16,
    },
    /// Mounting, by mount(2). The source of what only changes a mount is that mount's path.
    Mount {
        /// The file system type; `none` where the operation has none.
        fstype: String,
        /// The source.
        source: String,
        /// MS_* flags.
        flags: u32,
        /// Where, when that is given.
        target: Option<String>,
    },
    /// Unmounting.
    Umount(String),
    /// Tracing or reading another process, or being traced or read.
    Ptrace {
        /// `PTRACE_*` of [`crate::plan::bpf`].
        permission: u8,
        /// Whether the other process is outside the container.
        external: bool,
    },
    /// Using a capability, by number.
    Capability(u8),
    /// Making a user namespace.
    UserNamespace,
    /// A system call; arguments that are not given may be anything.
    Syscall(String, [Option<u64>; 6]),
}

/// A change of one entry of a directory, or of a file's attributes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// A file is made.
    Create,
    /// A name is removed.
    Unlink,
    /// A directory is removed.
    Rmdir,
    /// A directory is made.
    Mkdir,
    /// A special file is made.
    Mknod,
    /// A symbolic link is made.
    Symlink,
    /// The content is cut off.
    Truncate,
    /// The mode is changed.
    Chmod,
    /// The owner is changed.
    Chown,
    /// An extended attribute is set or removed.
    Setxattr,
}

/// The protocol of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

/// Whether a path is one as the kernel resolves it, links aside.
pub(super) fn is_resolved(path: &str) -> bool {
    let plain = |name: &str| !matches!(name, "" | "." | "..");
    path.strip_prefix('/')
        .is_some_and(|rest| rest.is_empty() || rest.split('/').all(plain))
}

const CHANGES: [(&str, Change); 10] = [
    ("create", Change::Create),
    ("unlink", Change::Unlink),
    ("rmdir", Change::Rmdir),
    ("mkdir", Change::Mkdir),
    ("mknod", Change::Mknod),
    ("symlink", Change::Symlink),
    ("truncate", Change::Truncate),
    ("chmod", Change::Chmod),
    ("chown", Change::Chown),
    ("setxattr", Change::Setxattr),
];
impl Change {
    /// Its name in an action.
    pub fn name(self) -> &'static str {
        CHANGES
            .iter()
            .find(|(_, other)| *other == self)
            .map_or("", |(name, _)| name)
    }
}

/// Why a text is no action, and what to write.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is no action: {message}")]
pub struct ActionError {
    text: String,
    message: String,
}

/// As it was written.
impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Open {
                path,
                read,
                write,
                append,
            } => {
                let how: String = [(*read, 'r'), (*write, 'w'), (*append, 'a')]
                    .into_iter()
                    .filter_map(|(on, letter)| on.then_some(letter))
                    .collect();
                write!(f, "open:{path}:{how}")
            }
            Self::Exec(path) => write!(f, "exec:{path}"),
            Self::Change(change, path) => write!(f, "{}:{path}", change.name()),
            Self::Rename(old, new) => write!(f, "rename:{old}:{new}"),
            Self::Link(old, new) => write!(f, "link:{old}:{new}"),
            Self::Connect {
                address,
                port,
                protocol,
            } => {
                let protocol = match protocol {
                    Protocol::Tcp => "tcp",
                    Protocol::Udp => "udp",
                };
                write!(
                    f,
                    "connect:{}/{protocol}",
                    std::net::SocketAddr::new(*address, *port)
                )
            }
            Self::ConnectUnix(path) => write!(f, "connect:{path}"),
            Self::Socket {
                family,
                kind,
                protocol,
            } => write!(f, "socket:{family}:{kind}:{protocol}"),
            Self::Mount {
                fstype,
                source,
                flags,
                target,
            } => {
                write!(f, "mount:{fstype}:{source} (flags {flags:#x})")?;
                match target {
                    Some(target) => write!(f, " on {target}"),
                    None => Ok(()),
                }
            }
            Self::Umount(path) => write!(f, "umount:{path}"),
            Self::Ptrace {
                permission,
                external,
            } => {
                let name = ["trace", "read", "traceby", "readby"]
                    [permission.trailing_zeros() as usize & 3];
                write!(
                    f,
                    "ptrace:{name}{}",
                    if *external { ":external" } else { "" }
                )
            }
            Self::Capability(number) => {
                write!(f, "cap:{}", capability::NAMES[usize::from(*number)])
            }
            Self::UserNamespace => f.write_str("userns"),
            Self::Syscall(name, args) => {
                write!(f, "syscall:{name}")?;
                let given = args
                    .iter()
                    .rposition(Option::is_some)
                    .map_or(0, |last| last + 1);
                for (index, arg) in args[..given].iter().enumerate() {
                    f.write_str(if index == 0 { ":" } else { "," })?;
                    match arg {
                        Some(value) => write!(f, "{value:#x}")?,
                        None => f.write_str("?")?,
                    }
                }
                Ok(())
            }
        }
    }
}
