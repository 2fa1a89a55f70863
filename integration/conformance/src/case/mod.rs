// SPDX-License-Identifier: Apache-2.0
//! The case files: what is in them, and what a correct one looks like.

mod action;
mod raw;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};
use varmor_policy::rules::{self, Rule};
use varmor_scenario::format::{Conditions, Pod};

pub use action::{Action, Difference, Event, Works};

use crate::enforcer::Enforcer;

/// What a case is about.
#[derive(Debug, Clone, Copy)]
pub enum Subject {
    /// A built-in rule.
    Rule(&'static Rule),
    /// Something that a policy says in other words.
    Feature,
}

/// One line of the matrix.
#[derive(Debug)]
pub struct Case {
    /// Where it was read from.
    pub file: PathBuf,
    /// The rule's name, or the feature in words.
    pub name: String,
    /// What it is about.
    pub subject: Subject,
    /// The workload's name in pods.yaml.
    pub pod: String,
    /// `spec.policy` for each enforcer that the case is run on.
    pub policies: BTreeMap<Enforcer, Value>,
    /// More policies (`spec.policy` each, without the enforcer) that select the workload at the same time.
    pub beside: Vec<Value>,
    /// Lines for the node's shell before the actions, with $ROOT (the container's root) and $PID (its main process).
    pub prepare: Vec<String>,
    /// What must fail.
    pub refused: Vec<Action>,
    /// What must not.
    pub allowed: Vec<Action>,
    /// What must not fail, and be reported.
    pub observed: Vec<Action>,
    /// Enforcers on which nothing can show the rule, and why.
    pub unreachable: BTreeMap<Enforcer, String>,
    /// A text of the daemon's error: a node without an API server must refuse the policy.
    pub rejected: Option<String>,
    /// Run on every kernel.
    pub core: bool,
    /// Where it is run at all.
    pub conditions: Conditions,
}

impl Case {
    /// The enforcers that it is run on.
    pub fn enforcers(&self) -> impl Iterator<Item = Enforcer> + '_ {
        self.policies.keys().copied()
    }

    /// `spec.policy` that reports what it would refuse. Only built-in rules have such a form.
    pub fn observe_only(&self, enforcer: Enforcer) -> Option<Value> {
        let Subject::Rule(_) = self.subject else {
            return None;
        };
        let mut policy = self.policies.get(&enforcer)?.clone();
        policy["enhanceProtect"]["allowViolations"] = Value::Bool(true);
        Some(policy)
    }

    /// All actions, for trials without a policy.
    pub fn actions(&self) -> impl Iterator<Item = &Action> {
        self.allowed
            .iter()
            .chain(&self.refused)
            .chain(&self.observed)
    }
}

/// What each enforcer claims of a rule.
pub fn claimed(rule: &Rule) -> impl Iterator<Item = Enforcer> {
    [
        (Enforcer::AppArmor, !rule.apparmor.is_empty()),
        (Enforcer::Bpf, !rule.bpf.is_empty()),
        (Enforcer::Seccomp, !rule.seccomp.is_empty()),
    ]
    .into_iter()
    .filter_map(|(enforcer, claims)| claims.then_some(enforcer))
}

/// The policy of a case about a rule: the rule alone, on top of what allows everything, reported.
fn rule_policy(rule: &Rule, name: &str, enforcer: Enforcer, privileged: bool) -> Value {
    let list = match rule.group {
        rules::Group::Attack => json!([{"rules": [name]}]),
        rules::Group::Hardening | rules::Group::Vulnerability => json!([name]),
    };
    json!({
        "enforcer": enforcer.name(),
        "mode": "EnhanceProtect",
        "enhanceProtect": {
            "privileged": privileged,
            "auditViolations": true,
            rule.group.field(): list,
        },
    })
}

