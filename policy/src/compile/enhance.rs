//! Mode EnhanceProtect: the rules that a policy asks for, resolved once for all enforcers.

use super::effect::Effect;
use crate::enforcer::{Enforcer, Enforcers};
use crate::error::{Findings, suggestion};
use crate::rules::{self, Group, Rule};
use crate::types::EnhanceProtect;

const FIELD: &str = "spec.policy.enhanceProtect";

/// The settings with their built-in rules looked up.
pub(crate) struct Enhance<'a> {
    pub(crate) settings: &'a EnhanceProtect,
    pub(crate) enforcers: Enforcers,
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
        findings: &mut Findings,
    ) -> Self {
        let mut enhance = Self {
            settings,
            enforcers,
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
                if let Some(rule) =
                    lookup(Group::Attack, name, enforcers, targeted, &field, findings)
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
            if !entry.targets.is_empty() {
                enhance
                    .targeted
                    .push((rules, &entry.targets, format!("{field}.targets")));
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
            if let Some(rule) = lookup(group, name, self.enforcers, false, &field, findings) {
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
}

fn push_once(rules: &mut Vec<&'static Rule>, rule: &'static Rule) {
    if !rules.iter().any(|other| std::ptr::eq(*other, rule)) {
        rules.push(rule);
    }
}

/// Looks a rule up and checks that one of the chosen enforcers does something for it.
fn lookup(
    group: Group,
    name: &str,
    enforcers: Enforcers,
    targeted: bool,
    field: &str,
    findings: &mut Findings,
) -> Option<&'static Rule> {
    let Some(rule) = rules::find(name) else {
        let names = rules::all()
            .flat_map(|rule| [rule.name].into_iter().chain(rule.aliases.iter().copied()));
        findings.add(
            field,
            format!(
                "there is no rule `{name}`{}",
                suggestion(&rules::canonical(name), names)
            ),
        );
        return None;
    };
    if rule.group != group {
        findings.add(
            field,
            format!(
                "`{name}` belongs into {}; move it there",
                rule.group.field()
            ),
        );
        return None;
    }
    if targeted && (rule.apparmor.is_empty() || !enforcers.contains(Enforcer::AppArmor)) {
        findings.add(
            field,
            if rule.apparmor.is_empty() {
                format!("AppArmor can do nothing for `{name}`, and only AppArmor holds single executables; leave `targets` out")
            } else {
                format!("only AppArmor holds single executables; add AppArmor to the enforcer `{enforcers}` or leave `targets` out")
            },
        );
        return None;
    }
    let able: Enforcers = [
        (Enforcer::AppArmor, !rule.apparmor.is_empty()),
        (Enforcer::Bpf, !rule.bpf.is_empty()),
        (Enforcer::Seccomp, !rule.seccomp.is_empty()),
    ]
    .into_iter()
    .filter_map(|(enforcer, able)| able.then_some(enforcer))
    .collect();
    if !able.iter().any(|enforcer| enforcers.contains(enforcer)) {
        let able: Vec<_> = able.iter().map(Enforcer::name).collect();
        findings.add(
            field,
            format!(
                "`{enforcers}` cannot enforce `{name}`; add {} to spec.policy.enforcer",
                able.join(" or ")
            ),
        );
        return None;
    }
    Some(rule)
}
