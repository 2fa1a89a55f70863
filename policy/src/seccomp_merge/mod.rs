// SPDX-License-Identifier: Apache-2.0
//! A container's own seccomp filter merged with a policy's rules, as OCI `linux.seccomp` objects.
//!
//! Every call gets the stricter of the two verdicts. libseccomp cannot be left to find it: an unconditional rule for a
//! call wins over conditional ones, and overlapping conditions with different actions have no defined outcome. So for
//! each call that the policy touches, both sides' rules are rewritten into rules that do not overlap; all others stay
//! as they are. Where that would take too many rules, the call is refused rather than allowed.

mod action;
mod condition;
mod default_profile;
mod line;
mod multiplexed;
mod resolve;
#[cfg(test)]
mod tests;
mod tree;
mod verdict;

pub use default_profile::runtime_default;
pub use verdict::{Strictness, verdict};

use crate::plan::Seccomp;
use crate::types::SyscallRule;
use action::{Action, Kind};
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet};

/// Most conditional rules of a merged filter: the kernel takes 4096 instructions, and a rule costs up to 8 on each of
/// three architectures, beside what the own filter has.
const MAX_CONDITIONAL_RULES: usize = 128;

/// Why a container's own filter cannot be merged. The container must not start then.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MergeError {
    /// Not an OCI `linux.seccomp` object.
    #[error("the {0} seccomp filter is not what the OCI runtime specification describes: {1}")]
    Format(&'static str, String),
    /// An action that is not known to be stricter or weaker than others.
    #[error(
        "the {0} seccomp filter has the action `{1}`, which is not known; write a SCMP_ACT_* of the OCI specification"
    )]
    Action(&'static str, String),
    /// A comparison that is not known.
    #[error(
        "the {0} seccomp filter compares argument {1} by `{2}`, which is not known; write a SCMP_CMP_* on arguments 0 to 5"
    )]
    Comparison(&'static str, u32, String),
}

/// The filter that a container must have: never weaker than its own, nor than the policy's.
///
/// `own` is `linux.seccomp` of the container's spec, if it has one; `capabilities` are the names of its bounding set
/// (`CAP_SYS_ADMIN`), which the runtime's default filter depends on. `None` means no filter, as before.
///
/// # Errors
/// [`MergeError`] when the container's own filter cannot be understood.
pub fn merge<S: AsRef<str>>(
    own: Option<&Value>,
    plan: &Seccomp,
    capabilities: &[S],
) -> Result<Option<Value>, MergeError> {
    let (base, rules) = match plan {
        Seccomp::RuntimeDefault => (Some(own_or_default(own, capabilities)), None),
        Seccomp::RuntimeDefaultAndRules(rules) => {
            (Some(own_or_default(own, capabilities)), Some(rules))
        }
        Seccomp::Rules(rules) => (own.cloned(), Some(rules)),
    };
    let policy = match rules {
        Some(rules) => Filter::parse(rules, "policy's")?,
        None => return Ok(base),
    };
    if policy.rules.is_empty() {
        return Ok(base);
    }
    let without = json!({"defaultAction": "SCMP_ACT_ALLOW", "architectures": architectures()});
    let own = Filter::parse(base.as_ref().unwrap_or(&without), "container's")?;
    Ok(Some(merge_filters(own, &policy)?))
}

fn own_or_default<S: AsRef<str>>(own: Option<&Value>, capabilities: &[S]) -> Value {
    own.cloned()
        .unwrap_or_else(|| runtime_default(capabilities))
}

/// A call that every ABI of the machine has a number for and no kernel implements: refusing it with ENOSYS changes nothing.
///
/// libseccomp (seen in 2.5.4) makes a program that never loads the call's number when the rule that it sorts first is for
/// a call that the native ABI does not have (`socketcall`, `chown32`), and then no rule holds. Rules without conditions
/// are sorted first, by number; so there must be one for a call that is there.
const NEVER_IMPLEMENTED: &str = if cfg!(target_arch = "aarch64") {
    "nfsservctl"
} else {
    "getpmsg"
};
const ENOSYS: u32 = 38;

/// The machine's own architecture and those that its kernel also runs. A filter without this list makes libseccomp
/// kill processes of the others.
pub(crate) fn architectures() -> &'static [&'static str] {
    if cfg!(target_arch = "aarch64") {
        &["SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"]
    } else {
        &["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"]
    }
}

/// A filter, taken apart as far as merging needs.
struct Filter {
    /// Whose it is, for errors.
    whose: &'static str,
    /// The object without `syscalls`; what is not known in it is kept.
    rest: Map<String, Value>,
    default: Action,
    rules: Vec<SyscallRule>,
}

