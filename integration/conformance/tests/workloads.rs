// SPDX-License-Identifier: Apache-2.0
//! The workloads that must run unharmed: under RuntimeDefault, and under every hardening rule but those that name what they need.

use std::collections::BTreeSet;
use std::path::Path;

use serde_yaml::Value;
use varmor_policy::rules::{self, BpfPart, Group};

/// A workload, and the capabilities that it needs.
const WORKLOADS: [(&str, &[&str]); 4] = [
    ("busybox", &[]),
    ("shell-script", &[]),
    (
        "web-server",
        &[
            "chown",
            "dac-override",
            "kill",
            "setgid",
            "setuid",
            "net-bind-service",
        ],
    ),
    (
        "package-manager",
        &["chown", "dac-override", "fowner", "fsetid"],
    ),
];

/// The capabilities that a rule takes away.
fn capabilities(rule: &rules::Rule) -> u64 {
    rule.bpf.iter().fold(0, |all, part| match part {
        BpfPart::Capabilities(mask) => all | mask,
        _ => all,
    })
}

#[test]
fn every_hardening_rule_is_there_but_those_that_name_what_is_needed() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scenarios/workloads");
    for (name, needed) in WORKLOADS {
        let text = std::fs::read_to_string(folder.join(format!("{name}.yaml"))).unwrap();
        let scenario: Value = serde_yaml::from_str(&text).unwrap();
        let policy = |number: usize| &scenario["policies"][number]["spec"]["policy"];
        for (number, mode) in [(0, "RuntimeDefault"), (1, "EnhanceProtect")] {
            assert_eq!(policy(number)["enforcer"], "AppArmorBPFSeccomp", "{name}");
            assert_eq!(policy(number)["mode"], mode, "{name}");
        }
        let listed: BTreeSet<&str> = policy(1)["enhanceProtect"]["hardeningRules"]
            .as_sequence()
            .unwrap()
            .iter()
            .filter_map(Value::as_str)
            .collect();
        let held = listed
            .iter()
            .map(|name| capabilities(rules::find(name).unwrap()))
            .fold(0, |all, mask| all | mask);
        let needed = varmor_policy::capability::mask(needed);
        for rule in rules::all().filter(|rule| rule.group == Group::Hardening) {
            let takes = capabilities(rule);
            // A rule for capabilities holds where others hold for all of them.
            let covered = listed.contains(rule.name) || (takes != 0 && takes & !held == 0);
            assert_eq!(covered, takes & needed == 0, "{name}: {}", rule.name);
        }
    }
}

#[test]
fn no_workload_is_left_out() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scenarios/workloads");
    let files: BTreeSet<String> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .map(|path| path.file_stem().unwrap().to_string_lossy().into_owned())
        .collect();
    assert_eq!(files, WORKLOADS.map(|(name, _)| name.to_owned()).into());
}
