// SPDX-License-Identifier: Apache-2.0
//! What the tables say of the built-in rules: something that is refused, and a neighbour that is not.

use super::tests::{mount, path};
use crate::compile::{ServiceAddress, ServiceName, Settings, compile};
use crate::mount_flags::{BIND, MOVE, REC, REMOUNT};
use crate::plan::automaton::{PERM_APPEND, PERM_EXEC, PERM_READ, PERM_WRITE};
use crate::plan::bpf::{BpfProfile, MOUNT_NEW, MOUNT_UMOUNT, Masks};
use crate::rules::{self, BpfPart, Rule};

const R: u16 = PERM_READ;
const W: u16 = PERM_WRITE | PERM_APPEND;
const X: u16 = PERM_EXEC;

/// Every service that rules name, at one address each, the second one with a port.
fn settings() -> Settings {
    let mut settings = Settings::default();
    for (n, part) in rules::all().flat_map(|rule| rule.bpf).enumerate() {
        if let BpfPart::Service { namespace, name } = part {
            let n = n as u8;
            let address = |last, ports| ServiceAddress {
                address: [10, 0, n, last].into(),
                ports,
            };
            settings.services.insert(
                ServiceName::new(*namespace, *name),
                vec![address(1, Vec::new()), address(2, vec![6443])],
            );
        }
    }
    settings
}

fn compiled(rule: &str, switches: &str, settings: &Settings) -> Result<BpfProfile, Vec<String>> {
    let group = rules::find(rule).expect(rule).group;
    let list = match group {
        rules::Group::Attack => format!("[{{rules: [{rule}]}}]"),
        _ => format!("[{rule}]"),
    };
    let yaml = format!(
        "apiVersion: crd.varmor.org/v1beta1\nkind: VarmorPolicy\nmetadata: {{name: p1, namespace: demo}}\nspec:\n  \
         target: {{kind: Pod, selector: {{}}}}\n  policy:\n    enforcer: BPF\n    mode: EnhanceProtect\n    \
         enhanceProtect: {{privileged: true, {switches}{}: {list}}}\n",
        group.field()
    );
    let object = crate::parse(&yaml).expect("valid YAML").remove(0);
    compile(&object, settings)
        .map(|plan| plan.bpf.expect("BPF is chosen"))
        .map_err(|errors| errors.iter().map(ToString::to_string).collect())
}

fn profile(rule: &str) -> BpfProfile {
    compiled(rule, "", &settings()).unwrap_or_else(|e| panic!("{rule}: {e:?}"))
}

/// Whether anything in a profile refuses, and whether anything reports.
fn effects(profile: &BpfProfile) -> (bool, bool) {
    let mut masks: Vec<Masks<bool>> = vec![
        profile.userns_create,
        profile.block_open,
        profile.block_mount,
    ];
    let mut add = |deny, audit| masks.push(Masks { deny, audit });
    add(
        profile.capabilities.deny != 0,
        profile.capabilities.audit != 0,
    );
    let ptrace = profile.ptrace;
    add(ptrace.external.deny != 0, ptrace.external.audit != 0);
    add(ptrace.internal.deny != 0, ptrace.internal.audit != 0);
    for verdict in [&profile.forward, &profile.backward]
        .into_iter()
        .flatten()
        .flat_map(|automaton| &automaton.verdicts)
    {
        add(verdict.deny != 0, verdict.audit != 0);
    }
    for rule in &profile.sockets {
        add(
            rule.types.deny != 0 || rule.protocols.deny != 0,
            rule.types.audit != 0 || rule.protocols.audit != 0,
        );
    }
    for set in profile.mounts.iter().flat_map(|mounts| &mounts.sets) {
        add(set.deny_flags != 0, set.audit_flags != 0);
    }
    let sets = profile.egress.iter().flat_map(|egress| &egress.port_sets);
    for (_, _, deny, audit) in sets.flat_map(|set| &set.ranges) {
        add(*deny, *audit);
    }
    (
        masks.iter().any(|masks| masks.deny),
        masks.iter().any(|masks| masks.audit),
    )
}

#[test]
fn every_rule_refuses_and_reports_as_the_switches_say() {
    let settings = settings();
    let able = |rule: &&Rule| !rule.bpf.is_empty();
    for rule in rules::all().filter(able) {
        for (allow, audit) in [(false, false), (false, true), (true, true), (true, false)] {
            let switches = format!("allowViolations: {allow}, auditViolations: {audit}, ");
            let profile = compiled(rule.name, &switches, &settings).expect(rule.name);
            assert_eq!(
                effects(&profile),
                (!allow, audit),
                "{} {switches}",
                rule.name
            );
        }
    }
}

