// SPDX-License-Identifier: Apache-2.0
//! Whole files: every kind of error, with its line and field.

use crate::compile::{Settings, compile};
use crate::document;

/// Lines of a file that is right, to put one thing wrong.
const GOOD: &str = include_str!("good.yaml");

fn errors(yaml: &str) -> Vec<String> {
    document::check(yaml, |object| compile(object, &Settings::default()))
        .err()
        .unwrap_or_default()
        .into_iter()
        .map(|error| {
            format!(
                "{}:{}: {}",
                error.line.map_or("?".to_owned(), |line| line.to_string()),
                error.field,
                error.message
            )
        })
        .collect()
}

#[test]
fn every_error_points_at_its_line_and_field() {
    assert_eq!(errors(GOOD), [""; 0]);
    let mut wrong = Vec::new();
    // `@` stands for `spec.policy.enhanceProtect.`.
    let cases: &[(&str, &str, &str)] = &[
        // The object.
        (
            "apiVersion: crd.varmor.org/v1beta1",
            "apiVersion: v1",
            "1:apiVersion: apiVersion is `v1`; write",
        ),
        (
            "kind: VarmorPolicy",
            "kind: VarmorPolice",
            "2:kind: kind is `VarmorPolice`; write",
        ),
        (
            "  name: web",
            "  name: Web",
            "4:metadata.name: `Web` is no object name",
        ),
        (
            "  name: web",
            "  name: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
            "4:metadata.name: the profile would be named",
        ),
        (
            "  namespace: demo",
            "  labels: {}",
            "3:metadata.namespace: a VarmorPolicy holds in one namespace",
        ),
        (
            "  namespace: demo",
            "  namespace: a.b",
            "5:metadata.namespace: `a.b` is no namespace",
        ),
        (
            "kind: VarmorPolicy",
            "kind: VarmorClusterPolicy",
            "5:metadata.namespace: a VarmorClusterPolicy holds",
        ),
        (
            "  namespace: demo",
            "  namespace: demo\n  creationTimestamp: now",
            "6:metadata.creationTimestamp: `now` is no time",
        ),
        // Its target.
        (
            "    kind: Pod",
            "    kind: Pods",
            "8:spec.target.kind: `Pods` is no target kind; did you mean `Pod`?",
        ),
        (
            "    kind: Pod",
            "    kind: Pod\n    name: x",
            "7:spec.target: name and selector exclude each other",
        ),
        (
            "    selector:\n      matchLabels:\n        app: web",
            "    containers: []",
            "7:spec.target: nothing is selected",
        ),
        (
            "    selector:\n      matchLabels:\n        app: web",
            "    name: a_b",
            "9:spec.target.name: `a_b` is no object name",
        ),
        (
            "    kind: Pod",
            "    kind: Pod\n    containers: [a, B]",
            "9:spec.target.containers[1]: `B` is no",
        ),
        (
            "        app: web",
            "        app/: web",
            "11:spec.target.selector.matchLabels[app/]: `app/` is no label key",
        ),
        (
            "        app: web",
            "        app: '-'",
            "11:spec.target.selector.matchLabels[app]: `-` is no label value",
        ),
        (
            "      matchLabels:\n        app: web",
            "      matchExpressions:\n      - {key: app, operator: In}",
            "11:spec.target.selector.matchExpressions[0].values: In and NotIn compare",
        ),
        (
            "      matchLabels:\n        app: web",
            "      matchExpressions:\n      - {key: a b, operator: Exists}",
            "11:spec.target.selector.matchExpressions[0].key: `a b` is no label key",
        ),
        (
            "      matchLabels:\n        app: web",
            "      matchExpressions:\n      - {key: a, operator: Exist}",
            "11:spec.target.selector.matchExpressions[0].operator: unknown variant `Exist`",
        ),
        (
            "      matchLabels:\n        app: web",
            "      matchExpressions:\n      - key: a\n        operator: NotIn\n        values: [x, y/]",
            "13:spec.target.selector.matchExpressions[0].values[1]: `y/` is no label value",
        ),
        // Enforcers and mode.
        (
            "enforcer: AppArmorBPFSeccomp",
            "enforcer: AppAmorBPFSeccomp",
            "13:spec.policy.enforcer: `AppAmorBPFSecc",
        ),
        (
            "enforcer: AppArmorBPFSeccomp",
            "enforcer: ''",
            "13:spec.policy.enforcer: no enforcer is named",
        ),
        (
            "enforcer: AppArmorBPFSeccomp",
            "enforcer: BPFBPF",
            "13:spec.policy.enforcer: `BPFBPF` names BPF twice",
        ),
        (
            "enforcer: AppArmorBPFSeccomp",
            "enforcer: BPFNetworkProxy",
            "13:spec.policy.enforcer: NetworkProxy is not supported",
        ),
        (
            "    mode: Enh",
            "    networkProxyConfig:\n      proxyPort: 1\n    mode: Enh",
            "14:spec.policy.networkProxyConfig: NetworkProxy is not supported",
        ),
        (
            "      syscallRawRules:",
            "      networkProxyRawRules: {}\n      syscallRawRules:",
            "52:spec.policy.enhanceProtect.networkProxyRawRules: NetworkProxy is not supported",
        ),
        (
            "mode: EnhanceProtect",
            "mode: Enhance",
            "14:spec.policy.mode: `Enhance` is no mode",
        ),
        (
            "mode: EnhanceProtect",
            "mode: BehaviorModeling",
            "14:spec.policy.mode: BehaviorModeling is not supported",
        ),
        (
            "mode: EnhanceProtect",
            "mode: DefenseInDepth",
            "14:spec.policy.mode: DefenseInDepth is not supported",
        ),
        (
            "enforcer: AppArmorBPFSeccomp",
            "enforcer: BPFSeccomp",
            "23:spec.policy.enhanceProtect.appArmorRawRules: needs the enforcer AppArmor",
        ),
        (
            "enforcer: AppArmorBPFSeccomp",
            "enforcer: AppArmorSeccomp",
            "27:spec.policy.enhanceProtect.bpfRawRules: needs the enforcer BPF",
        ),
        (
            "enforcer: AppArmorBPFSeccomp",
            "enforcer: AppArmorBPF",
            "52:spec.policy.enhanceProtect.syscallRawRules: needs the enforcer Seccomp",
        ),
        // Built-in rules.
        (
            "- disallow-mount",
            "- disallow-mout",
            "17:@hardeningRules[0]: there is no rule `disallow-mout`; did you mean",
        ),
        (
            "- disallow-mount",
            "- disable-write-etc",
            "17:@hardeningRules[0]: `disable-write-etc` belongs into attack",
        ),
        (
            "enforcer: AppArmorBPFSeccomp",
            "enforcer: AppArmor",
            "18:@hardeningRules[1]: `AppArmor` cannot enforce",
        ),
        (
            "[disable-write-etc]",
            "[]",
            "20:@attackProtectionRules[0].rules: no rule is named",
        ),
        (
            "[disable-write-etc]",
            "[a,\n        b]",
            "21:@attackProtectionRules[0].rules[1]: there is no rule `b`",
        ),
        (
            "[/bin/sh]",
            "[/bin/sh, /bin/*]",
            "22:@attackProtectionRules[1].targets[1]: `*` in `/bin/*`",
        ),
        (
            "[/bin/sh]",
            "[sh]",
            "22:@attackProtectionRules[1].targets[0]: `sh` is no executable",
        ),
        // AppArmor's language: the line is that of the text.
        (
            "deny /b w,",
            "deny /b px,",
            "26:@appArmorRawRules[0].rules: `px`: `px` leaves the profile",
        ),
        (
            "deny /b w,",
            "#include <x>",
            "26:@appArmorRawRules[0].rules: an include is not accepted",
        ),
        (
            "deny /b w,",
            "deny capability sys_admn,",
            "26:@appArmorRawRules[0].rules: there is no capability `sys_admn`",
        ),
        (
            "deny /b w,",
            "deny network inet7,",
            "26:@appArmorRawRules[0].rules: `inet7` is no",
        ),
        // BPF.
        (
            "pattern: /etc/shadow",
            "pattern: etc/shadow",
            "29:@bpfRawRules.files[0].pattern: `etc/shadow` is neither",
        ),
        (
            "permissions: [read]",
            "permissions: [raed]",
            "30:@bpfRawRules.files[0].permissions[0]: `raed` is no perm",
        ),
        (
            "permissions: [read]",
            "permissions: []",
            "30:@bpfRawRules.files[0].permissions: a rule without permissions",
        ),
        (
            "  qualifiers: [deny]\n        network",
            "  qualifiers: []\n        network",
            "31:@bpfRawRules.files[0].qualifiers: a rule without",
        ),
        (
            "  qualifiers: [deny]\n        network",
            "  qualifiers: [denied]\n        network",
            "31:@bpfRawRules.files[0].qualifiers[0]: `denied` is no",
        ),
        (
            "domains: [inet]",
            "domains: [inet, inte6]",
            "34:@bpfRawRules.network.sockets[0].domains[1]: `inte6` is no",
        ),
        (
            "types: [raw]",
            "types: [row]",
            "35:@bpfRawRules.network.sockets[0].types[0]: `row` is no socket type",
        ),
        (
            "types: [raw]",
            "protocols: [tpc]",
            "35:@bpfRawRules.network.sockets[0].protocols[0]: `tpc` is no protocol",
        ),
        (
            "types: [raw]",
            "types: [raw]\n            protocols: [tcp]",
            "34:@bpfRawRules.network.sockets[0]: types and",
        ),
        (
            "- domains: [inet]\n            types: [raw]\n            ",
            "- ",
            "34:@bpfRawRules.network.sockets[0]: nothing is selected",
        ),
        (
            "ip: 10.0.0.1",
            "ip: 10.0.0.256",
            "39:@bpfRawRules.network.egress.toDestinations[0].ip: `10.0.0.256` is no",
        ),
        (
            "ip: 10.0.0.1",
            "cidr: 10.0.0.0/33",
            "39:@bpfRawRules.network.egress.toDestinations[0].cidr: `10.0.0.0/33`",
        ),
        (
            "ip: 10.0.0.1",
            "ip: localhost\n              cidr: ::/0",
            "39:@bpfRawRules.network.egress.toDestinations[0]: ip and cidr",
        ),
        (
            "port: 443",
            "port: 0",
            "41:@bpfRawRules.network.egress.toDestinations[0].ports[0].port: 0 is no port",
        ),
        (
            "endPort: 444",
            "endPort: 442",
            "42:@bpfRawRules.network.egress.toDestinations[0].ports[0].endPort: 442 is before",
        ),
        (
            "port: 443",
            "port: 70000",
            "41:@bpfRawRules.network.egress.toDestinations[0].ports[0].port: invalid value: integer `70000`",
        ),
        (
            "permissions: [trace]",
            "permissions: [track]",
            "45:@bpfRawRules.ptrace.permissions[0]: `track` is no ptrace",
        ),
        (
            "flags: [umount]",
            "flags: [unmount]",
            "50:@bpfRawRules.mounts[0].flags[0]: `unmount` is no mount flag; did you mean",
        ),
        (
            "fstype: '*'",
            "fstype: proc",
            "49:@bpfRawRules.mounts[0].fstype: bind, move, remount",
        ),
        (
            "fstype: '*'",
            "fstype: a/b",
            "49:@bpfRawRules.mounts[0].fstype: `a/b` is no file system type",
        ),
        (
            "sourcePattern: '**'",
            "sourcePattern: '***'",
            "48:@bpfRawRules.mounts[0].sourcePattern: `***` at byte",
        ),
        // seccomp.
        (
            "names: [mount]",
            "names: [mout]",
            "53:@syscallRawRules[0].names[0]: there is no system call `mout`; did you mean `mount`?",
        ),
        (
            "action: SCMP_ACT_ERRNO",
            "action: ERRNO",
            "54:@syscallRawRules[0].action: `ERRNO` is no action",
        ),
        (
            "index: 0",
            "index: 6",
            "56:@syscallRawRules[0].args[0].index: there is no argument 6",
        ),
        (
            "op: SCMP_CMP_EQ",
            "op: '=='",
            "58:@syscallRawRules[0].args[0].op: `==` is no comparison",
        ),
        (
            "value: 1",
            "value: 1\n          valueTwo: 2",
            "58:@syscallRawRules[0].args[0].valueTwo: SCMP_CMP_EQ has one",
        ),
        // Types, and fields that are not there.
        (
            "hardeningRules:",
            "hardenningRules:",
            "16:spec.policy.enhanceProtect.hardenningRules: unknown field",
        ),
        (
            "    mode: EnhanceProtect\n",
            "",
            "13:spec.policy: missing field `mode`; add it",
        ),
        (
            "permissions: [read]",
            "permissions: read",
            "30:@bpfRawRules.files[0].permissions: invalid type: string \"read\", expected a list; write `[...]`",
        ),
        (
            "          permissions: [trace]",
            "          strictMode: maybe",
            "45:@bpfRawRules.ptrace.strictMode: invalid type: string \"maybe\", expected true or false",
        ),
        (
            "        ptrace:\n          permissions: [trace]\n          qualifiers: [deny]",
            "        ptrace: [trace]",
            "44:@bpfRawRules.ptrace: invalid type: sequence, expected fields",
        ),
    ];
    for (from, to, expected) in cases {
        assert!(GOOD.contains(from), "{from}");
        let found = errors(&GOOD.replacen(from, to, 1));
        let expected = expected.replacen('@', "spec.policy.enhanceProtect.", 1);
        if !found.iter().any(|error| error.starts_with(&expected)) {
            wrong.push(format!("{to}\nexpected {expected}\nfound {found:#?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_errors_of_all_documents_are_reported_in_order() {
    let wrong = GOOD.replace("disallow-mount", "disallow-mout");
    let misspelt = GOOD
        .replace("name: web", "name: api")
        .replace("matchLabels", "matchLables");
    let found = errors(&format!(
        "{wrong}---\n{misspelt}---\n{}",
        GOOD.replace("name: web", "name: x")
    ));
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(found[0].starts_with("17:"), "{found:?}");
    let line = 1 + GOOD.lines().count() + 10;
    assert!(
        found[1].starts_with(&format!("{line}:spec.target.selector.matchLables: ")),
        "{found:?}"
    );
}

#[test]
fn the_second_of_two_is_the_duplicate() {
    let found = errors(&format!("{GOOD}---\n{GOOD}"));
    let line = 1 + GOOD.lines().count() + 4;
    assert_eq!(found.len(), 1);
    assert!(
        found[0].starts_with(&format!(
            "{line}:metadata.name: the file defines this object twice"
        )),
        "{found:?}"
    );
}
