// SPDX-License-Identifier: Apache-2.0
//! What the BPF programs say of an action: the tables of a plan, looked up as the programs do (ebpf/kernel).

use super::action::{Action, Protocol, is_resolved};
use super::{Question, Verdict};
use crate::compile::bpf::mounts::UNTYPED;
use crate::mount_flags::{BIND, MOVE, REC, change_a_mount};
use crate::plan::automaton::{PERM_APPEND, PERM_EXEC, PERM_READ, PERM_WRITE};
use crate::plan::bpf::{BpfProfile, MOUNT_NEW, MOUNT_UMOUNT, Masks, MountSet, SocketRule};
use crate::plan::egress::Egress;
use std::net::{IpAddr, Ipv6Addr};

const PERM_ALL: u16 = PERM_READ | PERM_WRITE | PERM_APPEND | PERM_EXEC;
const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;
const SOCK_STREAM: u8 = 1;
const SOCK_DGRAM: u8 = 2;
const IPPROTO_TCP: u16 = 6;
const IPPROTO_UDP: u16 = 17;
const IPPROTO_MPTCP: u16 = 262;

/// The verdict for a process of the container, or of one of the executables that have rules of their own.
pub(super) fn judge(container: &BpfProfile, question: &Question<'_>) -> Verdict {
    let child = question.executable.and_then(|executable| {
        container
            .children
            .iter()
            .find(|child| child.targets.iter().any(|target| target == executable))
    });
    let profile = child.map_or(container, |child| &child.profile);
    let mut verdict = judge_in(profile, question);
    if profile.complain && verdict.is_refused() {
        verdict = Verdict::of(false, true);
    }
    verdict
}

fn judge_in(profile: &BpfProfile, question: &Question<'_>) -> Verdict {
    match question.action {
        Action::Open {
            path,
            read,
            write,
            append,
        } => {
            let bits = [
                (*read, PERM_READ),
                (*write, PERM_WRITE),
                (*append, PERM_APPEND),
            ];
            let wanted = bits.iter().filter(|(on, _)| *on).map(|(_, bit)| bit).sum();
            let mut verdict = on_path(profile, path, wanted);
            if profile.block_open.deny && path.starts_with("/dev/") {
                verdict =
                    verdict.unless("the file is a block device: the policy refuses opening these");
            }
            verdict
        }
        Action::Exec(path) => on_path(profile, path, PERM_EXEC),
        Action::Change(_, path) | Action::ConnectUnix(path) => on_path(profile, path, PERM_WRITE),
        Action::Rename(old, new) => {
            let verdict = on_two_paths(profile, old, new);
            let (from, to) = (profile.of_path(old), profile.of_path(new));
            if (from.1, from.2) != (to.1, to.2) {
                return verdict.unless(
                    "it is a directory: rules protect what is below the one path and not the other",
                );
            }
            verdict
        }
        Action::Link(old, new) => on_two_paths(profile, old, new),
        Action::Connect {
            address,
            port,
            protocol,
        } => {
            let mut verdict = Verdict::of(false, false);
            if let Some(egress) = &profile.egress {
                verdict = of(destination(egress, *address, *port, question.pod_addresses));
                let as_pod = of(destination(egress, *address, *port, &[*address]));
                if question.pod_addresses.is_empty() && as_pod.is_refused() {
                    verdict = verdict
                        .unless("the address is one of the pod's own; give these by --pod-ip");
                }
            }
            // The socket must be made first.
            let family = if address.is_ipv4() { AF_INET } else { AF_INET6 };
            let kind = if *protocol == Protocol::Tcp {
                SOCK_STREAM
            } else {
                SOCK_DGRAM
            };
            let made = of(socket(&profile.sockets, family, kind, 0));
            if made.is_refused() { made } else { verdict }
        }
        Action::Socket {
            family,
            kind,
            protocol,
        } => of(socket(&profile.sockets, *family, *kind, *protocol)),
        Action::Mount {
            fstype,
            source,
            flags,
            ..
        } => mount(profile, fstype, source, *flags),
        Action::Umount(path) => on_mount(profile, "none", path, MOUNT_UMOUNT),
        Action::Ptrace {
            permission,
            external,
        } => {
            let masks = if *external {
                profile.ptrace.external
            } else {
                profile.ptrace.internal
            };
            Verdict::of(masks.deny & permission != 0, masks.audit & permission != 0)
        }
        Action::Capability(number) => {
            let bit = 1u64 << number;
            let masks = profile.capabilities;
            Verdict::of(masks.deny & bit != 0, masks.audit & bit != 0)
        }
        Action::UserNamespace => {
            let verdict = of(profile.userns_create);
            if verdict.is_refused() {
                verdict.with_note("on kernels from 6.1 on, which have the hook")
            } else {
                verdict
            }
        }
        Action::Syscall(..) => Verdict::not_mediated(),
    }
}

