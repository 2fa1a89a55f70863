// SPDX-License-Identifier: Apache-2.0
//! What a policy says of an action, and which of its rules says so.
//!
//! The answer comes from the compiled plan that a node loads: BPF's tables are looked up as its programs do, seccomp's
//! filter is decided call by call, AppArmor's text is matched rule by rule.

mod action;
mod apparmor;
mod bpf;
pub mod listing;
pub mod names;
mod parts;
mod seccomp;
#[cfg(test)]
mod tests;

pub use action::{Action, ActionError, Change, Protocol};

use crate::PolicyError;
use crate::compile::{Settings, compile, compile_composed};
use crate::enforcer::{Enforcer, Enforcers};
use crate::plan::{EnforcementPlan, PolicyRef};
use crate::types::PolicyObject;
use serde_json::Value;
use std::net::IpAddr;

/// An action, and what is known of who does it.
#[derive(Debug, Clone, Copy)]
pub struct Question<'a> {
    /// What is done.
    pub action: &'a Action,
    /// The program that does it, or one that it descends from, when rules hold for single executables.
    pub executable: Option<&'a str>,
    /// Whether the files belong to the process' user, where that is known.
    pub owned: Option<bool>,
    /// The pod's own addresses.
    pub pod_addresses: &'a [IpAddr],
    /// The container's own seccomp filter (`linux.seccomp` of its spec).
    pub own_filter: Option<&'a Value>,
    /// The container's capabilities (`CAP_CHOWN`), which the runtime's default seccomp filter depends on.
    pub capabilities: &'a [String],
}

/// What one enforcer does with an action.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// It lets it happen.
    Allowed,
    /// It does not.
    Refused,
    /// It is never asked.
    NotMediated,
    /// That cannot be told; the notes say why.
    Unknown,
}

/// A decision and what belongs to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// The decision.
    pub decision: Decision,
    /// Whether it is reported as a violation.
    pub reported: bool,
    /// When an action that is allowed here is refused all the same.
    pub refused_if: Vec<String>,
    /// When an action that is allowed and not reported is reported all the same.
    pub reported_if: Vec<String>,
    /// What else is to be known.
    pub notes: Vec<String>,
}

impl Verdict {
    fn of(refused: bool, reported: bool) -> Self {
        Self {
            decision: if refused {
                Decision::Refused
            } else {
                Decision::Allowed
            },
            reported,
            refused_if: Vec::new(),
            reported_if: Vec::new(),
            notes: Vec::new(),
        }
    }

    fn not_mediated() -> Self {
        Self {
            decision: Decision::NotMediated,
            ..Self::of(false, false)
        }
    }

    fn depends(why: String) -> Self {
        Self {
            decision: Decision::Unknown,
            notes: vec![why],
            ..Self::of(false, false)
        }
    }

    /// Whether the action is refused for certain.
    pub fn is_refused(&self) -> bool {
        self.decision == Decision::Refused
    }

    /// Whether a rule has something to do with it.
    fn says_something(&self) -> bool {
        self.is_refused()
            || self.reported
            || !self.refused_if.is_empty()
            || !self.reported_if.is_empty()
    }

    /// Allowed, unless this holds; a refusal stays one.
    fn unless(mut self, condition: &str) -> Self {
        if !self.is_refused() {
            self.refused_if.push(condition.to_owned());
        }
        self
    }

    fn with_note(mut self, note: &str) -> Self {
        if !self.notes.iter().any(|other| other == note) {
            self.notes.push(note.to_owned());
        }
        self
    }

    /// Of two checks that must both pass.
    fn or(mut self, other: Self) -> Self {
        match (self.is_refused(), other.is_refused()) {
            (true, false) => self,
            (false, true) => other,
            (..) => {
                self.reported |= other.reported;
                if other.decision == Decision::Unknown {
                    self.decision = Decision::Unknown;
                }
                self.refused_if.extend(other.refused_if);
                self.reported_if.extend(other.reported_if);
                other
                    .notes
                    .iter()
                    .fold(self, |verdict, note| verdict.with_note(note))
            }
        }
    }
}

