// SPDX-License-Identifier: Apache-2.0
//! Mode EnhanceProtect: the rules that a policy asks for, resolved once for all enforcers.

use super::effect::Effect;
use super::{ServiceName, Settings, services, target};
use crate::enforcer::{Enforcer, Enforcers};
use crate::error::{Findings, suggestion};
use crate::rules::{self, BpfPart, Group, Rule};
use crate::types::EnhanceProtect;

const FIELD: &str = "spec.policy.enhanceProtect";

/// The settings with their built-in rules looked up.
pub(crate) struct Enhance<'a> {
    pub(crate) settings: &'a EnhanceProtect,
    pub(crate) enforcers: Enforcers,
    /// What the cluster and the node fix.
    pub(crate) fixed: &'a Settings,
    /// What base and built-in rules do.
    pub(crate) effect: Effect,
    /// Rules for the whole container, in the order hardening, attack, vulnerability; each once.
    pub(crate) global: Vec<&'static Rule>,
    /// Rules for single executables: the rules, and the executables with their fields.
    pub(crate) targeted: Vec<(Vec<&'static Rule>, &'a [String], String)>,
}

impl<'a> Enhance<'a> {
    pub(crate) fn new(
        settings: &'a EnhanceProtect,
        enforcers: Enforcers,
        fixed: &'a Settings,
        findings: &mut Findings,
    ) -> Self {
        let mut enhance = Self {
            settings,
            enforcers,
            fixed,
            effect: Effect::of(settings),
            global: Vec::new(),
            targeted: Vec::new(),
        };
        enhance.lookup_all(Group::Hardening, &settings.hardening_rules, findings);
        for (index, entry) in settings.attack_protection_rules.iter().enumerate() {
            if findings.is_full() {
                break;
            }
            let field = format!("{FIELD}.attackProtectionRules[{index}]");
            if entry.rules.is_empty() {
                findings.add(
                    format!("{field}.rules"),
                    "no rule is named; name one, or remove the entry",
                );
            }
            let mut rules = Vec::new();
            for (position, name) in entry.rules.iter().enumerate() {
                if findings.is_full() {
                    break;
                }
                let field = format!("{field}.rules[{position}]");
                let targeted = !entry.targets.is_empty();
                if let Some(rule) = enhance.lookup(Group::Attack, name, targeted, &field, findings)
                {
                    push_once(
                        if targeted {
                            &mut rules
                        } else {
                            &mut enhance.global
                        },
                        rule,
                    );
                }
            }
            let field = format!("{field}.targets");
            if target::check(&entry.targets, &field, findings) && !entry.targets.is_empty() {
                enhance.targeted.push((rules, &entry.targets, field));
            }
        }
        enhance.lookup_all(
            Group::Vulnerability,
            &settings.vul_mitigation_rules,
            findings,
        );
        enhance.refuse_rules_of_missing_enforcers(findings);
        enhance
    }

    fn lookup_all(&mut self, group: Group, names: &[String], findings: &mut Findings) {
        for (index, name) in names.iter().enumerate() {
            if findings.is_full() {
                break;
            }
            let field = format!("{FIELD}.{}[{index}]", group.field());
            if let Some(rule) = self.lookup(group, name, false, &field, findings) {
                push_once(&mut self.global, rule);
            }
        }
    }

    fn refuse_rules_of_missing_enforcers(&self, findings: &mut Findings) {
        let settings = self.settings;
        let lists = [
            (
                "appArmorRawRules",
                !settings.app_armor_raw_rules.is_empty(),
                Enforcer::AppArmor,
            ),
            (
                "bpfRawRules",
                settings.bpf_raw_rules.is_some(),
                Enforcer::Bpf,
            ),
            (
                "syscallRawRules",
                !settings.syscall_raw_rules.is_empty(),
                Enforcer::Seccomp,
            ),
        ];
        for (field, present, enforcer) in lists {
            if present && !self.enforcers.contains(enforcer) {
                findings.add(
                    format!("{FIELD}.{field}"),
                    format!(
                        "needs the enforcer {}, and spec.policy.enforcer is `{}`; add it there or remove these rules",
                        enforcer.name(),
                        self.enforcers
                    ),
                );
            }
        }
        if settings.network_proxy_raw_rules.is_some() {
            findings.add(
                format!("{FIELD}.networkProxyRawRules"),
                crate::validate::NO_NETWORK_PROXY,
            );
        }
    }

    /// Looks a rule up and checks that one of the chosen enforcers does something for it.
    fn lookup(
        &self,
        group: Group,
        name: &str,
        targeted: bool,
        field: &str,
        findings: &mut Findings,
    ) -> Option<&'static Rule> {
        let found = find(group, name).and_then(|rule| {
            self.able(rule, name, targeted)?;
            self.resolved(rule, name)?;
            Ok(rule)
        });
        found.map_err(|message| findings.add(field, message)).ok()
    }

    /// Whether the policy's enforcers can hold a rule, for the whole container or for single executables.
    fn able(&self, rule: &Rule, name: &str, targeted: bool) -> Result<(), String> {
        let able = rule.enforcers();
        let able_here = able.iter().filter(|e| !targeted || *e != Enforcer::Seccomp);
        let able_here: Enforcers = able_here.collect();
        if able_here.iter().any(|e| self.enforcers.contains(e)) {
            return Ok(());
        }
        if able_here.is_empty() {
            return Err(format!(
                "only seccomp can hold `{name}`, and a filter holds the whole container; leave `targets` out"
            ));
        }
        let names: Vec<_> = able_here.iter().map(Enforcer::name).collect();
        let whom = if targeted {
            " for single executables"
        } else {
            ""
        };
        Err(format!(
            "`{}` cannot enforce `{name}`{whom}; add {} to spec.policy.enforcer",
            self.enforcers,
            names.join(" or ")
        ))
    }

    /// Whether the services that a rule names have been looked up.
    fn resolved(&self, rule: &Rule, name: &str) -> Result<(), String> {
        for part in rule.bpf {
            if let BpfPart::Service {
                namespace,
                name: service,
            } = part
            {
                let service = ServiceName::new(*namespace, *service);
                if !self.fixed.services.contains_key(&service) {
                    return Err(format!("`{name}` {}", services::unresolved(&service)));
                }
            }
        }
        Ok(())
    }
}

fn find(group: Group, name: &str) -> Result<&'static Rule, String> {
    let Some(rule) = rules::find(name) else {
        let names = rules::all()
            .flat_map(|rule| [rule.name].into_iter().chain(rule.aliases.iter().copied()));
        return Err(format!(
            "there is no rule `{name}`{}",
            suggestion(&rules::canonical(name), names)
        ));
    };
    if rule.group != group {
        return Err(format!(
            "`{name}` belongs into {}; move it there",
            rule.group.field()
        ));
    }
    Ok(rule)
}

fn push_once(rules: &mut Vec<&'static Rule>, rule: &'static Rule) {
    if !rules.contains(&rule) {
        rules.push(rule);
    }
}
