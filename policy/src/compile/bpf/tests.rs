// SPDX-License-Identifier: Apache-2.0
//! What the tables of a compiled policy say.

use crate::compile::{Settings, compile};
use crate::plan::automaton::{PERM_APPEND, PERM_EXEC, PERM_READ, PERM_WRITE, PathVerdict};
use crate::plan::bpf::{
    BpfProfile, MOUNT_NEW, MOUNT_UMOUNT, Masks, MountSet, PTRACE_READ, PTRACE_READBY, PTRACE_TRACE,
    Ptrace,
};

const R: u16 = PERM_READ;
const W: u16 = PERM_WRITE | PERM_APPEND;
const X: u16 = PERM_EXEC;
const BIND: u32 = 1 << 12;
const MOVE: u32 = 1 << 13;

pub(super) fn policy(mode: &str, enhance: &str) -> Result<BpfProfile, Vec<String>> {
    let yaml = format!(
        "apiVersion: crd.varmor.org/v1beta1\nkind: VarmorPolicy\nmetadata: {{name: p1, namespace: demo}}\nspec:\n  \
         target: {{kind: Pod, selector: {{}}}}\n  policy:\n    enforcer: BPF\n    mode: {mode}\n    \
         enhanceProtect: {enhance}\n"
    );
    let object = crate::parse(&yaml)
        .unwrap_or_else(|e| panic!("{e:?}"))
        .remove(0);
    compile(&object, &Settings::default())
        .map(|plan| plan.bpf.expect("BPF is chosen"))
        .map_err(|errors| {
            errors
                .iter()
                .map(|e| format!("{}: {}", e.field, e.message))
                .collect()
        })
}

fn privileged(rules: &str) -> Result<BpfProfile, Vec<String>> {
    policy("EnhanceProtect", &format!("{{privileged: true, {rules}}}"))
}

fn raw(rules: &str) -> Result<BpfProfile, Vec<String>> {
    privileged(&format!("bpfRawRules: {{{rules}}}"))
}

pub(super) fn path(profile: &BpfProfile, path: &str) -> PathVerdict {
    profile.of_path(path).0
}

pub(super) fn mount(profile: &BpfProfile, fstype: &str, source: &str) -> MountSet {
    profile.of_mount(fstype, source)
}

#[test]
fn always_allow_has_no_rule() {
    assert_eq!(policy("AlwaysAllow", "{}"), Ok(BpfProfile::default()));
    assert_eq!(
        privileged("auditViolations: true"),
        Ok(BpfProfile::default())
    );
}

#[test]
fn runtime_default_is_as_strict_as_containerds_profile() {
    let profile = policy("RuntimeDefault", "{}").expect("compiles");
    for (name, expected) in [
        ("/proc/sysrq-trigger", R | W | X),
        ("/proc/kcore", R | W | X),
        ("/proc/version", W),
        ("/proc/1/mem", R | W),
        ("/proc/12/task/13/mem", R | W),
        ("/proc/1/status", 0),
        ("/proc/self/attr/current", W),
        ("/proc/irq/0/smp_affinity", W),
        ("/proc/bus/pci/00", W),
        ("/proc/s/x", W),
        ("/proc/scsi/scsi", W),
        ("/proc/sysvipc/shm", W),
        ("/proc/sys/vm/panic_on_oom", W),
        ("/proc/sys/kernel/core_pattern", W),
        ("/proc/sys/kernel/sem", W),
        ("/proc/sys/kernel/shmmax", 0),
        ("/proc/sys/kernel/yama/ptrace_scope", W),
        ("/sys/kernel/mm/ksm/run", W | X),
        ("/sys/fs/bpf/x", W | X),
        ("/sys/fs/cgroup/x/cgroup.procs", 0),
        ("/sys/fs/c/x", W | X),
        ("/sys/firmware/acpi/tables/DSDT", R | W | X),
        (
            "/sys/devices/virtual/powercap/intel-rapl/energy_uj",
            R | W | X,
        ),
        ("/sys/kernel/security/apparmor/profiles", R | W | X),
        ("/etc/passwd", 0),
        ("/procx/version", 0),
    ] {
        assert_eq!(path(&profile, name).deny, expected, "{name}");
        assert_eq!(path(&profile, name).audit, 0, "{name}");
    }
    assert_eq!(mount(&profile, "proc", "proc").deny_flags, !MOUNT_UMOUNT);
    assert_eq!(
        mount(&profile, "none", "/").deny_flags & MOUNT_NEW,
        MOUNT_NEW
    );
    assert_eq!(profile.ptrace.external.deny, PTRACE_READ | PTRACE_TRACE);
    assert_eq!(profile.ptrace.internal, Masks::default());
}

