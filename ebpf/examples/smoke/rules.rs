// SPDX-License-Identifier: Apache-2.0
//! One rule of each kind, so that every table that is written here is seen to be read by the programs as it was meant.

use std::net::Ipv6Addr;
use std::path::PathBuf;

use varmor_ebpf::{Action, Binding, Enforcer, Event, NetworkOperation, ViolationReader};
use varmor_policy::automata::compile_mounts;
use varmor_policy::pattern::Pattern;
use varmor_policy::plan::bpf::{
    BpfProfile, MOUNT_NEW, MOUNT_UMOUNT, Masks, MountSet, PTRACE_READ, Ptrace, SocketRule,
};
use varmor_policy::plan::egress::{AddressPrefix, Egress, PortSet};

use crate::container::Container;
use crate::{PROFILE, Result, check, profile, reports};

const CAP_CHOWN: u64 = 0;
const AF_INET6: usize = 10;
const SOCK_DGRAM: u32 = 2;
const POD: &str = "::ffff:127.0.0.9";

pub fn both<T: Copy>(value: T) -> Masks<T> {
    Masks {
        deny: value,
        audit: value,
    }
}

fn all_kinds() -> Result<BpfProfile> {
    let prefix = |address: &str, length, port_set| -> Result<AddressPrefix> {
        Ok(AddressPrefix {
            address: address.parse()?,
            length,
            port_set,
        })
    };
    let egress = Egress {
        prefixes: vec![
            prefix("::ffff:127.1.0.0", 112, 1)?,
            prefix("::ffff:127.1.2.0", 120, 0)?,
            prefix("::ffff:127.2.0.0", 112, 2)?,
        ],
        pod_self: 3,
        port_sets: vec![
            PortSet::default(),
            PortSet {
                ranges: vec![(0, 65535, true, true)],
            },
            PortSet {
                ranges: vec![(80, 90, true, true), (1000, 2000, true, false)],
            },
            PortSet {
                ranges: vec![(53, 53, true, true)],
            },
        ],
    };
    let mut sockets = vec![SocketRule::default(); AF_INET6 + 1];
    sockets[AF_INET6].types = both(1 << SOCK_DGRAM);
    let set = |flags| MountSet {
        deny_flags: flags,
        audit_flags: flags,
        ..MountSet::default()
    };
    let mounts = [
        (
            Some("tmpfs".to_owned()),
            Pattern::mount_source("**")?,
            set(MOUNT_NEW),
        ),
        (
            None,
            Pattern::mount_source("/tmp/smoke/**")?,
            set(MOUNT_UMOUNT),
        ),
    ];
    Ok(BpfProfile {
        capabilities: both(1 << CAP_CHOWN),
        sockets,
        egress: Some(egress),
        ptrace: Ptrace {
            external: both(PTRACE_READ),
            internal: Masks::default(),
        },
        mounts: compile_mounts(&mounts)?,
        userns_create: both(true),
        ..profile(&[])?
    })
}

/// The program `probe`, which lies beside this one.
pub fn probe() -> Result<PathBuf> {
    Ok(std::env::current_exe()?.with_file_name("probe"))
}

/// Whether one call of `probe` is refused: EPERM or EACCES, nothing else.
pub fn refused(container: &mut Container, call: &str) -> Result<bool> {
    let line = format!("{} {call} >/tmp/smoke/answer 2>&1", probe()?.display());
    container.run(&line)?;
    let answer = std::fs::read_to_string("/tmp/smoke/answer")?;
    let text = answer.lines().next().unwrap_or_default();
    match text {
        "OK" => Ok(false),
        _ if text.starts_with("ERRNO EPERM") || text.starts_with("ERRNO EACCES") => Ok(true),
        _ => Err(format!("probe {call}: {answer}").into()),
    }
}

pub fn hold(enforcer: &mut Enforcer, reader: &mut ViolationReader, missing: &[&str]) -> Result<()> {
    let mut container = Container::create("rules")?;
    enforcer.set_profile(PROFILE, &all_kinds()?)?;
    let addresses: [Ipv6Addr; 1] = [POD.parse()?];
    enforcer.bind(&Binding {
        addresses: &addresses,
        ..container.binding()?
    })?;
    container.send("go")?;
    container.run("mkdir -p /tmp/smoke/mnt")?;
    reports(reader)?;

    let userns = !missing.contains(&"userns_create");
    for (call, expected) in [
        ("chown 1 1 /tmp/smoke/open", true),
        ("chmod 600 /tmp/smoke/open", false),
        ("socket inet6 dgram 0", true),
        ("udp-connect 127.1.1.1:5", true),
        ("udp-connect 127.1.2.1:5", false),
        ("udp-connect 127.2.0.1:79", false),
        ("udp-connect 127.2.0.1:80", true),
        ("udp-sendto 127.2.0.1:90", true),
        ("udp-connect 127.2.0.1:91", false),
        ("udp-connect 127.2.0.1:1999", true),
        ("udp-connect 127.0.0.9:53", true),
        ("udp-connect 127.0.0.9:54", false),
        ("udp-connect 127.0.0.8:53", false),
        ("mount none /tmp/smoke/mnt tmpfs -", true),
        ("mount none /tmp/smoke/mnt ramfs -", false),
        ("umount /tmp/smoke/mnt", true),
        ("unshare user", userns),
        // Not /proc/1/environ: on 7.2, unlike 6.12, CAP_PERFMON or CAP_SYS_ADMIN is enough for that, whatever an LSM says.
        ("readlink /proc/1/exe", true),
        ("readlink /proc/self/exe", false),
    ] {
        check(
            refused(&mut container, call)? == expected,
            &format!("{call}: {}", if expected { "refused" } else { "allowed" }),
        )?;
    }
    let found = reports(reader)?;
    check(
        found.iter().all(|report| report.action == Action::Denied),
        "every report is of a refusal",
    )?;
    let has = |what: &str, test: &dyn Fn(&Event) -> bool| {
        check(found.iter().any(|report| test(&report.event)), what)
    };
    has("the capability is reported", &|event| {
        *event == Event::Capability { capability: 0 }
    })?;
    has("the socket is reported", &|event| {
        matches!(
            event,
            Event::Network {
                operation: NetworkOperation::Socket,
                family: 10,
                socket_type: 2,
                ..
            }
        )
    })?;
    let address: Ipv6Addr = "::ffff:127.2.0.1".parse()?;
    has(
        "the send is reported with its destination",
        &|event| matches!(event, Event::Network { operation: NetworkOperation::Send, address: to, port: 90, .. } if *to == address),
    )?;
    let silent = |event: &Event| matches!(event, Event::Network { port: 1999, .. });
    check(
        !found.iter().any(|report| silent(&report.event)),
        "a rule without audit reports nothing",
    )?;
    has(
        "the mount is reported",
        &|event| matches!(event, Event::Mount { fstype, source, .. } if fstype == "tmpfs" && source == "none"),
    )?;
    has(
        "the umount is reported",
        &|event| matches!(event, Event::Mount { flags: MOUNT_UMOUNT, source, .. } if source == "/tmp/smoke/mnt"),
    )?;
    has(
        "the read of a process is reported",
        &|event| matches!(event, Event::Ptrace { permissions, external: true } if *permissions == u32::from(PTRACE_READ)),
    )?;
    if userns {
        has("the user namespace is reported", &|event| {
            *event == Event::Userns
        })?;
    }
    enforcer.unbind(container.id)?;
    Ok(())
}
