// SPDX-License-Identifier: Apache-2.0
//! `attackProtectionRules` about the network and sockets.

use super::{AppArmorPart, BpfPart, Group, RULE, Rule};
use crate::plan::automaton::{PERM_APPEND, PERM_READ, PERM_WRITE};

/// Address families (include/linux/socket.h).
const UNIX: u8 = 1;
const INET: u8 = 2;
const INET6: u8 = 10;
const RDS: u8 = 21;
const RXRPC: u8 = 33;
const SMC: u8 = 43;

const ICMP: u64 = 1 << 1 | 1 << 58;
const TCP: u64 = 1 << 6;
const UDP: u64 = 1 << 17;

const fn every(families: &'static [u8]) -> BpfPart {
    BpfPart::Sockets {
        families,
        types: u32::MAX,
        protocols: 0,
    }
}

const fn protocols(families: &'static [u8], protocols: u64) -> BpfPart {
    BpfPart::Sockets {
        families,
        types: 0,
        protocols,
    }
}

const BY_TYPE: &str = "AppArmor tells sockets apart by family and type, not by protocol";

pub(super) const RULES: &[Rule] = &[
    Rule {
        name: "disable-network",
        group: Group::Attack,
        restricts: "making sockets of any family, Unix and Netlink included",
        why: "without sockets nothing gets in or out",
        apparmor: &[AppArmorPart::Other("network")],
        bpf: &[every(&[])],
        ..RULE
    },
    Rule {
        name: "disable-inet",
        aliases: &["disable-ipv4"],
        group: Group::Attack,
        restricts: "making IPv4 sockets",
        why: "a program without a use for IPv4 needs no way to other machines",
        apparmor: &[AppArmorPart::Other("network inet")],
        bpf: &[every(&[INET])],
        ..RULE
    },
    Rule {
        name: "disable-inet6",
        aliases: &["disable-ipv6"],
        group: Group::Attack,
        restricts: "making IPv6 sockets",
        why: "rules for IPv4 are got around by IPv6 where nobody thought of it",
        apparmor: &[AppArmorPart::Other("network inet6")],
        bpf: &[every(&[INET6])],
        ..RULE
    },
    Rule {
        name: "disable-unix-domain-socket",
        group: Group::Attack,
        restricts: "making Unix sockets",
        why: "services of the node listen on them, the container runtime among them",
        apparmor: &[AppArmorPart::Other("network unix")],
        bpf: &[every(&[UNIX])],
        ..RULE
    },
    Rule {
        name: "disable-icmp",
        group: Group::Attack,
        restricts: "making sockets for ICMP and ICMPv6",
        why: "ICMP finds other machines, and carries data out where TCP and UDP are filtered",
        limits: &[
            BY_TYPE,
            "AppArmor refuses raw sockets of every protocol, and not the datagram sockets of `ping` (net.ipv4.ping_group_range)",
        ],
        apparmor: &[
            AppArmorPart::Other("network inet raw"),
            AppArmorPart::Other("network inet6 raw"),
        ],
        bpf: &[protocols(&[INET, INET6], ICMP)],
        ..RULE
    },
    Rule {
        name: "disable-tcp",
        group: Group::Attack,
        restricts: "making TCP sockets, by MPTCP, SMC and RDS too, which carry data over TCP",
        why: "a program that only needs UDP cannot be made to download or to call home by TCP",
        limits: &[BY_TYPE, "AppArmor refuses stream sockets of SCTP too"],
        apparmor: &[
            AppArmorPart::Other("network tcp"),
            AppArmorPart::Other("network smc"),
            AppArmorPart::Other("network rds"),
        ],
        bpf: &[protocols(&[INET, INET6], TCP), every(&[SMC, RDS])],
        ..RULE
    },
    Rule {
        name: "disable-udp",
        group: Group::Attack,
        restricts: "making UDP sockets, by RxRPC too, which carries data over UDP",
        why: "UDP carries data out, DNS above all",
        limits: &[
            BY_TYPE,
            "AppArmor refuses the datagram sockets of ICMP and UDP-Lite too",
        ],
        apparmor: &[
            AppArmorPart::Other("network udp"),
            AppArmorPart::Other("network rxrpc"),
        ],
        bpf: &[protocols(&[INET, INET6], UDP), every(&[RXRPC])],
        ..RULE
    },
    Rule {
        name: "block-access-to-kube-apiserver",
        group: Group::Attack,
        restricts: "connecting to the API server: the service default/kubernetes and its endpoints",
        why: "a stolen token is of no use where the API server is not reached",
        needs: &["the API server, to know the service's addresses"],
        bpf: &[BpfPart::Service {
            namespace: "default",
            name: "kubernetes",
        }],
        ..RULE
    },
    Rule {
        name: "block-access-to-container-runtime",
        group: Group::Attack,
        restricts: "connecting to the sockets of container runtimes and builders, and opening and changing the socket files",
        why: "whoever talks to the runtime starts a container that owns the node",
        needs: &[
            "AppArmor: connecting is judged by Ubuntu's kernels; others do so from 6.17 on for profiles of an ABI that apparmor_parser 4.1 does not write",
        ],
        limits: &["a socket under another name is not known"],
        apparmor: &[
            AppArmorPart::Path(
                "/{,**/}{containerd,docker,dockershim,cri-dockerd,crio,podman,buildkitd}.sock{,.ttrpc}",
                "rwl",
            ),
            AppArmorPart::Path("/{,**/}containerd/s/*", "rwl"),
        ],
        bpf: &[
            BpfPart::Path(
                "/**/{containerd,docker,dockershim,cri-dockerd,crio,podman,buildkitd}.sock{,.ttrpc}",
                PERM_READ | PERM_WRITE | PERM_APPEND,
            ),
            // The shims of running containers.
            BpfPart::Path("/**/containerd/s/*", PERM_READ | PERM_WRITE | PERM_APPEND),
        ],
        ..RULE
    },
];
