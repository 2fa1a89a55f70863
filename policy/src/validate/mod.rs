// SPDX-License-Identifier: Apache-2.0
//! Checks of whole objects, before anything is compiled from them, and of changes of objects.

mod names;
mod update;

pub use update::update;

use crate::compile::profile_name::{MAX_PROFILE_NAME_BYTES, profile_name};
use crate::compile::{Mode, Settings};
use crate::enforcer::{Enforcer, Enforcers};
use crate::error::{Findings, PolicyError, suggestion};
use crate::matching::{KIND_POD, TARGET_KINDS};
use crate::types::{LabelSelector, PolicyObject, SelectorOperator};
use names::{is_dns_label, is_dns_subdomain, is_label_key, is_label_value, is_timestamp};

/// Every mode.
pub(crate) const MODES: [&str; 5] = [
    "AlwaysAllow",
    "RuntimeDefault",
    "EnhanceProtect",
    "BehaviorModeling",
    "DefenseInDepth",
];
/// Most requirements of one label selector.
pub(crate) const MAX_REQUIREMENTS: usize = 64;

/// Said wherever the proxy is asked for.
pub(crate) const NO_NETWORK_PROXY: &str =
    "NetworkProxy is not supported by this version; use BPF egress rules, or remove it";

/// Checks what only a node without the API server cannot do: a target that is not the pod itself.
///
/// # Errors
/// A target kind that needs the API server to resolve.
pub fn for_node(object: &PolicyObject) -> Result<(), Vec<PolicyError>> {
    let mut findings = Findings::new(object.reference());
    let kind = &object.spec().target.kind;
    if kind != KIND_POD {
        findings.add(
            "spec.target.kind",
            format!(
                "`{kind}` cannot be resolved on the node, which sees pods and not the workload that made them; write \
                 `kind: Pod` with a selector for the pods' labels"
            ),
        );
    }
    findings.finish(())
}

/// Checks name, scope and target; returns the profile's name.
pub(crate) fn object(
    object: &PolicyObject,
    settings: &Settings,
    findings: &mut Findings,
) -> String {
    let metadata = &object.policy().metadata;
    if !is_dns_subdomain(&metadata.name) {
        findings.add(
            "metadata.name",
            format!(
                "`{}` is no object name; write lower-case letters, digits, `-` and `.`",
                metadata.name
            ),
        );
    }
    match (object, metadata.namespace.as_deref()) {
        (PolicyObject::Namespaced(_), None | Some("")) => {
            findings.add("metadata.namespace", "a VarmorPolicy holds in one namespace; name it here");
        }
        (PolicyObject::Namespaced(_), Some(namespace)) if !is_dns_label(namespace) => findings.add(
            "metadata.namespace",
            format!("`{namespace}` is no namespace; write lower-case letters, digits and `-`"),
        ),
        (PolicyObject::Cluster(_), Some(_)) => findings.add(
            "metadata.namespace",
            "a VarmorClusterPolicy holds in every namespace; remove the field, or make it a VarmorPolicy",
        ),
        _ => {}
    }
    if let Some(created) = &metadata.creation_timestamp {
        if !is_timestamp(created) {
            findings.add(
                "metadata.creationTimestamp",
                format!("`{created}` is no time; write it as the API server does, `2026-01-31T09:00:00Z`, or remove it"),
            );
        }
    }
    target(object, findings);
    if !is_dns_label(&settings.cluster_namespace) {
        findings.add(
            "metadata.name",
            format!(
                "the node is set up with `{}` as the cluster namespace, which is no namespace; correct the setting",
                settings.cluster_namespace
            ),
        );
    }
    let profile = profile_name(object, settings);
    if profile.len() > MAX_PROFILE_NAME_BYTES {
        findings.add(
            "metadata.name",
            format!(
                "the profile would be named `{profile}`, {} bytes long; shorten the name by {} bytes",
                profile.len(),
                profile.len() - MAX_PROFILE_NAME_BYTES
            ),
        );
    }
    profile
}

fn target(object: &PolicyObject, findings: &mut Findings) {
    let target = &object.spec().target;
    if !TARGET_KINDS.contains(&target.kind.as_str()) {
        findings.add(
            "spec.target.kind",
            format!(
                "`{}` is no target kind{}; write one of {} (Pod for jobs and bare pods)",
                target.kind,
                suggestion(&target.kind, TARGET_KINDS),
                TARGET_KINDS.join(", ")
            ),
        );
    }
    match (&target.name, &target.selector) {
        (Some(_), Some(_)) => findings.add(
            "spec.target",
            "name and selector exclude each other; remove one",
        ),
        (None, None) => findings.add(
            "spec.target",
            "nothing is selected; write a name or a selector",
        ),
        (Some(name), None) if !is_dns_subdomain(name) => findings.add(
            "spec.target.name",
            format!("`{name}` is no object name; write lower-case letters, digits, `-` and `.`"),
        ),
        (None, Some(selector)) => check_selector(selector, "spec.target.selector", findings),
        _ => {}
    }
    for (index, container) in target.containers.iter().enumerate() {
        if findings.is_full() {
            break;
        }
        if !is_dns_label(container) {
            findings.add(
                format!("spec.target.containers[{index}]"),
                format!(
                    "`{container}` is no container name; write lower-case letters, digits and `-`"
                ),
            );
        }
    }
}

