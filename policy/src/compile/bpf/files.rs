// SPDX-License-Identifier: Apache-2.0
//! `bpfRawRules.files` and `.processes`.

use super::PatternSize;
use crate::automata::PathRule;
use crate::compile::effect::Effect;
use crate::error::{Findings, suggestion};
use crate::pattern::Pattern;
use crate::plan::automaton::{PERM_APPEND, PERM_EXEC, PERM_READ, PERM_WRITE, PathVerdict};
use crate::types::FileRule;

/// Every permission, and its short form.
pub(crate) const PERMISSIONS: &[&str] = &[
    "all", "read", "write", "append", "exec", "*", "r", "w", "a", "x",
];

pub(super) fn add(
    rules: &[FileRule],
    field: &str,
    paths: &mut Vec<PathRule>,
    size: &mut PatternSize,
    findings: &mut Findings,
) {
    for (index, rule) in rules.iter().enumerate() {
        if findings.is_full() {
            break;
        }
        let field = format!("{field}[{index}]");
        let masks = Effect::from_qualifiers(&rule.qualifiers, &field, findings).masks(permissions(
            &rule.permissions,
            &field,
            findings,
        ));
        match Pattern::path(&rule.pattern) {
            Ok(pattern) => {
                if !size.add(&pattern, &field, findings) {
                    return;
                }
                paths.push((
                    pattern,
                    PathVerdict {
                        deny: masks.deny,
                        audit: masks.audit,
                        ..PathVerdict::default()
                    },
                ));
            }
            Err(error) => findings.add(format!("{field}.pattern"), error.to_string()),
        }
    }
}

pub(crate) fn permissions(names: &[String], field: &str, findings: &mut Findings) -> u16 {
    let mut mask = 0;
    for (index, name) in names.iter().enumerate() {
        if findings.is_full() {
            break;
        }
        mask |= match name.to_ascii_lowercase().as_str() {
            "all" | "*" => PERM_READ | PERM_WRITE | PERM_APPEND | PERM_EXEC,
            "read" | "r" => PERM_READ,
            // Whoever may not write may not append either.
            "write" | "w" => PERM_WRITE | PERM_APPEND,
            "append" | "a" => PERM_APPEND,
            "exec" | "x" => PERM_EXEC,
            other => {
                findings.add(
                    format!("{field}.permissions[{index}]"),
                    format!(
                        "`{name}` is no permission{}; write all, read, write, append or exec (or `*`, r, w, a, x)",
                        suggestion(other, PERMISSIONS[..5].iter().copied())
                    ),
                );
                0
            }
        };
    }
    if names.is_empty() {
        findings.add(
            format!("{field}.permissions"),
            "a rule without permissions has no effect; write `[all]`, say",
        );
    }
    mask
}
