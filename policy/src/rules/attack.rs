//! `attackProtectionRules`: single steps of an attack.

use super::{AppArmorPart, BpfPart, Group, Rule};
use crate::plan::automaton::{PERM_APPEND, PERM_READ, PERM_WRITE};

pub(super) const RULES: &[Rule] = &[
    Rule {
        name: "mitigate-sa-leak",
        aliases: &[],
        group: Group::Attack,
        restricts: "reading the service account's token, certificate and namespace",
        why: "the token lets an attacker talk to the API server as the pod",
        needs: &[],
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
        seccomp: &[],
    },
    Rule {
        name: "block-access-to-metadata-service",
        aliases: &["disallow-metadata-service"],
        group: Group::Attack,
        restricts: "connecting to the cloud's metadata service",
        why: "it hands out credentials of the node",
        needs: &[],
        apparmor: &[],
        bpf: &[
            BpfPart::Destination("169.254.169.254"),
            BpfPart::Destination("fd00:ec2::254"),
            BpfPart::Destination("100.96.0.96"),
        ],
        seccomp: &[],
    },
    Rule {
        name: "disable-write-etc",
        aliases: &[],
        group: Group::Attack,
        restricts: "changing anything below /etc",
        why: "accounts, cron jobs and the loader's settings are there",
        needs: &[],
        apparmor: &[AppArmorPart::Path("/etc/**", "wl")],
        bpf: &[BpfPart::Path("/etc/**", PERM_WRITE | PERM_APPEND)],
        seccomp: &[],
    },
];