#[test]
fn violations_are_refused_reported_or_both() {
    for (allow, audit) in [(false, false), (false, true), (true, true), (true, false)] {
        let profile = policy(
            "EnhanceProtect",
            &format!(
                "{{allowViolations: {allow}, auditViolations: {audit}, \
                 hardeningRules: [disable_cap_net_raw, disallow-create-user-ns, disallow-access-procfs-root], \
                 attackProtectionRules: [{{rules: [mitigate-sa-leak, DISABLE-WRITE-ETC, disallow-metadata-service]}}]}}"
            ),
        )
        .expect("compiles");
        let when = |on: bool, mask: u16| if on { mask } else { 0 };
        for (name, mask) in [
            ("/run/secrets/kubernetes.io/serviceaccount/token", R),
            (
                "/var/run/secrets/kubernetes.io/serviceaccount/..data/ca.crt",
                R,
            ),
            ("/etc/passwd", W),
            ("/proc/kcore", R | W | X),
        ] {
            let verdict = path(&profile, name);
            assert_eq!(
                (verdict.deny, verdict.audit),
                (when(!allow, mask), when(audit, mask)),
                "{name}"
            );
        }
        let net_raw = 1 << 13;
        assert_eq!(profile.capabilities.deny, if allow { 0 } else { net_raw });
        assert_eq!(profile.capabilities.audit, if audit { net_raw } else { 0 });
        assert_eq!(
            profile.userns_create,
            Masks {
                deny: !allow,
                audit
            }
        );
        assert_eq!(profile.egress.is_some(), !allow || audit);
    }
}

#[test]
fn rules_of_the_users_own_ignore_the_switches() {
    let profile = policy(
        "EnhanceProtect",
        "{allowViolations: true, bpfRawRules: {files: [{qualifiers: [deny], permissions: [r], pattern: /a}], \
         processes: [{qualifiers: [audit, deny], permissions: [exec], pattern: '**/b'}]}}",
    )
    .expect("compiles");
    assert_eq!(
        path(&profile, "/a"),
        PathVerdict {
            deny: R,
            ..PathVerdict::default()
        }
    );
    assert_eq!(
        path(&profile, "/x/b"),
        PathVerdict {
            deny: X,
            audit: X,
            ..PathVerdict::default()
        }
    );
    assert_eq!(path(&profile, "/proc/kcore"), PathVerdict::default());
}

#[test]
fn sockets() {
    let profile = raw("network: {sockets: [
        {qualifiers: [deny], domains: [unix, alg]},
        {qualifiers: [deny, audit], domains: [inet], types: [raw, packet]},
        {qualifiers: [deny], protocols: [icmp, udp]},
        {qualifiers: [audit], types: [dccp]}]}")
    .expect("compiles");
    let of = |family: usize| profile.sockets[family];
    assert_eq!(of(1).types.deny, u32::MAX);
    assert_eq!(of(38).types.deny, u32::MAX);
    assert_eq!(
        of(2).types,
        Masks {
            deny: 1 << 3 | 1 << 10,
            audit: 1 << 3 | 1 << 10 | 1 << 6
        }
    );
    assert_eq!(of(2).protocols.deny, 1 << 1 | 1 << 58 | 1 << 17);
    assert_eq!(of(10).protocols.deny, of(2).protocols.deny);
    // UDP's number means something else in netlink.
    assert_eq!(of(16).protocols.deny, 0);
    assert_eq!(
        of(16).types,
        Masks {
            deny: 0,
            audit: 1 << 6
        }
    );
    let everything =
        raw("network: {sockets: [{qualifiers: [deny], domains: [all]}]}").expect("compiles");
    assert!(
        everything
            .sockets
            .iter()
            .all(|rule| rule.types.deny == u32::MAX)
    );
}

#[test]
fn ptrace_rules_add_to_the_base() {
    let rule = "bpfRawRules: {ptrace: {qualifiers: [audit], permissions: [trace, readby], strictMode: true}}";
    let profile = policy("EnhanceProtect", &format!("{{{rule}}}")).expect("compiles");
    let audit = PTRACE_TRACE | PTRACE_READBY;
    assert_eq!(
        profile.ptrace,
        Ptrace {
            external: Masks {
                deny: PTRACE_TRACE | PTRACE_READ,
                audit
            },
            internal: Masks { deny: 0, audit }
        }
    );
}

#[test]
fn mounts() {
    let profile = raw("mounts: [
        {qualifiers: [deny], sourcePattern: '/proc**', fstype: '*', flags: [bind, move]},
        {qualifiers: [deny], sourcePattern: '**', fstype: proc, flags: [all]},
        {qualifiers: [audit], sourcePattern: '**', fstype: '*', flags: [umount, rw]}]")
    .expect("compiles");
    let audit = MountSet {
        audit_flags: MOUNT_UMOUNT,
        audit_clear: 1,
        ..MountSet::default()
    };
    assert_eq!(
        mount(&profile, "none", "/proc/sys"),
        MountSet {
            deny_flags: BIND | MOVE,
            ..audit
        }
    );
    assert_eq!(
        mount(&profile, "proc", "x"),
        MountSet {
            deny_flags: u32::MAX,
            ..audit
        }
    );
    assert_eq!(mount(&profile, "ext4", "/dev/sda"), audit);
}

