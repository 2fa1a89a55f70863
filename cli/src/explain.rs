// SPDX-License-Identifier: Apache-2.0
//! `varmorctl explain`: which policy holds for a container, and what it says of actions.

use crate::args::{Explain, FileOwner, Output};
use crate::load::{self, Loaded};
use crate::render::own_filter;
use anyhow::{Context, bail};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write};
use varmor_policy::compile::{Settings, compile_composed};
use varmor_policy::enforcer::Enforcers;
use varmor_policy::explain::{Action, Decision, Judgement, Question, explain};
use varmor_policy::matching::{ContainerFacts, KIND_POD, OptIn, Selection, select};
use varmor_policy::plan::PolicyRef;
use varmor_policy::{PolicyError, PolicyObject};

/// The answer for one container.
#[derive(Serialize)]
struct Answer {
    /// `namespace/pod/container`, when one was asked about.
    container: Option<String>,
    /// The policies that hold together, in order of precedence.
    policies: Vec<PolicyRef>,
    profile: Option<String>,
    /// Why no policy holds.
    unprotected: Option<String>,
    notes: Vec<String>,
    actions: Vec<ActionAnswer>,
}

#[derive(Serialize)]
struct ActionAnswer {
    action: String,
    decision: &'static str,
    enforcers: Vec<EnforcerAnswer>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct EnforcerAnswer {
    enforcer: &'static str,
    decision: &'static str,
    reported: bool,
    refused_if: Vec<String>,
    reported_if: Vec<String>,
    notes: Vec<String>,
    causes: Vec<Cause>,
}

#[derive(Serialize)]
struct Cause {
    /// `file:line`.
    place: String,
    field: String,
    rule: String,
    /// Rules of the AppArmor profile.
    loaded: Vec<String>,
}

/// Prints what the policies say.
pub fn run(arguments: &Explain, output: Output, out: &mut dyn Write) -> anyhow::Result<()> {
    let settings = arguments.cluster.settings(false);
    let loaded = load::load(&arguments.files, &settings)?;
    let actions = arguments
        .actions
        .iter()
        .map(|text| text.parse::<Action>())
        .collect::<Result<Vec<_>, _>>()?;
    let mut answer = Answer {
        container: arguments.container.clone(),
        policies: Vec::new(),
        profile: None,
        unprotected: None,
        notes: Vec::new(),
        actions: Vec::new(),
    };
    let held = match &arguments.container {
        None => {
            let policy = load::pick(loaded, arguments.policy.as_deref())?;
            let enforcers = Enforcers::parse(&policy.object.spec().policy.enforcer)
                .map_err(|e| anyhow::anyhow!(e))?;
            Some((vec![policy], enforcers))
        }
        Some(container) => holding(loaded, container, arguments, &mut answer)?,
    };
    if let Some((policies, enforcers)) = held {
        if arguments.executable.is_none() {
            answer.notes.extend(own_rules_note(&policies));
        }
        let members: Vec<&PolicyObject> = policies.iter().map(|one| &one.object).collect();
        answer.policies = members.iter().map(|object| object.reference()).collect();
        answer.profile = Some(profile_of(&members, &settings)?);
        for (text, action) in arguments.actions.iter().zip(&actions) {
            let mut said = ask(&policies, enforcers, &settings, action, arguments)?;
            said.action.clone_from(text);
            answer.actions.push(said);
        }
    }
    match output {
        Output::Text => print(&answer, out)?,
        Output::Json => {
            serde_json::to_writer_pretty(&mut *out, &answer).map_err(io::Error::from)?;
            writeln!(out)?;
        }
    }
    Ok(())
}

fn profile_of(members: &[&PolicyObject], settings: &Settings) -> anyhow::Result<String> {
    compile_composed(members, settings)
        .map(|plan| plan.profile)
        .map_err(joined)
}

fn joined(errors: Vec<PolicyError>) -> anyhow::Error {
    let texts: Vec<_> = errors.iter().map(ToString::to_string).collect();
    anyhow::anyhow!(texts.join("; "))
}

/// Says which executables have rules of their own, which are not asked about.
fn own_rules_note(policies: &[Loaded]) -> Option<String> {
    let rules = policies
        .iter()
        .filter_map(|one| one.object.spec().policy.enhance_protect.as_ref());
    let targets: BTreeSet<&String> = rules
        .flat_map(|rules| {
            let attack = rules
                .attack_protection_rules
                .iter()
                .map(|entry| &entry.targets);
            attack.chain(rules.app_armor_raw_rules.iter().map(|entry| &entry.targets))
        })
        .flatten()
        .collect();
    let targets: Vec<_> = targets.into_iter().map(String::as_str).collect();
    (!targets.is_empty()).then(|| {
        format!(
            "there are rules for single executables ({}): ask for these with --executable",
            targets.join(", ")
        )
    })
}

/// The policies that hold for a container, with the enforcers that annotations leave of it.
fn holding(
    loaded: Vec<Loaded>,
    container: &str,
    arguments: &Explain,
    answer: &mut Answer,
) -> anyhow::Result<Option<(Vec<Loaded>, Enforcers)>> {
    let [namespace, pod, name] = container.split('/').collect::<Vec<_>>()[..] else {
        bail!("`{container}` is no container; write namespace/pod/container");
    };
    let opt_in = OptIn::parse(&arguments.opt_in_label)
        .map_err(|error| anyhow::anyhow!("--opt-in-label: {error}"))?;
    let mut labels = pairs(&arguments.labels)?;
    // Who asks what a policy says of a pod means one that opted in, unless its label says otherwise.
    if let Some((key, value)) = &opt_in.0 {
        if !labels.contains_key(key) {
            labels.insert(key.clone(), value.clone());
            answer.notes.push(format!(
                "taken as opted in: the label {key}={value} is supposed"
            ));
        }
    }
    let facts = ContainerFacts {
        namespace: namespace.to_owned(),
        pod_name: pod.to_owned(),
        pod_labels: labels,
        pod_annotations: pairs(&arguments.annotations)?,
        container_name: name.to_owned(),
        // Policies for workloads are left out.
        owner: varmor_policy::owner::Owner::None,
    };
    for one in loaded
        .iter()
        .filter(|one| one.object.spec().target.kind != KIND_POD)
    {
        answer.notes.push(format!(
            "{} is for a {}, which only the API server can tell the pods of: left out",
            one.object.reference(),
            one.object.spec().target.kind
        ));
    }
    let objects: Vec<PolicyObject> = loaded.iter().map(|one| one.object.clone()).collect();
    let (members, enforcers) = match select(&objects, &facts, &opt_in) {
        // Nothing is unknown of a pod without a workload.
        Selection::NotSelected | Selection::Unknown(_) => {
            answer.unprotected = Some(if opt_in.holds(&facts.pod_labels) {
                "no policy selects it".to_owned()
            } else {
                "the pod has not opted in".to_owned()
            });
            return Ok(None);
        }
        Selection::OptedOut(members) => {
            let names: Vec<_> = references(&members)
                .iter()
                .map(ToString::to_string)
                .collect();
            answer.unprotected = Some(format!(
                "{} would hold, but annotations take every enforcer away",
                names.join(" and ")
            ));
            return Ok(None);
        }
        Selection::Selected(members, enforcers) => (references(&members), enforcers),
    };
    let mut held: Vec<Loaded> = loaded
        .into_iter()
        .filter(|one| members.contains(&one.object.reference()))
        .collect();
    held.sort_by_key(|one| {
        let reference = one.object.reference();
        members.iter().position(|member| *member == reference)
    });
    Ok(Some((held, enforcers)))
}

fn references(members: &[&PolicyObject]) -> Vec<PolicyRef> {
    members.iter().map(|member| member.reference()).collect()
}

/// `key=value` pairs.
fn pairs(texts: &[String]) -> anyhow::Result<BTreeMap<String, String>> {
    texts
        .iter()
        .map(|text| {
            let (key, value) = text
                .split_once('=')
                .with_context(|| format!("`{text}` is no pair; write key=value"))?;
            Ok((key.to_owned(), value.to_owned()))
        })
        .collect()
}

fn ask(
    policies: &[Loaded],
    enforcers: Enforcers,
    settings: &Settings,
    action: &Action,
    arguments: &Explain,
) -> anyhow::Result<ActionAnswer> {
    let own = arguments.own.as_deref().map(own_filter).transpose()?;
    let question = Question {
        action,
        executable: arguments.executable.as_deref(),
        owned: arguments.owner.map(|owner| owner == FileOwner::Own),
        pod_addresses: &arguments.pod_ips,
        own_filter: own.as_ref(),
        capabilities: &arguments.capabilities,
    };
    let members: Vec<&PolicyObject> = policies.iter().map(|one| &one.object).collect();
    let judgements = explain(&members, enforcers, settings, &question).map_err(joined)?;
    let refused = judgements
        .iter()
        .any(|judgement| judgement.verdict.is_refused());
    let perhaps = judgements
        .iter()
        .any(|one| !one.verdict.refused_if.is_empty() || one.verdict.decision == Decision::Unknown);
    Ok(ActionAnswer {
        action: action.to_string(),
        decision: match (refused, perhaps) {
            (true, _) => "refused",
            (false, true) => "depends",
            (false, false) => "allowed",
        },
        enforcers: judgements
            .into_iter()
            .map(|judgement| said(judgement, policies))
            .collect(),
    })
}

fn said(judgement: Judgement, policies: &[Loaded]) -> EnforcerAnswer {
    let verdict = judgement.verdict;
    EnforcerAnswer {
        enforcer: judgement.enforcer.name(),
        decision: match verdict.decision {
            Decision::Allowed => "allowed",
            Decision::Refused => "refused",
            Decision::NotMediated => "not asked",
            Decision::Unknown => "unknown",
        },
        reported: verdict.reported,
        refused_if: verdict.refused_if,
        reported_if: verdict.reported_if,
        notes: verdict.notes,
        causes: judgement
            .causes
            .into_iter()
            .map(|cause| Cause {
                place: policies
                    .iter()
                    .find(|one| one.object.reference() == cause.policy)
                    .map(|one| one.place(&cause.field))
                    .unwrap_or_default(),
                field: cause.field,
                rule: cause.rule,
                loaded: cause.loaded,
            })
            .collect(),
    }
}

fn print(answer: &Answer, out: &mut dyn Write) -> io::Result<()> {
    let container = answer
        .container
        .as_deref()
        .map(|name| format!("{name}: "))
        .unwrap_or_default();
    match (&answer.profile, &answer.unprotected) {
        (Some(profile), _) => {
            let names: Vec<_> = answer.policies.iter().map(ToString::to_string).collect();
            writeln!(out, "{container}{}, profile {profile}", names.join(" and "))?;
        }
        (None, Some(why)) => writeln!(out, "{container}not protected: {why}")?,
        _ => {}
    }
    for note in &answer.notes {
        writeln!(out, "  ({note})")?;
    }
    for action in &answer.actions {
        writeln!(out, "\n{}: {}", action.action, action.decision)?;
        for enforcer in &action.enforcers {
            let reported = if enforcer.reported { ", reported" } else { "" };
            writeln!(
                out,
                "  {:8}  {}{reported}",
                enforcer.enforcer, enforcer.decision
            )?;
            for condition in &enforcer.refused_if {
                writeln!(out, "            refused if {condition}")?;
            }
            for condition in &enforcer.reported_if {
                writeln!(out, "            reported if {condition}")?;
            }
            for note in &enforcer.notes {
                writeln!(out, "            {note}")?;
            }
            for cause in &enforcer.causes {
                let rule = if cause.rule.is_empty() {
                    String::new()
                } else {
                    format!(" {}", cause.rule)
                };
                writeln!(out, "            {} {}{rule}", cause.place, cause.field)?;
                for line in &cause.loaded {
                    writeln!(out, "              {line}")?;
                }
            }
        }
    }
    Ok(())
}