impl Filter {
    fn parse(value: &Value, whose: &'static str) -> Result<Self, MergeError> {
        let format = |message: String| MergeError::Format(whose, message);
        let mut rest = value
            .as_object()
            .ok_or_else(|| format("it is no object".to_owned()))?
            .clone();
        let rules = match rest.remove("syscalls") {
            None | Some(Value::Null) => Vec::new(),
            Some(rules) => serde_path_to_error::deserialize(rules)
                .map_err(|e| format(format!("syscalls{e}")))?,
        };
        let name = rest.get("defaultAction").and_then(Value::as_str);
        let name = name.ok_or_else(|| format("defaultAction is missing".to_owned()))?;
        let errno = match rest.get("defaultErrnoRet") {
            None | Some(Value::Null) => None,
            Some(errno) => Some(
                errno
                    .as_u64()
                    .and_then(|errno| u32::try_from(errno).ok())
                    .ok_or_else(|| format("defaultErrnoRet is no number".to_owned()))?,
            ),
        };
        let default =
            Action::parse(name, errno).ok_or_else(|| MergeError::Action(whose, name.to_owned()))?;
        Ok(Self {
            whose,
            rest,
            default,
            rules,
        })
    }

    /// The rules for each call among `names`, one conjunction each, as runtimes add them.
    fn by_call<'a>(
        &'a self,
        names: &BTreeSet<&'a str>,
    ) -> Result<BTreeMap<&'a str, Vec<resolve::CallRule>>, MergeError> {
        let mut by_call: BTreeMap<&str, Vec<resolve::CallRule>> = BTreeMap::new();
        for rule in &self.rules {
            let mut parsed = None;
            for name in rule
                .names
                .iter()
                .map(String::as_str)
                .filter(|name| names.contains(name))
            {
                if parsed.is_none() {
                    parsed = Some(resolve::CallRule::parse(rule, self.whose)?);
                }
                by_call
                    .entry(name)
                    .or_default()
                    .extend(parsed.iter().flatten().cloned());
            }
        }
        Ok(by_call)
    }
}

fn merge_filters(own: Filter, policy: &Filter) -> Result<Value, MergeError> {
    let mut touched: BTreeSet<&str> = policy
        .rules
        .iter()
        .flat_map(|rule| rule.names.iter().map(String::as_str))
        .collect();
    let mut policy_rules = policy.by_call(&touched)?;
    let mut implied = BTreeMap::new();
    if multiplexed::covers_x86(&own.rest) {
        implied = multiplexed::implied(&policy_rules);
        for (name, rules) in &implied {
            touched.insert(name);
            policy_rules
                .entry(name)
                .or_default()
                .extend(rules.iter().cloned());
        }
    }
    let own_rules = own.by_call(&touched)?;

    let mut budget = MAX_CONDITIONAL_RULES;
    let mut outcomes: BTreeMap<&str, Vec<resolve::CallRule>> = BTreeMap::new();
    for &name in &touched {
        let own_rules = own_rules.get(name).map_or(&[][..], Vec::as_slice);
        let policy_rules = policy_rules.get(name).map_or(&[][..], Vec::as_slice);
        let outcome = resolve::resolve(own.default, own_rules, policy_rules, budget);
        let conditional = outcome.iter().filter(|rule| !rule.is_unconditional());
        budget = budget.saturating_sub(conditional.count());
        outcomes.insert(name, outcome);
    }
    let mut rules: Vec<Value> = Vec::new();
    // Of rules for the same thing libseccomp keeps the first: these are before those that it derives from others.
    for (name, implied) in implied {
        let outcome = outcomes.remove(name).unwrap_or_default();
        let outcome = multiplexed::outcome(name, own.default, &implied, outcome, &outcomes);
        rules.extend(outcome.iter().map(|rule| rule.to_json(&[name])));
    }
    // Calls with the same rules share entries, as people write them.
    let mut resolved: BTreeMap<Vec<resolve::CallRule>, Vec<&str>> = BTreeMap::new();
    for (name, outcome) in outcomes {
        resolved.entry(outcome).or_default().push(name);
    }
    for rule in &own.rules {
        let mut rule = rule.clone();
        rule.names.retain(|name| !touched.contains(name.as_str()));
        if !rule.names.is_empty() {
            rules.push(json!(rule));
        }
    }
    for (outcome, names) in resolved {
        rules.extend(outcome.iter().map(|rule| rule.to_json(&names)));
    }
    // A filter that refuses by default allows calls without conditions, or nothing could run.
    if own.default.kind < Kind::Errno && !touched.contains(NEVER_IMPLEMENTED) {
        let absent =
            json!({"names": [NEVER_IMPLEMENTED], "action": "SCMP_ACT_ERRNO", "errnoRet": ENOSYS});
        rules.push(absent);
    }
    let mut merged = own.rest;
    merged.insert("syscalls".to_owned(), Value::Array(rules));
    Ok(Value::Object(merged))
}
