// SPDX-License-Identifier: Apache-2.0
//! Compiles kernel/abi.h for the host and compares every size, offset and constant with the Rust side.

use std::fmt::Write as _;
use std::mem::{offset_of, size_of};
use std::process::Command;

use varmor_bpf_abi::layout::{self as l, Class, Plain as _};

/// C expressions and what they must be.
fn expectations() -> Vec<(String, usize)> {
    let mut all = Vec::new();
    macro_rules! shape {
        ($rust:ident, $c:literal, [$($field:ident $(as $name:literal)?),*]) => {
            all.push((format!("sizeof(struct {})", $c), size_of::<l::$rust>()));
            $(
                #[allow(unused_mut, unused_assignments)]
                let mut name = stringify!($field);
                $(name = $name;)?
                all.push((format!("offsetof(struct {}, {name})", $c), offset_of!(l::$rust, $field)));
            )*
        };
    }
    shape!(
        Container,
        "container",
        [profile, mntns, init_tgid, addresses, pad, address]
    );
    shape!(ContainerState, "container_state", [mntns_seq, state, pad]);
    shape!(
        Mark,
        "mark",
        [
            container,
            domain,
            next,
            exec_id,
            judged_dentry,
            judged_mount
        ]
    );
    shape!(ChildKey, "child_key", [generation, domain]);
    shape!(AutomatonRef, "automaton_ref", [key, class, permissions]);
    shape!(
        SocketRule,
        "socket_rule",
        [deny_protocols, audit_protocols, deny_types, audit_types]
    );
    shape!(
        MountSet,
        "mount_set",
        [deny_flags, deny_clear, audit_flags, audit_clear]
    );
    shape!(
        Profile,
        "profile",
        [
            key,
            generation,
            capabilities_deny,
            capabilities_audit,
            forward,
            backward,
            mount,
            targets,
            flags,
            pod_self,
            ptrace_external_deny,
            ptrace_external_audit,
            ptrace_internal_deny,
            ptrace_internal_audit,
            pad,
            any_source,
            egress_first,
            sockets,
            mounts
        ]
    );
    shape!(Verdict, "verdict", [deny, audit, allow, ancestors]);
    shape!(AutomatonHead, "automaton_head", [start, shift, classes]);
    shape!(PrefixKey, "prefix_key", [length, table, generation, data]);
    shape!(
        PrefixValue,
        "prefix_value",
        [port_set, deny, audit, all_ports, pad]
    );
    shape!(Settings, "settings", [host_mntns, pad]);
    shape!(
        MarkRequest,
        "mark_request",
        [container, mntns, marked, failed, pad]
    );
    shape!(Meta, "meta", [abi_version, pad, build]);
    shape!(ViolationHeader, "violation", [
        time, container, profile, tgid, tid, mntns, action, kind as "type", op, external, permissions, text_length,
        family, port, protocol, socket_type, pad, address, comm
    ]);
    for class in Class::ALL {
        let (name, upper) = (
            class.map().replace("automata", "automaton"),
            class.map().replace("automata_", ""),
        );
        let upper = upper.to_uppercase();
        all.push((format!("AUTOMATON_{upper}"), class.number() as usize));
        all.push((format!("TRANSITIONS_{upper}"), class.transitions()));
        all.push((format!("STATES(TRANSITIONS_{upper})"), class.states()));
        all.push((format!("VERDICTS(TRANSITIONS_{upper})"), class.verdicts()));
        all.push((format!("sizeof(struct {name})"), class.size()));
        all.push((
            format!("offsetof(struct {name}, verdicts)"),
            Class::verdicts_at(),
        ));
        all.push((
            format!("offsetof(struct {name}, accept)"),
            class.accept_at(),
        ));
        all.push((format!("offsetof(struct {name}, next)"), class.next_at()));
    }
    macro_rules! constants {
        ($($name:ident),*) => {$( all.push((stringify!($name).into(), l::$name as usize)); )*};
    }
    constants!(
        MAX_CONTAINERS,
        MAX_PROFILES,
        MAX_CHILDREN,
        MAX_AUTOMATA,
        MAX_PREFIXES,
        POD_ADDRESSES,
        CONTAINER_PENDING,
        CONTAINER_ACTIVE,
        PROFILE_COMPLAIN,
        PROFILE_EGRESS,
        PROFILE_SOCKETS,
        PROFILE_PTRACE,
        PROFILE_USERNS_DENY,
        PROFILE_USERNS_AUDIT,
        PROFILE_BLOCK_OPEN_DENY,
        PROFILE_BLOCK_OPEN_AUDIT,
        PROFILE_BLOCK_MOUNT_DENY,
        PROFILE_BLOCK_MOUNT_AUDIT,
        ADDRESS_FAMILIES,
        MOUNT_SETS,
        TABLE_ADDRESSES,
        PREFIX_BITS_BEFORE_DATA,
        COUNTER_EVENTS_LOST,
        COUNTER_NO_AUTOMATON,
        COUNTER_NO_PROFILE,
        COUNTER_MARK_FAILED,
        COUNTER_PATH_REFUSED,
        COUNTER_HELD_UP,
        COUNTERS,
        TEXT_MAX
    );
    macro_rules! events {
        ($($name:ident),*) => {$( all.push((stringify!($name).into(), varmor_bpf_abi::events::$name as usize)); )*};
    }
    events!(
        ACTION_DENIED,
        ACTION_AUDIT,
        ACTION_ALLOWED,
        EVENT_CAPABILITY,
        EVENT_FILE,
        EVENT_EXEC,
        EVENT_NETWORK,
        EVENT_PTRACE,
        EVENT_MOUNT,
        EVENT_USERNS,
        OP_OPEN,
        OP_CREATE,
        OP_UNLINK,
        OP_RMDIR,
        OP_MKDIR,
        OP_MKNOD,
        OP_SYMLINK,
        OP_LINK,
        OP_RENAME,
        OP_TRUNCATE,
        OP_CHMOD,
        OP_CHOWN,
        OP_MMAP,
        OP_UNIX,
        OP_EXEC,
        OP_PATH,
        OP_XATTR,
        NETWORK_SOCKET,
        NETWORK_CONNECT,
        NETWORK_SEND
    );
    all.push(("VARMOR_ABI_VERSION".into(), l::ABI_VERSION as usize));
    all.push((
        "AUTOMATON_NONE".into(),
        l::AutomatonRef::default().class as usize,
    ));
    all
}