#[test]
fn paths() {
    let cases: &[(&str, &str, u16)] = &[
        (
            "disallow-write-core-pattern",
            "/proc/sys/kernel/core_pattern",
            W,
        ),
        (
            "disallow-write-core-pattern",
            "/proc/sys/kernel/core_pipe_limit",
            0,
        ),
        (
            "disallow-write-release-agent",
            "/sys/fs/cgroup/rdma/release_agent",
            W,
        ),
        (
            "disallow-write-release-agent",
            "/sys/fs/cgroup/release_agent",
            W,
        ),
        (
            "disallow-write-release-agent",
            "/sys/fs/cgroup/rdma/notify_on_release",
            0,
        ),
        ("disallow-access-kallsyms", "/proc/kallsyms", R),
        ("mitigate-disk-device-number-leak", "/proc/partitions", R),
        (
            "mitigate-disk-device-number-leak",
            "/proc/7/task/8/mountinfo",
            R,
        ),
        ("mitigate-disk-device-number-leak", "/proc/7/mounts", 0),
        ("mitigate-overlayfs-leak", "/proc/7/mounts", R),
        ("mitigate-overlayfs-leak", "/proc/7/mountinfo", R),
        ("mitigate-overlayfs-leak", "/proc/7/mountstats", 0),
        ("mitigate-host-ip-leak", "/proc/7/net/arp", R),
        ("mitigate-host-ip-leak", "/proc/7/net/route", 0),
        ("disable-access-passwd", "/etc/passwd", R | W),
        ("disable-access-passwd", "/etc/passwd-", 0),
        ("disable-access-shadow", "/etc/shadow", R | W),
        ("disable-access-shadow", "/etc/shadow-", 0),
        ("disable-access-ssh-dir", "/root/.ssh", R | W),
        ("disable-access-ssh-dir", "/root/.ssh/id_ed25519", R | W),
        ("disable-access-ssh-dir", "/home/a/.ssh/keys/b", R | W),
        ("disable-access-ssh-dir", "/.ssh/x", R | W),
        ("disable-access-ssh-dir", "/root/.sshd/x", 0),
        ("disable-write-skills", "/home/a/skills/b/SKILL.md", W),
        ("disable-write-skills", "/home/a/skills.md", 0),
        ("disable-busybox", "/bin/busybox", R | X),
        ("disable-busybox", "/bin/busybox2", 0),
        ("disable-shell", "/bin/sh", R | X),
        ("disable-shell", "/sh", R | X),
        ("disable-shell", "/usr/local/bin/zsh", R | X),
        ("disable-shell", "/bin/ssh", 0),
        ("disable-wget", "/usr/bin/wget", R | X),
        ("disable-curl", "/usr/bin/curl", R | X),
        ("disable-chmod", "/bin/chmod", R | X),
        ("disable-su-sudo", "/bin/su", R | X),
        ("disable-su-sudo", "/usr/bin/sudo", R | X),
        ("disable-su-sudo", "/usr/bin/sum", 0),
        (
            "block-access-to-container-runtime",
            "/run/containerd/containerd.sock",
            R | W,
        ),
        (
            "block-access-to-container-runtime",
            "/run/containerd/containerd.sock.ttrpc",
            R | W,
        ),
        (
            "block-access-to-container-runtime",
            "/run/containerd/s/0a1b",
            R | W,
        ),
        (
            "block-access-to-container-runtime",
            "/host/run/docker.sock",
            R | W,
        ),
        (
            "block-access-to-container-runtime",
            "/run/crio/crio.sock",
            R | W,
        ),
        ("block-access-to-container-runtime", "/run/app.sock", 0),
        (
            "cgroups-lxcfs-escape-mitigation",
            "/sys/fs/cgroup/rdma/release_agent",
            W,
        ),
        (
            "cgroups-lxcfs-escape-mitigation",
            "/mnt/devices/devices.allow",
            W,
        ),
        (
            "cgroups-lxcfs-escape-mitigation",
            "/mnt/devices/cgroup.procs",
            W,
        ),
        (
            "cgroups-lxcfs-escape-mitigation",
            "/mnt/devices/a/b/tasks",
            W,
        ),
        (
            "cgroups-lxcfs-escape-mitigation",
            "/sys/fs/cgroup/memory/tasks",
            0,
        ),
        ("runc-override-mitigation", "/usr/sbin/runc", W),
        ("runc-override-mitigation", "/usr/sbin/crunc", 0),
    ];
    for (rule, name, expected) in cases {
        assert_eq!(path(&profile(rule), name).deny, *expected, "{rule} {name}");
    }
}

