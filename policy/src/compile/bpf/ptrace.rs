// SPDX-License-Identifier: Apache-2.0
//! `bpfRawRules.ptrace`.

use crate::compile::effect::Effect;
use crate::error::{Findings, suggestion};
use crate::plan::bpf::{PTRACE_READ, PTRACE_READBY, PTRACE_TRACE, PTRACE_TRACEBY, Ptrace};
use crate::types::PtraceRule;

/// Every permission.
pub(crate) const PERMISSIONS: &[&str] = &["all", "trace", "read", "traceby", "readby", "*"];

pub(super) fn add(rule: &PtraceRule, field: &str, ptrace: &mut Ptrace, findings: &mut Findings) {
    let mut permissions = 0;
    for (index, name) in rule.permissions.iter().enumerate() {
        if findings.is_full() {
            break;
        }
        permissions |= match name.to_ascii_lowercase().as_str() {
            "all" | "*" => PTRACE_TRACE | PTRACE_READ | PTRACE_TRACEBY | PTRACE_READBY,
            "trace" => PTRACE_TRACE,
            "read" => PTRACE_READ,
            "traceby" => PTRACE_TRACEBY,
            "readby" => PTRACE_READBY,
            other => {
                findings.add(
                    format!("{field}.permissions[{index}]"),
                    format!(
                        "`{name}` is no ptrace permission{}; write all, trace, read, traceby or readby",
                        suggestion(other, PERMISSIONS.iter().copied())
                    ),
                );
                0
            }
        };
    }
    if rule.permissions.is_empty() {
        findings.add(
            format!("{field}.permissions"),
            "a rule without permissions has no effect; write `[all]`, say",
        );
    }
    let masks = Effect::from_qualifiers(&rule.qualifiers, field, findings).masks(permissions);
    ptrace.external.deny |= masks.deny;
    ptrace.external.audit |= masks.audit;
    if rule.strict_mode {
        ptrace.internal.deny |= masks.deny;
        ptrace.internal.audit |= masks.audit;
    }
}
