//! What AppArmor says of an action: the rules of the generated text, matched as AppArmor would.
//!
//! Not evaluated are includes (they only allow), and what an action does not tell, such as where a mount goes: a rule
//! that depends on it makes the verdict conditional.

mod glob;
mod matching;
mod profile;

use super::action::Action;
use super::{Question, Verdict};
use matching::{Fit, Request, requests};
use profile::{Profile, Rule};

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
        let (one, rules) = judge_request(profile, request);
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
fn judge_request(profile: &Profile, request: &Request) -> (Verdict, Vec<String>) {
    let fitting = |deny: bool| {
        profile
            .rules
            .iter()
            .filter(move |rule| rule.deny == deny)
            .filter_map(|rule| match request.fit(rule, &profile.name) {
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
        return (
            Verdict::of(true, true).with_note("no rule of the profile allows it"),
            Vec::new(),
        );
    }
    let reporting: Vec<_> = permitting
        .iter()
        .filter(|(rule, fit)| rule.audit && *fit == Fit::Yes)
        .map(|(rule, _)| text(rule))
        .collect();
    let mut verdict = Verdict::of(false, !reporting.is_empty());
    let mut decisive = reporting;
    for (rule, fit) in &refusing {
        if let Fit::Perhaps(when) = fit {
            verdict = verdict.unless(when);
            decisive.push(text(rule));
        }
    }
    (verdict, decisive)
}
