// SPDX-License-Identifier: Apache-2.0
//! The table as a whole.

use super::*;
use crate::pattern::Pattern;
use std::collections::BTreeSet;

/// The names of vArmor's rules, as policies have them.
const NAMES: &str = "
    disallow-write-core-pattern disallow-mount-securityfs disallow-mount-procfs disallow-write-release-agent
    disallow-mount-cgroupfs disallow-debug-disk-device disallow-mount-disk-device disallow-mount disallow-umount
    disallow-insmod disallow-load-bpf-prog disallow-access-procfs-root disallow-access-kallsyms

    disable-cap-all disable-cap-all-except-net-bind-service disable-cap-privileged
    disable-cap-chown disable-cap-dac-override disable-cap-dac-read-search disable-cap-fowner disable-cap-fsetid
    disable-cap-kill disable-cap-setgid disable-cap-setuid disable-cap-setpcap disable-cap-linux-immutable
    disable-cap-net-bind-service disable-cap-net-broadcast disable-cap-net-admin disable-cap-net-raw
    disable-cap-ipc-lock disable-cap-ipc-owner disable-cap-sys-module disable-cap-sys-rawio disable-cap-sys-chroot
    disable-cap-sys-ptrace disable-cap-sys-pacct disable-cap-sys-admin disable-cap-sys-boot disable-cap-sys-nice
    disable-cap-sys-resource disable-cap-sys-time disable-cap-sys-tty-config disable-cap-mknod disable-cap-lease
    disable-cap-audit-write disable-cap-audit-control disable-cap-setfcap disable-cap-mac-override
    disable-cap-mac-admin disable-cap-syslog disable-cap-wake-alarm disable-cap-block-suspend disable-cap-audit-read
    disable-cap-perfmon disable-cap-bpf disable-cap-checkpoint-restore

    disallow-abuse-user-ns disallow-create-user-ns disallow-load-all-bpf-prog disallow-load-bpf-via-setsockopt
    disallow-userfaultfd-creation

    mitigate-sa-leak mitigate-disk-device-number-leak mitigate-overlayfs-leak mitigate-host-ip-leak
    block-access-to-metadata-service block-access-to-aws-metadata-service block-access-to-volc-metadata-service
    block-access-to-alibaba-metadata-service block-access-to-oci-metadata-service

    disable-write-etc disable-access-passwd disable-access-shadow disable-access-ssh-dir disable-write-skills
    disable-busybox disable-shell disable-wget disable-curl disable-chmod disable-su-sudo disable-chmod-x-bit
    disable-chmod-s-bit

    disable-network disable-inet disable-inet6 disable-unix-domain-socket disable-icmp disable-tcp disable-udp
    block-access-to-kube-apiserver block-access-to-container-runtime

    cgroups-lxcfs-escape-mitigation runc-override-mitigation dirty-pipe-mitigation ingress-nightmare-mitigation
    copy-fail-mitigation";

/// Its other names for some of them.
const ALIASES: [(&str, &str); 4] = [
    ("disallow-load-ebpf", "disallow-load-bpf-prog"),
    (
        "disallow-metadata-service",
        "block-access-to-metadata-service",
    ),
    ("disable-ipv4", "disable-inet"),
    ("disable-ipv6", "disable-inet6"),
];

#[test]
fn every_rule_of_varmor_is_there_and_no_other() {
    let expected: Vec<&str> = NAMES.split_whitespace().collect();
    assert_eq!(expected.len(), 98);
    assert_eq!(all().map(|rule| rule.name).collect::<Vec<_>>(), expected);
    let aliases: Vec<_> = all()
        .flat_map(|rule| rule.aliases.iter().map(|alias| (*alias, rule.name)))
        .collect();
    assert_eq!(aliases, ALIASES);
    let count = |group| all().filter(|rule| rule.group == group).count();
    assert_eq!(
        [Group::Hardening, Group::Attack, Group::Vulnerability].map(count),
        [62, 31, 5]
    );
}

#[test]
fn sections_hold_rules_of_their_group() {
    for section in SECTIONS {
        assert!(
            section.rules.iter().all(|rule| rule.group == section.group),
            "{}",
            section.title
        );
    }
}

#[test]
fn names_are_unique_and_canonical() {
    let mut seen = BTreeSet::new();
    for rule in all() {
        for name in [rule.name].iter().chain(rule.aliases) {
            assert!(seen.insert(*name), "{name} is there twice");
            assert_eq!(canonical(name), *name);
            assert_eq!(find(name), Some(rule));
        }
    }
}

#[test]
fn every_rule_does_something_and_says_why() {
    for rule in all() {
        assert!(
            !rule.restricts.is_empty() && !rule.why.is_empty(),
            "{}",
            rule.name
        );
        let parts = rule.apparmor.len() + rule.bpf.len() + rule.seccomp.len();
        assert!(parts > 0, "{} does nothing", rule.name);
        for part in rule.bpf {
            match part {
                BpfPart::Path(pattern, permissions) => {
                    assert!(
                        Pattern::path(pattern).is_ok() && *permissions != 0,
                        "{}",
                        rule.name
                    );
                }
                BpfPart::Destination(ip) => {
                    assert!(ip.parse::<std::net::IpAddr>().is_ok(), "{ip}")
                }
                BpfPart::Mount { source, flags, .. } => {
                    assert!(
                        Pattern::mount_source(source).is_ok() && *flags != 0,
                        "{source}"
                    )
                }
                BpfPart::Capabilities(mask) => assert_ne!(*mask, 0),
                BpfPart::Sockets {
                    types, protocols, ..
                } => assert!(*types != 0 || *protocols != 0),
                BpfPart::BlockDevices { open, mount } => assert!(*open || *mount),
                BpfPart::Service { .. } | BpfPart::PtraceExternal(_) | BpfPart::UsernsCreate => {}
            }
        }
    }
}

#[test]
fn names_are_found_in_any_spelling() {
    for name in [
        "DISABLE_WRITE_ETC",
        "disable-write-etc",
        "Disable_Write-Etc",
    ] {
        assert_eq!(find(name).expect(name).name, "disable-write-etc");
    }
    assert_eq!(
        find("disallow-metadata-service").expect("alias").name,
        "block-access-to-metadata-service"
    );
    assert!(find("disable-write").is_none());
}