#[test]
fn the_rust_layout_is_the_headers() {
    let expectations = expectations();
    let dir = tempfile::tempdir().unwrap();
    let mut source = String::from(
        "#include <stddef.h>\n#include <stdio.h>\n#include \"abi.h\"\nint main(void) {\n",
    );
    for (expression, _) in &expectations {
        writeln!(
            source,
            "printf(\"%llu\\n\", (unsigned long long)({expression}));"
        )
        .unwrap();
    }
    source.push_str("return 0; }\n");
    let file = dir.path().join("layout.c");
    let program = dir.path().join("layout");
    std::fs::write(&file, source).unwrap();

    let header = concat!(env!("CARGO_MANIFEST_DIR"), "/../kernel");
    let compiler = std::env::var("CC").unwrap_or_else(|_| "cc".into());
    let compiled = Command::new(&compiler)
        .args([
            "-std=gnu11",
            "-Wall",
            "-Werror",
            "-Wpadded",
            "-I",
            header,
            "-o",
        ])
        .args([&program, &file])
        .output()
        .unwrap_or_else(|error| panic!("{compiler}: {error}; install a C compiler or set CC"));
    assert!(
        compiled.status.success(),
        "{}",
        String::from_utf8_lossy(&compiled.stderr)
    );

    let output = Command::new(&program).output().unwrap();
    let output = String::from_utf8(output.stdout).unwrap();
    let found: Vec<usize> = output.lines().map(|line| line.parse().unwrap()).collect();
    assert_eq!(found.len(), expectations.len());
    for ((expression, rust), c) in expectations.iter().zip(found) {
        assert_eq!(*rust, c, "{expression}: Rust has {rust}, abi.h {c}");
    }
}

#[test]
fn bytes_are_the_fields_in_order_and_come_back() {
    let key = l::PrefixKey {
        length: 224,
        table: 3,
        generation: 0x0102,
        data: [7; 16],
    };
    let bytes = key.to_bytes();
    assert_eq!(bytes.len(), l::PrefixKey::SIZE);
    assert_eq!(bytes[..4], 224_u32.to_ne_bytes());
    assert_eq!(bytes[8..16], 0x0102_u64.to_ne_bytes());
    assert_eq!(l::PrefixKey::from_bytes(&bytes), Some(key));
    assert_eq!(l::PrefixKey::from_bytes(&bytes[1..]), None);
    assert_eq!(l::PrefixKey::from_bytes(&[bytes, vec![0]].concat()), None);
}
