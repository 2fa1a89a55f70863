// SPDX-License-Identifier: Apache-2.0
//! The path and mount rules behind a policy's automata, which themselves no longer say what they were made of.

use super::parts::{self, Part};
use crate::compile::bpf::{base, files, mounts};
use crate::compile::effect::Effect;
use crate::error::Findings;
use crate::plan::bpf::Masks;
use crate::rules::{self, BpfPart};
use crate::types::{EnhanceProtect, PolicyObject};

/// A path rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PathRule {
    /// The policy's field.
    pub field: String,
    /// The rule's name, for built-in rules; else empty.
    pub rule: String,
    /// The executables that it holds for; empty is the whole container.
    pub targets: Vec<String>,
    /// The pattern.
    pub pattern: String,
    /// Permissions, `PERM_*` bits.
    pub permissions: Masks<u16>,
}

/// A mount rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MountRule {
    /// The policy's field.
    pub field: String,
    /// The rule's name, for built-in rules; else empty.
    pub rule: String,
    /// The file system type; `None` is any.
    pub fstype: Option<String>,
    /// The pattern for the source.
    pub source: String,
    /// Flags any of which makes the rule hold when set.
    pub set: Masks<u32>,
    /// Flags any of which makes the rule hold when clear.
    pub clear: Masks<u32>,
}

/// The path and mount rules of a policy's BPF part, in the policy's order. The policy is one that compiles.
pub fn bpf_rules(object: &PolicyObject) -> (Vec<PathRule>, Vec<MountRule>) {
    let mut listing = Listing::default();
    for part in parts::of(object) {
        listing.add(&part);
    }
    (listing.paths, listing.mounts)
}

#[derive(Default)]
struct Listing {
    paths: Vec<PathRule>,
    mounts: Vec<MountRule>,
}

impl Listing {
    fn add(&mut self, part: &Part) {
        let body = &part.object.spec().policy;
        let empty = EnhanceProtect::default();
        let (settings, restricted) = match (&body.enhance_protect, body.mode.as_str()) {
            (Some(settings), "EnhanceProtect") => (settings, !settings.privileged),
            (_, mode) => (&empty, mode == "RuntimeDefault"),
        };
        let effect = Effect::of(settings);
        if restricted {
            self.built_in(base::RUNTIME_DEFAULT, effect, part, &[]);
        }
        let attacks = settings.attack_protection_rules.iter();
        let targets = attacks.clone().flat_map(|entry| entry.targets.clone());
        let targets: Vec<String> = targets.collect();
        let names = settings
            .hardening_rules
            .iter()
            .chain(attacks.flat_map(|entry| &entry.rules))
            .chain(&settings.vul_mitigation_rules);
        for rule in names.filter_map(|name| rules::find(name)) {
            self.built_in(rule.bpf, effect, part, &targets);
        }
        if let Some(raw) = &settings.bpf_raw_rules {
            // The rules have been checked: nothing is found.
            let findings = &mut Findings::new(part.object.reference());
            for rule in raw.files.iter().chain(&raw.processes) {
                let effect = Effect::from_qualifiers(&rule.qualifiers, "", findings);
                let permissions = files::permissions(&rule.permissions, "", findings);
                self.paths.push(PathRule {
                    field: part.field.clone(),
                    rule: String::new(),
                    targets: Vec::new(),
                    pattern: rule.pattern.clone(),
                    permissions: effect.masks(permissions),
                });
            }
            for rule in &raw.mounts {
                let effect = Effect::from_qualifiers(&rule.qualifiers, "", findings);
                let (set, clear) = mounts::flags(&rule.flags, "", findings);
                self.mounts.push(MountRule {
                    field: part.field.clone(),
                    rule: String::new(),
                    fstype: (rule.fstype != "*").then(|| rule.fstype.clone()),
                    source: rule.source_pattern.clone(),
                    set: effect.masks(set),
                    clear: effect.masks(clear),
                });
            }
        }
    }

    fn built_in(&mut self, bpf: &[BpfPart], effect: Effect, part: &Part, targets: &[String]) {
        for one in bpf {
            match one {
                BpfPart::Path(pattern, permissions) => self.paths.push(PathRule {
                    field: part.field.clone(),
                    rule: part.rule.clone(),
                    targets: targets.to_vec(),
                    pattern: (*pattern).to_owned(),
                    permissions: effect.masks(*permissions),
                }),
                BpfPart::Mount {
                    fstype,
                    source,
                    flags,
                } => self.mounts.push(MountRule {
                    field: part.field.clone(),
                    rule: part.rule.clone(),
                    fstype: fstype.map(str::to_owned),
                    source: (*source).to_owned(),
                    set: effect.masks(*flags),
                    clear: Masks::default(),
                }),
                _ => {}
            }
        }
    }
}
