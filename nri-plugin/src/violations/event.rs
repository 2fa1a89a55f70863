// SPDX-License-Identifier: Apache-2.0
//! What happened, in the words of vArmor's log.

use std::ffi::OsStr;

use serde_json::{Value, json};
use varmor_ebpf::violation::{Action, Event, FileOperation, NetworkOperation};
use varmor_policy::plan::automaton::{PERM_APPEND, PERM_EXEC, PERM_READ, PERM_WRITE};
use varmor_policy::plan::bpf::{
    MOUNT_NEW, MOUNT_UMOUNT, PTRACE_READ, PTRACE_READBY, PTRACE_TRACE, PTRACE_TRACEBY,
};

/// (level, action) as the log writes them.
pub fn action(action: Action) -> (&'static str, &'static str) {
    match action {
        Action::Denied => ("warn", "DENIED"),
        Action::Audit => ("debug", "AUDIT"),
        Action::Allowed => ("debug", "ALLOWED"),
    }
}

/// The `event` object of a record.
pub fn event(event: &Event) -> Value {
    match event {
        Event::Capability { capability } => json!({
            "operation": "Capability",
            "capability": usize::try_from(*capability)
                .ok()
                .and_then(|number| varmor_policy::capability::NAMES.get(number).copied())
                .map_or_else(|| capability.to_string(), str::to_owned),
        }),
        Event::File {
            operation,
            permissions,
            path,
        } => json!({
            "operation": "File",
            "access": access(*operation),
            "permissions": file_permissions(*operation, *permissions),
            "path": text(path),
        }),
        Event::Exec { permissions, path } => json!({
            "operation": "Bprm",
            "permissions": file_permissions(FileOperation::Exec, *permissions),
            "path": text(path),
        }),
        Event::Network {
            operation,
            family,
            socket_type,
            protocol,
            address,
            port,
        } => {
            let mut value = json!({
                "operation": "Network",
                "type": match operation {
                    NetworkOperation::Socket => "socket",
                    NetworkOperation::Connect => "connect",
                    NetworkOperation::Send => "send",
                },
                "socket": {
                    "domain": named(&FAMILIES, (*family).into()),
                    "type": named(&SOCKET_TYPES, *socket_type),
                    "protocol": named(&PROTOCOLS, *protocol),
                },
            });
            if *operation != NetworkOperation::Socket {
                let ip = address.to_canonical().to_string();
                value["address"] = json!({"ip": ip, "port": port});
            }
            value
        }
        Event::Ptrace {
            permissions,
            external,
        } => json!({
            "operation": "Ptrace",
            "permission": words(&PTRACE, *permissions).join(","),
            "external": external,
        }),
        Event::Mount {
            flags,
            fstype,
            source,
        } => json!({
            "operation": "Mount",
            "path": text(source),
            "type": text(fstype),
            "flags": words(&MOUNT_FLAGS, *flags),
        }),
        Event::Userns => json!({"operation": "CreateUserNamespace"}),
    }
}

fn text(bytes: &OsStr) -> String {
    bytes.to_string_lossy().into_owned()
}

fn access(operation: FileOperation) -> &'static str {
    match operation {
        FileOperation::Open => "open",
        FileOperation::Create => "create",
        FileOperation::Unlink => "unlink",
        FileOperation::Rmdir => "rmdir",
        FileOperation::Mkdir => "mkdir",
        FileOperation::Mknod => "mknod",
        FileOperation::Symlink => "symlink",
        FileOperation::Link => "link",
        FileOperation::Rename => "rename",
        FileOperation::Truncate => "truncate",
        FileOperation::Chmod => "chmod",
        FileOperation::Chown => "chown",
        FileOperation::Mmap => "mmap",
        FileOperation::Unix => "connect",
        FileOperation::Exec => "exec",
        FileOperation::Path => "unknown path",
        FileOperation::Xattr => "xattr",
    }
}

fn file_permissions(operation: FileOperation, permissions: u32) -> Vec<&'static str> {
    const PERMISSIONS: [(u32, &str); 4] = [
        (PERM_EXEC as u32, "exec"),
        (PERM_WRITE as u32, "write"),
        (PERM_READ as u32, "read"),
        (PERM_APPEND as u32, "append"),
    ];
    let mut found = words(&PERMISSIONS, permissions);
    match operation {
        FileOperation::Create | FileOperation::Mkdir | FileOperation::Mknod => found.push("create"),
        FileOperation::Rename => found.push("rename"),
        FileOperation::Link | FileOperation::Symlink => found.push("link"),
        _ => {}
    }
    found
}

const PTRACE: [(u32, &str); 4] = [
    (PTRACE_TRACE as u32, "trace"),
    (PTRACE_READ as u32, "read"),
    (PTRACE_TRACEBY as u32, "traceby"),
    (PTRACE_READBY as u32, "readby"),
];