/// A rule that makes a verdict.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cause {
    /// The policy.
    pub policy: PolicyRef,
    /// The policy's field.
    pub field: String,
    /// The rule's name or pattern; may be empty.
    pub rule: String,
    /// What is loaded for it, where that is a text: rules of the AppArmor profile.
    pub loaded: Vec<String>,
}

/// One enforcer's verdict.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Judgement {
    /// Whose.
    pub enforcer: Enforcer,
    /// The verdict of everything that the policy says together.
    pub verdict: Verdict,
    /// The rules that say so by themselves; empty when nothing speaks against the action.
    pub causes: Vec<Cause>,
}

/// What each of the enforcers says of an action, under the policies that hold together for a container, in order of
/// precedence; at least one.
///
/// `enforcers` are those that hold for the container: annotations may have taken some of the policies' away.
///
/// # Errors
/// Those of [`compile_composed`].
pub fn explain(
    members: &[&PolicyObject],
    enforcers: Enforcers,
    settings: &Settings,
    question: &Question<'_>,
) -> Result<Vec<Judgement>, Vec<PolicyError>> {
    let plan = compile_composed(members, settings)?;
    let mut judgements: Vec<Judgement> = enforcers
        .iter()
        .filter_map(|enforcer| {
            let (verdict, _) = judge(enforcer, &plan, question)?;
            Some(Judgement {
                enforcer,
                verdict,
                causes: Vec::new(),
            })
        })
        .collect();
    if judgements
        .iter()
        .any(|judgement| judgement.verdict.says_something())
    {
        for member in members {
            find_causes(member, settings, question, &mut judgements);
        }
        note_own_refusals(&mut judgements);
    }
    Ok(judgements)
}

/// Asks each rule of the policy by itself.
fn find_causes(
    object: &PolicyObject,
    settings: &Settings,
    question: &Question<'_>,
    judgements: &mut [Judgement],
) {
    // What the container's own filter says is no rule's doing.
    let of_policy = Question {
        own_filter: None,
        ..*question
    };
    for part in parts::of(object) {
        // A rule that needs another to be there would be refused alone; there is none today.
        let Ok(plan) = compile(&part.object, settings) else {
            continue;
        };
        for judgement in judgements.iter_mut() {
            let Some((verdict, loaded)) = judge(judgement.enforcer, &plan, &of_policy) else {
                continue;
            };
            let decides = if judgement.verdict.is_refused() {
                verdict.is_refused()
            } else {
                verdict.says_something()
            };
            if decides {
                judgement.causes.push(Cause {
                    policy: object.reference(),
                    field: part.field.clone(),
                    rule: part.rule.clone(),
                    loaded,
                });
            }
        }
    }
}

/// Says whose a refusal is that no rule makes.
fn note_own_refusals(judgements: &mut [Judgement]) {
    for judgement in judgements {
        if judgement.causes.is_empty() && judgement.verdict.is_refused() {
            let note = "the container's own seccomp filter refuses it, not the policy";
            judgement.verdict.notes.push(note.to_owned());
        }
    }
}

/// One enforcer's verdict, and the texts that it rests on; `None` when the plan has nothing for the enforcer.
fn judge(
    enforcer: Enforcer,
    plan: &EnforcementPlan,
    question: &Question<'_>,
) -> Option<(Verdict, Vec<String>)> {
    match enforcer {
        Enforcer::AppArmor => plan
            .apparmor
            .as_ref()
            .map(|text| apparmor::judge(text, question)),
        Enforcer::Bpf => plan
            .bpf
            .as_ref()
            .map(|profile| (bpf::judge(profile, question), Vec::new())),
        Enforcer::Seccomp => plan
            .seccomp
            .as_ref()
            .map(|part| (seccomp::judge(part, question), Vec::new())),
        Enforcer::NetworkProxy => None,
    }
}
