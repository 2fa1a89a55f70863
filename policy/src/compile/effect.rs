// SPDX-License-Identifier: Apache-2.0
//! What happens on a violation.

use crate::error::{Findings, suggestion};
use crate::types::EnhanceProtect;

/// Whether a rule refuses, reports, or both.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Effect {
    pub(crate) deny: bool,
    pub(crate) audit: bool,
}

impl Effect {
    pub(crate) const DENY: Self = Self {
        deny: true,
        audit: false,
    };

    /// What base and built-in rules do under `allowViolations` and `auditViolations`.
    pub(crate) fn of(settings: &EnhanceProtect) -> Self {
        Self {
            deny: !settings.allow_violations,
            audit: settings.audit_violations,
        }
    }

    /// Reads the `qualifiers` of a rule of the user's own.
    pub(crate) fn from_qualifiers(
        qualifiers: &[String],
        field: &str,
        findings: &mut Findings,
    ) -> Self {
        let mut effect = Self::default();
        for (index, qualifier) in qualifiers.iter().enumerate() {
            if findings.is_full() {
                break;
            }
            match qualifier.to_ascii_lowercase().as_str() {
                "deny" => effect.deny = true,
                "audit" => effect.audit = true,
                other => findings.add(
                    format!("{field}.qualifiers[{index}]"),
                    format!(
                        "`{qualifier}` is no qualifier{}; write `deny`, `audit` or both",
                        suggestion(other, ["deny", "audit"])
                    ),
                ),
            }
        }
        if qualifiers.is_empty() {
            findings.add(
                format!("{field}.qualifiers"),
                "a rule without qualifiers has no effect; write `[deny]`, `[audit]` or `[deny, audit]`",
            );
        }
        effect
    }

    /// The mask where the effect refuses, and where it reports.
    pub(crate) fn masks<T: Copy + Default>(self, value: T) -> crate::plan::bpf::Masks<T> {
        let pick = |on: bool| if on { value } else { T::default() };
        crate::plan::bpf::Masks {
            deny: pick(self.deny),
            audit: pick(self.audit),
        }
    }

    /// The qualifier of AppArmor's rules, with a trailing blank when there is one.
    pub(crate) fn apparmor(self) -> &'static str {
        match (self.deny, self.audit) {
            (true, false) => "deny ",
            (true, true) => "audit deny ",
            (false, true) => "audit ",
            (false, false) => "",
        }
    }
}