/// Flags of mount(2) (include/uapi/linux/mount.h), by the names that policies have for them.
const MOUNT_FLAGS: [(u32, &str); 22] = [
    (1, "ro"),
    (1 << 1, "nosuid"),
    (1 << 2, "nodev"),
    (1 << 3, "noexec"),
    (1 << 4, "sync"),
    (1 << 5, "remount"),
    (1 << 6, "mand"),
    (1 << 7, "dirsync"),
    (MOUNT_UMOUNT, "umount"),
    (1 << 10, "noatime"),
    (1 << 11, "nodiratime"),
    (1 << 12, "bind"),
    (1 << 13, "move"),
    (1 << 14, "rec"),
    (1 << 15, "silent"),
    (1 << 17, "unbindable"),
    (1 << 18, "private"),
    (1 << 19, "slave"),
    (1 << 20, "shared"),
    (1 << 21, "relatime"),
    (1 << 24, "strictatime"),
    (MOUNT_NEW, "new"),
];

fn words(names: &[(u32, &'static str)], mask: u32) -> Vec<&'static str> {
    names
        .iter()
        .filter(|(bit, _)| mask & bit != 0)
        .map(|(_, name)| *name)
        .collect()
}

/// Address families that containers use (include/linux/socket.h).
const FAMILIES: [(u32, &str); 12] = [
    (1, "AF_UNIX"),
    (2, "AF_INET"),
    (10, "AF_INET6"),
    (15, "AF_KEY"),
    (16, "AF_NETLINK"),
    (17, "AF_PACKET"),
    (21, "AF_RDS"),
    (29, "AF_CAN"),
    (31, "AF_BLUETOOTH"),
    (38, "AF_ALG"),
    (40, "AF_VSOCK"),
    (44, "AF_XDP"),
];
const SOCKET_TYPES: [(u32, &str); 7] = [
    (1, "SOCK_STREAM"),
    (2, "SOCK_DGRAM"),
    (3, "SOCK_RAW"),
    (4, "SOCK_RDM"),
    (5, "SOCK_SEQPACKET"),
    (6, "SOCK_DCCP"),
    (10, "SOCK_PACKET"),
];
const PROTOCOLS: [(u32, &str); 8] = [
    (0, "IPPROTO_IP"),
    (1, "IPPROTO_ICMP"),
    (6, "IPPROTO_TCP"),
    (17, "IPPROTO_UDP"),
    (58, "IPPROTO_ICMPV6"),
    (132, "IPPROTO_SCTP"),
    (255, "IPPROTO_RAW"),
    (262, "IPPROTO_MPTCP"),
];

fn named(names: &[(u32, &str)], number: u32) -> String {
    let name = names.iter().find(|(known, _)| *known == number);
    name.map_or_else(|| number.to_string(), |(_, name)| (*name).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_has_the_words_of_varmor() {
        let cases = [
            (
                Event::Capability { capability: 21 },
                json!({"operation": "Capability", "capability": "sys_admin"}),
            ),
            (
                Event::Capability { capability: 99 },
                json!({"operation": "Capability", "capability": "99"}),
            ),
            (
                Event::File {
                    operation: FileOperation::Rename,
                    permissions: 11,
                    path: "/etc/a".into(),
                },
                json!({"operation": "File", "access": "rename", "permissions": ["exec", "write", "read", "rename"],
                       "path": "/etc/a"}),
            ),
            (
                Event::Exec {
                    permissions: 8,
                    path: "/bin/sh".into(),
                },
                json!({"operation": "Bprm", "permissions": ["exec"], "path": "/bin/sh"}),
            ),
            (
                Event::Network {
                    operation: NetworkOperation::Connect,
                    family: 10,
                    socket_type: 1,
                    protocol: 6,
                    address: "::ffff:169.254.169.254".parse().unwrap(),
                    port: 80,
                },
                json!({"operation": "Network", "type": "connect", "address": {"ip": "169.254.169.254", "port": 80},
                       "socket": {"domain": "AF_INET6", "type": "SOCK_STREAM", "protocol": "IPPROTO_TCP"}}),
            ),
            (
                Event::Network {
                    operation: NetworkOperation::Socket,
                    family: 77,
                    socket_type: 2,
                    protocol: 0,
                    address: "::".parse().unwrap(),
                    port: 0,
                },
                json!({"operation": "Network", "type": "socket",
                       "socket": {"domain": "77", "type": "SOCK_DGRAM", "protocol": "IPPROTO_IP"}}),
            ),
            (
                Event::Ptrace {
                    permissions: 1,
                    external: true,
                },
                json!({"operation": "Ptrace", "permission": "trace", "external": true}),
            ),
            (
                Event::Mount {
                    flags: 0x1000 | 0x4000,
                    fstype: "none".into(),
                    source: "/proc".into(),
                },
                json!({"operation": "Mount", "path": "/proc", "type": "none", "flags": ["bind", "rec"]}),
            ),
            (Event::Userns, json!({"operation": "CreateUserNamespace"})),
        ];
        for (given, expected) in cases {
            assert_eq!(event(&given), expected);
        }
    }
}