#[test]
fn mounts_of_one_file_system_type() {
    for (rule, fstypes, place) in [
        ("disallow-mount-procfs", &["proc"][..], "/proc"),
        (
            "disallow-mount-cgroupfs",
            &["cgroup", "cgroup2"],
            "/sys/fs/cgroup",
        ),
        (
            "disallow-mount-securityfs",
            &["securityfs"],
            "/sys/kernel/security",
        ),
    ] {
        let profile = profile(rule);
        for fstype in fstypes {
            // fsmount's mount has no source when it is attached.
            for source in ["", "none", "/x"] {
                assert_ne!(
                    mount(&profile, fstype, source).deny_flags & MOUNT_NEW,
                    0,
                    "{rule}"
                );
            }
        }
        for fstype in ["tmpfs", "sysfs", "procx"] {
            assert_eq!(
                mount(&profile, fstype, "x").deny_flags & MOUNT_NEW,
                0,
                "{rule} {fstype}"
            );
        }
        for source in [place.to_owned(), format!("{place}/"), format!("{place}/a")] {
            let flags = mount(&profile, "none", &source).deny_flags;
            assert_eq!(flags & (BIND | MOVE), BIND | MOVE, "{rule} {source}");
        }
        for source in [format!("{place}x"), "/tmp".to_owned(), String::new()] {
            assert_eq!(
                mount(&profile, "none", &source).deny_flags,
                0,
                "{rule} {source}"
            );
        }
    }
    let procfs = profile("disallow-mount-procfs");
    let changes = REMOUNT | MOUNT_UMOUNT;
    assert_eq!(
        mount(&procfs, "none", "/proc/sys").deny_flags & changes,
        changes
    );
    assert_eq!(mount(&procfs, "none", "/").deny_flags, BIND);
    let cgroupfs = profile("disallow-mount-cgroupfs");
    assert_eq!(
        mount(&cgroupfs, "none", "/sys/fs/cgroup").deny_flags & changes,
        changes
    );
    for above in ["/sys", "/sys/", "/sys/fs", "/sys/fs/"] {
        assert_eq!(
            mount(&cgroupfs, "none", above).deny_flags,
            BIND | MOVE,
            "{above}"
        );
    }
    assert_eq!(mount(&cgroupfs, "none", "/sys/devices").deny_flags, 0);
}

#[test]
fn mounts_of_every_kind() {
    let all = mount(&profile("disallow-mount"), "tmpfs", "x").deny_flags;
    assert_eq!(
        all & (MOUNT_NEW | BIND | MOVE | REC | REMOUNT),
        MOUNT_NEW | BIND | MOVE | REC | REMOUNT
    );
    assert_eq!(all & MOUNT_UMOUNT, 0);
    assert_eq!(
        mount(&profile("disallow-umount"), "none", "/x").deny_flags,
        MOUNT_UMOUNT
    );
    let opening = profile("disallow-debug-disk-device");
    assert!(opening.block_open.deny && !opening.block_mount.deny);
    let mounting = profile("disallow-mount-disk-device");
    assert!(!mounting.block_open.deny && mounting.block_mount.deny);
}

#[test]
fn sockets() {
    const TCP: u64 = 1 << 6;
    const UDP: u64 = 1 << 17;
    const ICMP: u64 = 1 << 1 | 1 << 58;
    for (rule, family, types, protocols) in [
        ("disable-network", 1, u32::MAX, 0),
        ("disable-network", 2, u32::MAX, 0),
        ("disable-network", 63, u32::MAX, 0),
        ("disable-ipv4", 2, u32::MAX, 0),
        ("disable-inet", 10, 0, 0),
        ("disable-ipv6", 10, u32::MAX, 0),
        ("disable-inet6", 2, 0, 0),
        ("disable-unix-domain-socket", 1, u32::MAX, 0),
        ("disable-unix-domain-socket", 16, 0, 0),
        ("disable-icmp", 2, 0, ICMP),
        ("disable-icmp", 10, 0, ICMP),
        ("disable-tcp", 2, 0, TCP),
        ("disable-tcp", 10, 0, TCP),
        ("disable-tcp", 43, u32::MAX, 0),
        ("disable-tcp", 16, 0, 0),
        ("disable-udp", 2, 0, UDP),
        ("disable-udp", 33, u32::MAX, 0),
        ("disable-udp", 1, 0, 0),
        ("copy-fail-mitigation", 38, u32::MAX, 0),
        ("copy-fail-mitigation", 16, 0, 0),
    ] {
        let found = profile(rule).sockets[family];
        assert_eq!(
            (found.types.deny, found.protocols.deny),
            (types, protocols),
            "{rule} {family}"
        );
    }
}

#[test]
fn services_must_be_known() {
    for rule in [
        "block-access-to-kube-apiserver",
        "ingress-nightmare-mitigation",
    ] {
        let errors = compiled(rule, "", &Settings::default()).expect_err(rule);
        assert!(
            errors[0].contains("needs the API server (policy-sync) to find the addresses"),
            "{errors:?}"
        );
        let egress = profile(rule).egress.expect("destinations");
        let services = settings().services.into_iter();
        let wanted: usize = if rule.starts_with("block") { 1 } else { 2 };
        assert_eq!(egress.prefixes.len(), 2 * wanted);
        let ports: Vec<_> = egress
            .port_sets
            .iter()
            .flat_map(|set| &set.ranges)
            .collect();
        assert_eq!(
            ports,
            [&(0, u16::MAX, true, false), &(6443, 6443, true, false)]
        );
        // One that does not exist is no error.
        let mut none = settings();
        none.services = services.map(|(name, _)| (name, Vec::new())).collect();
        assert_eq!(compiled(rule, "", &none).expect("compiles").egress, None);
    }
}
