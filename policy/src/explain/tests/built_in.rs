// SPDX-License-Identifier: Apache-2.0
//! Every built-in rule by itself.

use super::{policy, question};
use crate::compile::{ServiceAddress, ServiceName, Settings};
use crate::explain::{Action, explain};
use crate::rules::{self, BpfPart};

/// Whatever is asked of whatever rule: a refusal has a cause, and the cause is that rule.
#[test]
fn every_rule_answers_for_itself() {
    let actions = [
        "open:/etc/shadow:w",
        "open:/proc/1/mem:r",
        "exec:/usr/bin/curl",
        "chmod:/a",
        "connect:169.254.169.254:80",
        "socket:inet:dgram",
        "mount:proc:proc",
        "umount:/proc",
        "ptrace:read:external",
        "cap:sys_admin",
        "userns",
        "syscall:unshare:0x10000000",
    ];
    let mut refused = 0;
    for rule in rules::all() {
        let list = match rule.group.field() {
            "attackProtectionRules" => {
                format!("attackProtectionRules: [{{rules: [{}]}}]", rule.name)
            }
            field => format!("{field}: [{}]", rule.name),
        };
        let enforcer = rule.enforcers().to_string();
        let object = policy(
            &enforcer,
            "EnhanceProtect",
            &format!("{{privileged: true, {list}}}"),
        );
        let settings = Settings {
            services: rules::all()
                .flat_map(|rule| rule.bpf)
                .filter_map(service)
                .collect(),
            ..Settings::default()
        };
        for action in actions {
            let parsed: Action = action.parse().expect(action);
            let judgements = explain(&[&object], rule.enforcers(), &settings, &question(&parsed))
                .expect("compiles");
            for judgement in judgements {
                let is_refused = judgement.verdict.is_refused();
                refused += usize::from(is_refused);
                assert_eq!(
                    judgement.causes.len(),
                    usize::from(judgement.verdict.says_something()),
                    "{action}: {judgement:?}"
                );
                assert!(
                    judgement.causes.iter().all(|cause| cause.rule == rule.name),
                    "{action}: {judgement:?}"
                );
            }
        }
    }
    assert!(refused > 40, "{refused}");
}

fn service(part: &BpfPart) -> Option<(ServiceName, Vec<ServiceAddress>)> {
    match *part {
        BpfPart::Service { namespace, name } => {
            Some((ServiceName::new(namespace, name), Vec::new()))
        }
        _ => None,
    }
}