/// Reads the workloads and every case below a folder. All wrong cases are reported at once.
///
/// # Errors
/// A file that can't be read, or cases that can't be right.
pub fn load(folder: &Path) -> Result<(Vec<Pod>, Vec<Case>)> {
    let pods = load_pods(&folder.join("pods.yaml"))?;
    let cases_folder = folder.join("cases");
    let mut files: Vec<_> = std::fs::read_dir(&cases_folder)
        .with_context(|| cases_folder.display().to_string())?
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<Result<_, _>>()?;
    files.retain(|path| {
        path.extension()
            .is_some_and(|extension| extension == "yaml")
    });
    files.sort();
    let (mut cases, mut errors) = (Vec::<Case>::new(), Vec::new());
    for file in files {
        let text = std::fs::read_to_string(&file).with_context(|| file.display().to_string())?;
        for read in raw::read(&file, &text)? {
            match read.and_then(|case| check(case, &pods, &cases)) {
                Ok(case) => cases.push(case),
                Err(error) => errors.push(format!("{}: {error:#}", file.display())),
            }
        }
    }
    ensure!(errors.is_empty(), "{}", errors.join("\n"));
    ensure!(!cases.is_empty(), "{}: no cases", cases_folder.display());
    Ok((pods, cases))
}

fn load_pods(path: &Path) -> Result<Vec<Pod>> {
    let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
    let pods: Vec<Pod> = serde_yaml::from_str(&text).with_context(|| path.display().to_string())?;
    for pod in &pods {
        ensure!(
            pod.containers.len() == 1 && pod.init_containers.is_empty(),
            "{}: {}: a workload has one container",
            path.display(),
            pod.name
        );
    }
    Ok(pods)
}

fn check(case: Case, pods: &[Pod], others: &[Case]) -> Result<Case> {
    let context = || format!("{:?}", case.name);
    if !pods.iter().any(|pod| pod.name == case.pod) {
        bail!("{}: pods.yaml has no pod {:?}", context(), case.pod);
    }
    if others.iter().any(|other| other.name == case.name) {
        bail!("{}: there is another case of that name", context());
    }
    Ok(case)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all() -> Vec<Case> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
        load(folder).expect("the project's own cases").1
    }

    /// Whether the case shows the rule on that enforcer: something refused, and something allowed beside it.
    fn shows(case: &Case, enforcer: Enforcer) -> bool {
        let refused = case
            .refused
            .iter()
            .any(|action| action.refused_by(enforcer));
        let allowed = case
            .allowed
            .iter()
            .any(|action| !action.refused_by(enforcer));
        case.unreachable.contains_key(&enforcer) || case.rejected.is_some() || (refused && allowed)
    }

    #[test]
    fn every_rule_is_shown_on_every_enforcer_that_claims_it() {
        let cases = all();
        let mut missing = Vec::new();
        for rule in rules::all() {
            for enforcer in claimed(rule) {
                let shown = cases.iter().any(|case| {
                    matches!(case.subject, Subject::Rule(of) if of == rule)
                        && case.policies.contains_key(&enforcer)
                        && shows(case, enforcer)
                });
                if !shown {
                    missing.push(format!("{} on {enforcer}", rule.name));
                }
            }
        }
        assert!(missing.is_empty(), "no case shows {}", missing.join(", "));
    }

    #[test]
    fn every_policy_of_a_case_compiles() {
        let settings = varmor_policy::compile::Settings::default();
        for case in all() {
            let policies = case.policies.values().cloned();
            let observing = case
                .enforcers()
                .filter_map(|enforcer| case.observe_only(enforcer));
            let beside = case.beside.iter().map(|policy| {
                let mut policy = policy.clone();
                policy["enforcer"] = "BPF".into();
                policy
            });
            for policy in policies.chain(observing).chain(beside) {
                let object = crate::guest::object("case", &case.pod, None, &policy);
                let parsed = varmor_policy::parse(&object.to_string())
                    .unwrap_or_else(|errors| panic!("{}: {errors:?}", case.name));
                for object in parsed {
                    let errors = match varmor_policy::compile(&object, &settings) {
                        Ok(_) => String::new(),
                        Err(errors) => format!("{errors:?}"),
                    };
                    match &case.rejected {
                        None => assert_eq!(errors, "", "{}", case.name),
                        Some(text) => assert!(errors.contains(text), "{}: {errors}", case.name),
                    }
                }
            }
        }
    }

    #[test]
    fn each_kernel_has_something_of_every_kind_to_do() {
        let cases = all();
        for enforcer in Enforcer::ALL {
            for is_rule in [true, false] {
                let found = cases.iter().any(|case| {
                    case.core
                        && case.policies.contains_key(&enforcer)
                        && matches!(case.subject, Subject::Rule(_)) == is_rule
                });
                assert!(
                    found,
                    "no core case for {enforcer} (about a rule: {is_rule})"
                );
            }
        }
    }
}