/// A label that no object can have would make a policy that selects nothing, or everything but nothing.
fn check_selector(selector: &LabelSelector, field: &str, findings: &mut Findings) {
    for (key, value) in &selector.match_labels {
        let field = format!("{field}.matchLabels[{key}]");
        check_key(key, &field, findings);
        check_value(value, &field, findings);
    }
    if selector.match_expressions.len() > MAX_REQUIREMENTS {
        findings.add(
            format!("{field}.matchExpressions"),
            format!(
                "{} requirements; a selector has at most {MAX_REQUIREMENTS}: list values in one",
                selector.match_expressions.len()
            ),
        );
        return;
    }
    for (index, requirement) in selector.match_expressions.iter().enumerate() {
        if findings.is_full() {
            break;
        }
        let field = format!("{field}.matchExpressions[{index}]");
        check_key(&requirement.key, &format!("{field}.key"), findings);
        let needs_values = matches!(
            requirement.operator,
            SelectorOperator::In | SelectorOperator::NotIn
        );
        if needs_values == requirement.values.is_empty() {
            findings.add(
                format!("{field}.values"),
                if needs_values {
                    "In and NotIn compare with values; list some"
                } else {
                    "Exists and DoesNotExist take no values; remove them"
                },
            );
        }
        for (index, value) in requirement.values.iter().enumerate() {
            if findings.is_full() {
                break;
            }
            check_value(value, &format!("{field}.values[{index}]"), findings);
        }
    }
}

fn check_key(key: &str, field: &str, findings: &mut Findings) {
    if !is_label_key(key) {
        findings.add(
            field,
            format!(
                "`{key}` is no label key; write one such as `app` or `app.kubernetes.io/name`, of letters, digits, \
                 `-`, `_` and `.`, at most 63 after the `/`"
            ),
        );
    }
}

fn check_value(value: &str, field: &str, findings: &mut Findings) {
    if !is_label_value(value) {
        findings.add(
            field,
            format!(
                "`{value}` is no label value; write at most 63 letters, digits, `-`, `_` and `.`, of which the first \
                 and the last are letters or digits"
            ),
        );
    }
}

/// The enforcers, unless there is an error about them.
pub(crate) fn enforcers(object: &PolicyObject, findings: &mut Findings) -> Option<Enforcers> {
    const FIELD: &str = "spec.policy.enforcer";
    if object.spec().policy.network_proxy_config.is_some() {
        findings.add("spec.policy.networkProxyConfig", NO_NETWORK_PROXY);
    }
    match Enforcers::parse(&object.spec().policy.enforcer) {
        Ok(enforcers) if enforcers.contains(Enforcer::NetworkProxy) => {
            findings.add(FIELD, NO_NETWORK_PROXY);
            None
        }
        Ok(enforcers) => Some(enforcers),
        Err(message) => {
            findings.add(FIELD, message);
            None
        }
    }
}

/// The mode, unless there is an error about it.
pub(crate) fn mode(object: &PolicyObject, findings: &mut Findings) -> Option<Mode> {
    const FIELD: &str = "spec.policy.mode";
    let policy = &object.spec().policy;
    match policy.mode.as_str() {
        "AlwaysAllow" => Some(Mode::AlwaysAllow),
        "RuntimeDefault" => Some(Mode::RuntimeDefault),
        "EnhanceProtect" if policy.enhance_protect.is_none() => {
            findings.add(
                "spec.policy.enhanceProtect",
                "mode EnhanceProtect needs its rules here; add the field",
            );
            None
        }
        "EnhanceProtect" => Some(Mode::EnhanceProtect),
        mode @ ("BehaviorModeling" | "DefenseInDepth") => {
            findings.add(
                FIELD,
                format!("{mode} is not supported by this version; write AlwaysAllow, RuntimeDefault or EnhanceProtect"),
            );
            None
        }
        other => {
            findings.add(
                FIELD,
                format!(
                    "`{other}` is no mode{}; write AlwaysAllow, RuntimeDefault or EnhanceProtect",
                    suggestion(other, MODES)
                ),
            );
            None
        }
    }
}

#[cfg(test)]
mod tests;
