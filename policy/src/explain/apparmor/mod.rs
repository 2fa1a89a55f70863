// SPDX-License-Identifier: Apache-2.0
//! What AppArmor says of an action: the rules of the generated text, matched as AppArmor would.
//!
//! A rule that depends on what the action does not tell, such as where a mount goes, makes the verdict conditional. Of the
//! one include of generated profiles, abstractions/base, what they don't allow themselves is known here; what an
//! administrator adds to it in abstractions/base.d is not.

mod matching;
mod profile;

use super::action::Action;
use super::{Question, Verdict};
use crate::compile::apparmor::rule::Rule;
use matching::{Fit, Request, requests};
use profile::Profile;

/// The verdict, and the rules of the text that make it.
pub(super) fn judge(text: &str, question: &Question<'_>) -> (Verdict, Vec<String>) {
    let profiles = profile::parse(text);
    let Some(container) = profiles.first() else {
        return (
            Verdict::depends("the profile could not be read".to_owned()),
            Vec::new(),
        );
    };
    let profile = acting(&profiles, container, question.executable);
    let requests = requests(question.action);
    if requests.is_empty() {
        return (Verdict::not_mediated(), Vec::new());
    }
    let mut verdict = Verdict::of(false, false);
    let mut decisive = Vec::new();
    for request in &requests {
        let (one, rules) = judge_request(profile, request, question.owned);
        let was_refused = verdict.is_refused();
        verdict = verdict.or(one);
        if verdict.is_refused() && !was_refused {
            decisive.clear();
        }
        decisive.extend(rules);
    }
    if let Action::Exec(path) = question.action {
        if let Some((_, child)) = profile
            .transitions
            .iter()
            .find(|(target, _)| target == path)
        {
            verdict = verdict.with_note(&format!("it goes on under {child}"));
        }
    }
    if matches!(question.action, Action::Ptrace { external: true, .. }) && verdict.is_refused() {
        verdict = verdict
            .with_note("a process of another container under this very profile counts as its own");
    }
    (verdict, decisive)
}

/// The profile that an executable runs under.
fn acting<'a>(
    profiles: &'a [Profile],
    container: &'a Profile,
    executable: Option<&str>,
) -> &'a Profile {
    let child = executable.and_then(|executable| {
        let (_, child) = container
            .transitions
            .iter()
            .find(|(target, _)| target == executable)?;
        profiles.iter().find(|profile| profile.name == *child)
    });
    child.unwrap_or(container)
}

/// Refusals win over permissions, and what no rule permits is refused and reported.
fn judge_request(
    profile: &Profile,
    request: &Request,
    owned: Option<bool>,
) -> (Verdict, Vec<String>) {
    let fitting = |deny: bool| {
        profile
            .rules
            .iter()
            .filter(move |rule| rule.deny == deny)
            .filter_map(|rule| match request.fit(rule, &profile.name, owned) {
                Fit::No => None,
                fit => Some((rule, fit)),
            })
    };
    let text = |rule: &Rule| rule.text.clone();
    let refusing: Vec<_> = fitting(true).collect();
    let certain: Vec<_> = refusing
        .iter()
        .filter(|(_, fit)| *fit == Fit::Yes)
        .collect();
    if !certain.is_empty() {
        let reported = certain.iter().any(|(rule, _)| rule.audit);
        return (
            Verdict::of(true, reported),
            certain.iter().map(|(rule, _)| text(rule)).collect(),
        );
    }
    let permitting: Vec<_> = fitting(false).collect();
    if !request.is_permitted(&permitting) {
        let perhaps = permitting.iter().find_map(|(rule, fit)| match fit {
            Fit::Perhaps(when) => Some((rule, when)),
            _ => None,
        });
        if let Some((rule, when)) = perhaps {
            let why = format!("refused unless {when}: no other rule of the profile allows it");
            return (Verdict::depends(why), vec![text(rule)]);
        }
        return (
            Verdict::of(true, true).with_note("no rule of the profile allows it"),
            Vec::new(),
        );
    }
    let mut verdict = Verdict::of(false, false);
    let mut decisive = Vec::new();
    for (rule, fit) in permitting.iter().filter(|(rule, _)| rule.audit) {
        match fit {
            Fit::Perhaps(when) => verdict.reported_if.push((*when).to_owned()),
            _ => verdict.reported = true,
        }
        decisive.push(text(rule));
    }
    for (rule, fit) in &refusing {
        if let Fit::Perhaps(when) = fit {
            verdict = verdict.unless(when);
            decisive.push(text(rule));
        }
    }
    (verdict, decisive)
}