fn of(masks: Masks<bool>) -> Verdict {
    Verdict::of(masks.deny, masks.audit)
}

fn on_path(profile: &BpfProfile, path: &str, wanted: u16) -> Verdict {
    let (found, ..) = profile.of_path(path);
    Verdict::of(found.deny & wanted != 0, found.audit & wanted != 0)
}

/// A rename or a link: every permission that rules withhold on the old path would be had on the new one.
fn on_two_paths(profile: &BpfProfile, old: &str, new: &str) -> Verdict {
    let verdict = on_path(profile, old, PERM_ALL);
    if verdict.is_refused() {
        verdict
    } else {
        verdict.or(on_path(profile, new, PERM_WRITE))
    }
}

fn socket(rules: &[SocketRule], family: u8, kind: u8, protocol: u16) -> Masks<bool> {
    let Some(rule) = rules.get(usize::from(family)) else {
        return Masks::default();
    };
    let protocol = match (protocol, kind) {
        (IPPROTO_MPTCP, _) => IPPROTO_TCP,
        (0, SOCK_STREAM) if matches!(family, AF_INET | AF_INET6) => IPPROTO_TCP,
        (0, SOCK_DGRAM) if matches!(family, AF_INET | AF_INET6) => IPPROTO_UDP,
        (other, _) => other,
    };
    let by_protocol = |mask: u64| protocol < 64 && mask >> protocol & 1 != 0;
    let by_type = |mask: u32| mask >> (kind & 15) & 1 != 0;
    Masks {
        deny: by_type(rule.types.deny) || by_protocol(rule.protocols.deny),
        audit: by_type(rule.types.audit) || by_protocol(rule.protocols.audit),
    }
}

fn destination(egress: &Egress, address: IpAddr, port: u16, pod: &[IpAddr]) -> Masks<bool> {
    let mapped = match address {
        IpAddr::V4(address) => address.to_ipv6_mapped(),
        IpAddr::V6(address) => address,
    };
    let longest = egress
        .prefixes
        .iter()
        .filter(|prefix| covers(prefix.address, prefix.length, mapped))
        .max_by_key(|prefix| prefix.length);
    let mut found = Masks::default();
    let mut add = |set: u16| {
        let ranges = egress
            .port_sets
            .get(usize::from(set))
            .map_or(&[][..], |set| &set.ranges);
        for (first, last, deny, audit) in ranges {
            if (*first..=*last).contains(&port) {
                found.deny |= deny;
                found.audit |= audit;
            }
        }
    };
    if let Some(prefix) = longest {
        add(prefix.port_set);
    }
    if pod.contains(&address) {
        add(egress.pod_self);
    }
    found
}

fn covers(prefix: Ipv6Addr, length: u8, address: Ipv6Addr) -> bool {
    let difference = u128::from(prefix) ^ u128::from(address);
    length == 0 || difference >> (128 - u32::from(length)) == 0
}

/// mount(2). Only a bind and a move look for their source, in the caller's words; what changes a mount is judged by that
/// mount's path.
fn mount(profile: &BpfProfile, fstype: &str, source: &str, flags: u32) -> Verdict {
    if flags & UNTYPED == 0 {
        let verdict = on_mount(profile, fstype, source, flags | MOUNT_NEW);
        return if profile.block_mount.deny {
            verdict
                .unless("the file system is on a block device: the policy refuses mounting these")
        } else {
            verdict
        };
    }
    if change_a_mount(flags) {
        return on_mount(profile, "none", source, flags & !(BIND | REC));
    }
    let verdict = on_mount(profile, "none", source, flags);
    match &profile.mounts {
        // Words that only the kernel can resolve may mean any path that rules name.
        Some(mounts) if !is_resolved(source) => verdict.or(by_set(mounts.any_source(), flags)),
        _ => verdict,
    }
}

fn on_mount(profile: &BpfProfile, fstype: &str, source: &str, flags: u32) -> Verdict {
    by_set(profile.of_mount(fstype, source), flags)
}

fn by_set(set: MountSet, flags: u32) -> Verdict {
    // What is unmounted or moved has no mount flags that could be clear.
    let clear = if flags & (MOUNT_UMOUNT | MOVE) != 0 {
        0
    } else {
        !flags
    };
    Verdict::of(
        flags & set.deny_flags != 0 || clear & set.deny_clear != 0,
        flags & set.audit_flags != 0 || clear & set.audit_clear != 0,
    )
}
