// SPDX-License-Identifier: Apache-2.0
//! The seccomp part of a plan: an OCI `linux.seccomp` object that allows by default.
//!
//! It says nothing of architectures: [`crate::seccomp_merge`] knows what the container's own filter covers.

use super::enhance::Enhance;
use crate::error::{Findings, suggestion};
use crate::rules::SyscallPart;
use crate::syscalls;
use crate::types::{SyscallArg, SyscallRule};
use serde_json::{Value, json};
use std::collections::BTreeSet;

const FIELD: &str = "spec.policy.enhanceProtect.syscallRawRules";
/// The kernel cuts errno values off here (MAX_ERRNO).
pub(crate) const MAX_ERRNO: u32 = 4095;
const MASKED_EQ: &str = "SCMP_CMP_MASKED_EQ";
pub(crate) const OPERATORS: [&str; 7] = [
    "SCMP_CMP_NE",
    "SCMP_CMP_LT",
    "SCMP_CMP_LE",
    "SCMP_CMP_EQ",
    "SCMP_CMP_GE",
    "SCMP_CMP_GT",
    MASKED_EQ,
];
/// Most raw rules: what a filter of the kernel's 4096 instructions can hold.
pub(crate) const MAX_RAW_RULES: usize = 512;
/// What a rule may do. SCMP_ACT_NOTIFY needs a listener, which a policy has not.
pub(crate) const ACTIONS: [&str; 7] = [
    "SCMP_ACT_KILL_PROCESS",
    "SCMP_ACT_KILL_THREAD",
    "SCMP_ACT_KILL",
    "SCMP_ACT_TRAP",
    "SCMP_ACT_ERRNO",
    "SCMP_ACT_TRACE",
    "SCMP_ACT_LOG",
];

/// Mode AlwaysAllow.
pub(super) fn allow_everything() -> Value {
    json!({"defaultAction": "SCMP_ACT_ALLOW"})
}

/// Mode EnhanceProtect; `raw_rules` counts those of all policies that hold together.
pub(super) fn enhance(
    enhance: &Enhance<'_>,
    raw_rules: &mut usize,
    findings: &mut Findings,
) -> Value {
    let mut rules: Vec<SyscallRule> = Vec::new();
    if enhance.effect.deny || enhance.effect.audit {
        for part in enhance.global.iter().flat_map(|rule| rule.seccomp) {
            rules.push(built_in(part, enhance.effect.deny));
        }
    }
    let raw = &enhance.settings.syscall_raw_rules;
    *raw_rules += raw.len();
    if *raw_rules > MAX_RAW_RULES {
        findings.add(
            FIELD,
            format!("{raw_rules} rules; a filter takes at most {MAX_RAW_RULES}: merge some"),
        );
        return filter_of(rules);
    }
    for (index, rule) in raw.iter().enumerate() {
        if findings.is_full() {
            break;
        }
        check(rule, &format!("{FIELD}[{index}]"), findings);
        rules.extend(one_comparison_an_argument(rule));
    }
    filter_of(rules)
}

fn filter_of(rules: Vec<SyscallRule>) -> Value {
    let mut filter = allow_everything();
    if !rules.is_empty() {
        filter["syscalls"] = json!(rules);
    }
    filter
}

/// Refuses, or logs: seccomp cannot do both.
fn built_in(part: &SyscallPart, deny: bool) -> SyscallRule {
    SyscallRule {
        names: part.names.iter().map(|name| (*name).to_owned()).collect(),
        action: if deny {
            "SCMP_ACT_ERRNO"
        } else {
            "SCMP_ACT_LOG"
        }
        .to_owned(),
        errno_ret: deny.then_some(part.errno),
        args: part
            .args
            .iter()
            .map(|arg| SyscallArg {
                index: arg.index,
                value: arg.mask,
                value_two: arg.value,
                op: MASKED_EQ.to_owned(),
            })
            .collect(),
    }
}

/// Runtimes make several comparisons of one argument into one rule each; so do we, that everybody reads the same.
fn one_comparison_an_argument(rule: &SyscallRule) -> Vec<SyscallRule> {
    let mut seen = [false; 6];
    let repeated = rule.args.iter().any(|arg| {
        seen.get_mut(arg.index as usize)
            .is_some_and(|seen| std::mem::replace(seen, true))
    });
    if !repeated {
        return vec![rule.clone()];
    }
    rule.args
        .iter()
        .map(|arg| SyscallRule {
            args: vec![arg.clone()],
            ..rule.clone()
        })
        .collect()
}

fn check(rule: &SyscallRule, field: &str, findings: &mut Findings) {
    let distinct: BTreeSet<&String> = rule.names.iter().collect();
    if distinct.len() < rule.names.len() {
        findings.add(
            format!("{field}.names"),
            "a system call is named twice; remove one",
        );
    }
    if rule.names.is_empty() {
        findings.add(
            format!("{field}.names"),
            "no system call is named; name one, or remove the rule",
        );
    }
    for (index, name) in rule.names.iter().enumerate() {
        if findings.is_full() {
            break;
        }
        if !syscalls::is_known(name) {
            findings.add(
                format!("{field}.names[{index}]"),
                format!(
                    "there is no system call `{name}`{}",
                    suggestion(name, syscalls::names())
                ),
            );
        }
    }
    if rule.action == "SCMP_ACT_ALLOW" {
        findings.add(
            format!("{field}.action"),
            "what no rule refuses is allowed already, and a policy cannot widen the container's own filter; remove the rule",
        );
    } else if !ACTIONS.contains(&rule.action.as_str()) {
        findings.add(
            format!("{field}.action"),
            format!(
                "`{}` is no action of a policy{}; write one of {}",
                rule.action,
                suggestion(&rule.action, ACTIONS),
                ACTIONS.join(", ")
            ),
        );
    }
    match rule.errno_ret {
        Some(_) if !matches!(rule.action.as_str(), "SCMP_ACT_ERRNO" | "SCMP_ACT_TRACE") => findings
            .add(
                format!("{field}.errnoRet"),
                format!(
                    "{} returns no errno; remove errnoRet or write SCMP_ACT_ERRNO",
                    rule.action
                ),
            ),
        Some(errno) if errno > MAX_ERRNO => {
            findings.add(
                format!("{field}.errnoRet"),
                format!("{errno} is no errno; write at most {MAX_ERRNO}"),
            );
        }
        _ => {}
    }
    for (index, arg) in rule.args.iter().enumerate() {
        if findings.is_full() {
            break;
        }
        let field = format!("{field}.args[{index}]");
        if arg.index > 5 {
            findings.add(
                format!("{field}.index"),
                format!("there is no argument {}; write 0 to 5", arg.index),
            );
        }
        if !OPERATORS.contains(&arg.op.as_str()) {
            findings.add(
                format!("{field}.op"),
                format!(
                    "`{}` is no comparison{}; write one of {}",
                    arg.op,
                    suggestion(&arg.op, OPERATORS),
                    OPERATORS.join(", ")
                ),
            );
        }
        if arg.op != MASKED_EQ && arg.value_two != 0 {
            findings.add(
                format!("{field}.valueTwo"),
                format!("{} has one value; remove valueTwo", arg.op),
            );
        }
        if arg.op == MASKED_EQ && arg.value_two & !arg.value != 0 {
            findings.add(
                format!("{field}.valueTwo"),
                format!(
                    "{:#x} has bits outside the mask {:#x}, so it never matches; value is the mask",
                    arg.value_two, arg.value
                ),
            );
        }
    }
}
