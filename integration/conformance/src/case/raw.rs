// SPDX-License-Identifier: Apache-2.0
//! The case file as it is written.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;
use serde_json::{Value, json};
use varmor_policy::rules;
use varmor_scenario::format::{Conditions, KERNELS, RawConditions};

use super::{Action, Case, Difference, Event, Subject, Works, claimed, rule_policy};
use crate::enforcer::Enforcer;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawCase {
    rule: Option<String>,
    feature: Option<String>,
    pod: Option<String>,
    /// For a feature: `enhanceProtect` for each enforcer. `privileged: true` unless it says otherwise.
    policy: Option<BTreeMap<Enforcer, Value>>,
    /// For a feature, with `enforcers`: a mode without settings.
    mode: Option<String>,
    enforcers: Option<Vec<Enforcer>>,
    #[serde(default)]
    merge: bool,
    #[serde(default)]
    beside: Vec<Value>,
    /// For a rule: on top of RuntimeDefault when false.
    privileged: Option<bool>,
    #[serde(default)]
    prepare: Vec<String>,
    #[serde(default)]
    refused: Vec<RawAction>,
    #[serde(default)]
    allowed: Vec<RawAction>,
    #[serde(default)]
    observed: Vec<RawAction>,
    /// Of all that is refused, where an action has none of its own.
    #[serde(default)]
    differs: BTreeMap<Enforcer, RawDifference>,
    #[serde(default)]
    unreachable: BTreeMap<Enforcer, String>,
    rejected: Option<String>,
    #[serde(default)]
    core: bool,
    kernels: Option<Vec<String>>,
    except_kernels: Option<Vec<String>>,
    reason: Option<String>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum RawAction {
    Line(String),
    Fields(Box<RawFields>),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawFields {
    run: String,
    works: Option<String>,
    event: Option<serde_yaml::Value>,
    errno: Option<String>,
    #[serde(default)]
    differs: BTreeMap<Enforcer, RawDifference>,
    kernels: Option<Vec<String>>,
    except_kernels: Option<Vec<String>>,
    reason: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawDifference {
    verdict: Option<Verdict>,
    errno: Option<String>,
    event: Option<serde_yaml::Value>,
    #[serde(default)]
    kernels: Vec<String>,
    reason: String,
}

#[derive(Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
enum Verdict {
    Refused,
    Allowed,
}

/// The cases of a file, in its order.
pub(super) fn read(path: &Path, text: &str) -> Result<Vec<Result<Case>>> {
    let raw: Vec<RawCase> = serde_yaml::from_str(text).map_err(|error| {
        let line = error.location().map_or(String::new(), |at| {
            format!(":{}:{}", at.line(), at.column())
        });
        anyhow::anyhow!("{}{line}: {error}", path.display())
    })?;
    let case = |raw: RawCase| {
        let name = raw.rule.clone().or(raw.feature.clone()).unwrap_or_default();
        read_case(path, raw).with_context(|| format!("{name:?}"))
    };
    Ok(raw.into_iter().map(case).collect())
}

fn read_case(path: &Path, raw: RawCase) -> Result<Case> {
    let (name, subject, policies) = match (&raw.rule, &raw.feature) {
        (Some(name), None) => {
            ensure!(
                raw.policy.is_none() && raw.mode.is_none() && raw.enforcers.is_none(),
                "policy, mode and enforcers belong to a feature; a rule has its own"
            );
            let rule = rules::find(name).with_context(|| format!("there is no rule {name:?}"))?;
            let policies = claimed(rule)
                .map(|enforcer| {
                    let privileged = raw.privileged.unwrap_or(true);
                    (enforcer, rule_policy(rule, name, enforcer, privileged))
                })
                .collect();
            (name.clone(), Subject::Rule(rule), policies)
        }
        (None, Some(name)) => (name.clone(), Subject::Feature, feature_policies(&raw)?),
        _ => bail!("a case has either a `rule` or a `feature`"),
    };
    let actions = |actions: Vec<RawAction>, list: &str| -> Result<Vec<Action>> {
        let read = |(index, action)| {
            read_action(action, list == "refused").with_context(|| format!("{list}[{index}]"))
        };
        actions.into_iter().enumerate().map(read).collect()
    };
    let mut refused = actions(raw.refused, "refused")?;
    for (enforcer, difference) in read_differences(raw.differs)? {
        for action in &mut refused {
            action
                .differs
                .entry(enforcer)
                .or_insert_with(|| difference.clone());
        }
    }
    let case = Case {
        file: path.to_path_buf(),
        name,
        subject,
        pod: raw.pod.unwrap_or_else(|| "plain".into()),
        policies,
        beside: raw.beside,
        prepare: raw.prepare,
        refused,
        allowed: actions(raw.allowed, "allowed")?,
        observed: actions(raw.observed, "observed")?,
        unreachable: raw.unreachable,
        rejected: raw.rejected,
        core: raw.core,
        conditions: conditions(raw.kernels, raw.except_kernels, raw.reason)?,
    };
    ensure!(
        !case.policies.is_empty(),
        "no enforcer can do something for it"
    );
    ensure!(
        case.actions().next().is_some() != case.rejected.is_some(),
        "a case needs either actions or `rejected`"
    );
    for enforcer in case.unreachable.keys() {
        ensure!(
            case.policies.contains_key(enforcer),
            "unreachable: the case is not run on {enforcer} anyway"
        );
    }
    Ok(case)
}

/// Where something is tried at all; all of it with one containerd.
fn conditions(
    kernels: Option<Vec<String>>,
    except_kernels: Option<Vec<String>>,
    reason: Option<String>,
) -> Result<Conditions> {
    Conditions::read(RawConditions {
        kernels,
        except_kernels,
        containerd: None,
        reason,
    })
}

fn feature_policies(raw: &RawCase) -> Result<BTreeMap<Enforcer, Value>> {
    match (&raw.policy, &raw.mode, &raw.enforcers) {
        (Some(policies), None, None) => Ok(policies
            .iter()
            .map(|(enforcer, settings)| {
                let mut settings = settings.clone();
                if settings.get("privileged").is_none() {
                    settings["privileged"] = Value::Bool(true);
                }
                let policy = json!({
                    "enforcer": enforcer.name(), "mode": "EnhanceProtect", "merge": raw.merge,
                    "enhanceProtect": settings,
                });
                (*enforcer, policy)
            })
            .collect()),
        (None, Some(mode), Some(enforcers)) => Ok(enforcers
            .iter()
            .map(|enforcer| {
                (
                    *enforcer,
                    json!({"enforcer": enforcer.name(), "mode": mode}),
                )
            })
            .collect()),
        _ => bail!("a feature has either a `policy`, or a `mode` and `enforcers`"),
    }
}

fn read_action(raw: RawAction, listed_as_refused: bool) -> Result<Action> {
    let raw = match raw {
        RawAction::Fields(fields) => *fields,
        RawAction::Line(run) => RawFields {
            run,
            works: None,
            event: None,
            errno: None,
            differs: BTreeMap::new(),
            kernels: None,
            except_kernels: None,
            reason: None,
        },
    };
    Ok(Action {
        run: raw.run,
        works: Works::read(raw.works)?,
        event: Event::read(raw.event)?,
        errno: raw.errno,
        differs: read_differences(raw.differs)?,
        listed_as_refused,
        conditions: conditions(raw.kernels, raw.except_kernels, raw.reason)?,
    })
}

fn read_differences(
    raw: BTreeMap<Enforcer, RawDifference>,
) -> Result<BTreeMap<Enforcer, Difference>> {
    let mut differs = BTreeMap::new();
    for (enforcer, difference) in raw {
        ensure!(
            !difference.reason.trim().is_empty(),
            "differs: a difference needs a reason"
        );
        if let Some(unknown) = difference
            .kernels
            .iter()
            .find(|kernel| !KERNELS.contains(&kernel.as_str()))
        {
            bail!("differs: there is no kernel {unknown:?}");
        }
        let event = match difference.event {
            None => None,
            given => Some(Event::read(given)?),
        };
        let difference = Difference {
            refuses: difference
                .verdict
                .map(|verdict| verdict == Verdict::Refused),
            errno: difference.errno,
            event,
            kernels: difference.kernels,
            reason: difference.reason,
        };
        differs.insert(enforcer, difference);
    }
    Ok(differs)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(text: &str) -> String {
        match read(Path::new("x.yaml"), text) {
            Err(error) => format!("{error:#}"),
            Ok(cases) => {
                let first = cases.into_iter().next().expect("a case");
                format!("{:#}", first.map(|case| case.name).expect_err("refused"))
            }
        }
    }

    #[test]
    fn a_difference_of_a_case_holds_for_its_refusals_that_have_none() {
        let text = "- rule: disallow-mount\n  differs: {AppArmor: {errno: EIO, reason: of all}}\n  \
                    refused: [x, {run: y, differs: {AppArmor: {errno: ENXIO, reason: own}}}]\n  allowed: [z]";
        let case = read(Path::new("x.yaml"), text).unwrap().remove(0).unwrap();
        let reasons: Vec<_> = case
            .actions()
            .map(|action| {
                action
                    .differs
                    .get(&Enforcer::AppArmor)
                    .map(|difference| &*difference.reason)
            })
            .collect();
        // What is allowed comes first: it is tried first.
        assert_eq!(reasons, [None, Some("of all"), Some("own")]);
    }

    #[test]
    fn mistakes_are_named() {
        for (text, wanted) in [
            ("- {rule: disallow-mount, refuse: []}", "refuse"),
            ("- {rule: disallow-muont, refused: [x]}", "no rule"),
            ("- {rule: disallow-mount}", "needs either actions"),
            (
                "- {rule: disallow-mount, mode: AlwaysAllow, refused: [x]}",
                "belong to a feature",
            ),
            ("- {feature: x, refused: [y]}", "either a `policy`"),
            (
                "- {rule: disallow-mount, refused: [{run: x, differs: {BPF: {reason: ''}}}]}",
                "refused[0]: differs: a difference needs a reason",
            ),
            (
                "- {rule: disallow-mount, differs: {BPF: {kernels: ['6.2'], reason: y}}, refused: [x]}",
                "there is no kernel \"6.2\"",
            ),
            (
                "- {rule: disallow-mount, refused: [{run: x, kernels: ['6.1']}]}",
                "needs a `reason`",
            ),
        ] {
            let error = error(text);
            assert!(error.contains(wanted), "{text}: {error}");
        }
    }
}
