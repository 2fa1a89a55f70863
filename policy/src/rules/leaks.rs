// SPDX-License-Identifier: Apache-2.0
//! `attackProtectionRules` against leaks of information.

use super::{AppArmorPart, BpfPart, Group, RULE, Rule};
use crate::plan::automaton::PERM_READ;

/// Destinations of metadata services.
const AWS: BpfPart = BpfPart::Destination("169.254.169.254");
const AWS_IPV6: BpfPart = BpfPart::Destination("fd00:ec2::254");
const VOLCENGINE: BpfPart = BpfPart::Destination("100.96.0.96");

const CREDENTIALS: &str = "it hands out credentials of the node";

pub(super) const RULES: &[Rule] = &[
    Rule {
        name: "mitigate-sa-leak",
        group: Group::Attack,
        restricts: "reading the service account's token, certificate and namespace",
        why: "the token lets an attacker talk to the API server as the pod",
        apparmor: &[
            AppArmorPart::Path("/run/secrets/kubernetes.io/serviceaccount/**", "r"),
            AppArmorPart::Path("/var/run/secrets/kubernetes.io/serviceaccount/**", "r"),
        ],
        bpf: &[
            BpfPart::Path("/run/secrets/kubernetes.io/serviceaccount/**", PERM_READ),
            BpfPart::Path(
                "/var/run/secrets/kubernetes.io/serviceaccount/**",
                PERM_READ,
            ),
        ],
        ..RULE
    },
    Rule {
        name: "mitigate-disk-device-number-leak",
        group: Group::Attack,
        restricts: "reading the device numbers of the host's disks in /proc/partitions and mountinfo",
        why: "with the number a device file for the disk can be made",
        apparmor: &[
            AppArmorPart::Path("/proc/partitions", "r"),
            AppArmorPart::Path("/proc/**/mountinfo", "r"),
        ],
        bpf: &[
            BpfPart::Path("/proc/partitions", PERM_READ),
            BpfPart::Path("/proc/**/mountinfo", PERM_READ),
        ],
        ..RULE
    },
    Rule {
        name: "mitigate-overlayfs-leak",
        group: Group::Attack,
        restricts: "reading the list of mounts, which names the directories of the container's layers on the host",
        why: "exploits that make the host run a file need its path there",
        apparmor: &[
            AppArmorPart::Path("/proc/**/mounts", "r"),
            AppArmorPart::Path("/proc/**/mountinfo", "r"),
        ],
        bpf: &[
            BpfPart::Path("/proc/**/mounts", PERM_READ),
            BpfPart::Path("/proc/**/mountinfo", PERM_READ),
        ],
        ..RULE
    },
    Rule {
        name: "mitigate-host-ip-leak",
        group: Group::Attack,
        restricts: "reading the neighbour table /proc/net/arp",
        why: "it holds the node's address, where an attack goes on",
        limits: &["Netlink tells the same: take it away by a rule for its socket family"],
        apparmor: &[AppArmorPart::Path("/proc/**/net/arp", "r")],
        bpf: &[BpfPart::Path("/proc/**/net/arp", PERM_READ)],
        ..RULE
    },
    Rule {
        name: "block-access-to-metadata-service",
        aliases: &["disallow-metadata-service"],
        group: Group::Attack,
        restricts: "connecting to the metadata service of AWS and those with the same address, and of Volcano Engine",
        why: CREDENTIALS,
        bpf: &[AWS, AWS_IPV6, VOLCENGINE],
        ..RULE
    },
    Rule {
        name: "block-access-to-aws-metadata-service",
        group: Group::Attack,
        restricts: "connecting to the metadata service of AWS and those with the same address",
        why: CREDENTIALS,
        bpf: &[AWS, AWS_IPV6],
        ..RULE
    },
    Rule {
        name: "block-access-to-volc-metadata-service",
        group: Group::Attack,
        restricts: "connecting to the metadata service of Volcano Engine",
        why: CREDENTIALS,
        bpf: &[VOLCENGINE],
        ..RULE
    },
    Rule {
        name: "block-access-to-alibaba-metadata-service",
        group: Group::Attack,
        restricts: "connecting to the metadata service of Alibaba Cloud",
        why: CREDENTIALS,
        bpf: &[BpfPart::Destination("100.100.100.200")],
        ..RULE
    },
    Rule {
        name: "block-access-to-oci-metadata-service",
        group: Group::Attack,
        restricts: "connecting to the metadata service of Oracle Cloud",
        why: CREDENTIALS,
        bpf: &[BpfPart::Destination("192.0.0.192")],
        ..RULE
    },
];