#[test]
fn mount_flags_in_one_letter() {
    let flag = |name: &str| {
        let rule = format!(
            "mounts: [{{qualifiers: [deny], sourcePattern: '**', fstype: '*', flags: [{name}]}}]"
        );
        mount(&raw(&rule).expect("compiles"), "none", "/x")
    };
    for (name, deny_flags, deny_clear) in [
        ("B", BIND, 0),
        ("M", MOVE, 0),
        ("R", BIND | 1 << 14, 0),
        ("r", 1, 0),
        ("w", 0, 1),
        ("BIND", BIND, 0),
    ] {
        let expected = MountSet {
            deny_flags,
            deny_clear,
            ..MountSet::default()
        };
        assert_eq!(flag(name), expected, "{name}");
    }
}

#[test]
fn mount_rules_add_to_the_base_of_containers_without_privileges() {
    let rule = "bpfRawRules: {mounts: [{qualifiers: [audit], sourcePattern: /mnt, fstype: '*', flags: [umount, bind]}]}";
    let profile = policy("EnhanceProtect", &format!("{{{rule}}}")).expect("compiles");
    let base = MountSet {
        deny_flags: !MOUNT_UMOUNT,
        ..MountSet::default()
    };
    assert_eq!(mount(&profile, "none", "/x"), base);
    assert_eq!(
        mount(&profile, "none", "/mnt"),
        MountSet {
            audit_flags: MOUNT_UMOUNT | BIND,
            ..base
        }
    );
}

#[test]
fn wrong_rules_name_their_field_and_the_fix() {
    let cases = [
        (
            "files: [{qualifiers: [deny], permissions: [raed], pattern: /a}]",
            "files[0].permissions[0]: `raed` is no permission; did you mean `read`?",
        ),
        (
            "files: [{qualifiers: [deny], permissions: [], pattern: /a}]",
            "files[0].permissions: a rule without",
        ),
        (
            "files: [{qualifiers: [], permissions: [r], pattern: /a}]",
            "files[0].qualifiers: a rule without",
        ),
        (
            "files: [{qualifiers: [allow], permissions: [r], pattern: /a}]",
            "files[0].qualifiers[0]: `allow` is no qualifier",
        ),
        (
            "processes: [{qualifiers: [deny], permissions: [x], pattern: 'a/b'}]",
            "processes[0].pattern: `a/b` is neither",
        ),
        (
            "network: {sockets: [{qualifiers: [deny]}]}",
            "sockets[0]: nothing is selected",
        ),
        (
            "network: {sockets: [{qualifiers: [deny], types: [raw], protocols: [tcp]}]}",
            "sockets[0]: types and protocols exclude",
        ),
        (
            "network: {sockets: [{qualifiers: [deny], domains: [inte]}]}",
            "domains[0]: `inte` is no socket domain; did you mean `inet`?",
        ),
        (
            "network: {sockets: [{qualifiers: [deny], types: [steam]}]}",
            "types[0]: `steam` is no socket type; did you mean `stream`?",
        ),
        (
            "network: {sockets: [{qualifiers: [deny], domains: [unix], protocols: [tcp]}]}",
            "`unix` has no such protocols",
        ),
        (
            "network: {sockets: [{qualifiers: [deny], protocols: [sctp]}]}",
            "protocols[0]: `sctp` is no protocol",
        ),
        (
            "ptrace: {qualifiers: [deny], permissions: [tarce]}",
            "permissions[0]: `tarce` is no ptrace permission; did you mean `trace`?",
        ),
        (
            "mounts: [{qualifiers: [deny], sourcePattern: '**', fstype: '*', flags: [bnid]}]",
            "flags[0]: `bnid` is no mount flag; did you mean `bind`?",
        ),
        (
            "mounts: [{qualifiers: [deny], sourcePattern: '**', fstype: '*', flags: []}]",
            "mounts[0].flags: a rule without",
        ),
        (
            "mounts: [{qualifiers: [deny], sourcePattern: '**', fstype: proc, flags: [bind]}]",
            "mounts[0].fstype: bind, move",
        ),
        (
            "mounts: [{qualifiers: [deny], sourcePattern: '**', fstype: 'a b', flags: [all]}]",
            "mounts[0].fstype: `a b` is no",
        ),
        (
            "mounts: [{qualifiers: [deny], sourcePattern: '', fstype: '*', flags: [all]}]",
            "mounts[0].sourcePattern: the pattern is empty",
        ),
    ];
    for (rules, expected) in cases {
        let errors = raw(rules).expect_err(rules);
        assert!(
            errors.iter().any(|e| e.contains(expected)),
            "{rules}: {errors:?}"
        );
    }
}

#[test]
fn every_error_of_a_policy_is_reported_at_once() {
    let rules = "files: [{qualifiers: [x], permissions: [y], pattern: ''}], ptrace: {qualifiers: [], permissions: []}";
    assert_eq!(raw(rules).expect_err("refused").len(), 5);
}
