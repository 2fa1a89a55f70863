// SPDX-License-Identifier: Apache-2.0
//! The BPF part of a plan.

pub(crate) mod base;
mod children;
pub(crate) mod egress;
pub(crate) mod files;
pub(crate) mod mounts;
pub(crate) mod ptrace;
pub(crate) mod sockets;

use super::effect::Effect;
use super::{Part, ServiceAddresses, ServiceName};
use crate::automata::{MountPattern, PathRule, compile_mounts, compile_paths};
use crate::error::Findings;
use crate::pattern::Pattern;
use crate::plan::automaton::PathVerdict;
use crate::plan::bpf::{BpfProfile, Masks, MountSet};
use crate::rules::BpfPart;
use crate::types::BpfRawRules;

const FIELD: &str = "spec.policy.enhanceProtect.bpfRawRules";

/// Everything that goes into a profile, gathered before the tables are built.
#[derive(Default, Clone)]
struct Parts {
    profile: BpfProfile,
    paths: Vec<PathRule>,
    mounts: Vec<MountPattern>,
    destinations: Vec<egress::DestinationRule>,
    sockets: sockets::SocketRules,
    size: PatternSize,
}

/// How large the patterns of a policy are together, in bytes and globs after braces are multiplied out.
#[derive(Default, Clone)]
struct PatternSize(usize);

impl PatternSize {
    /// Four times what 1,000 long rules need; a state of an automaton has at least one.
    const MAX: usize = 1 << 18;

    /// Counts a pattern; false, with an error, when that is too much.
    fn add(&mut self, pattern: &Pattern, field: &str, findings: &mut Findings) -> bool {
        self.0 += pattern.size();
        if self.0 > Self::MAX {
            findings.add(
                field,
                format!(
                    "up to here the patterns have more than {} bytes, with braces multiplied out; remove rules or alternatives",
                    Self::MAX
                ),
            );
        }
        self.0 <= Self::MAX
    }
}

/// The profile of one policy, or of several that hold together; `None` without any, or when their rules do not fit.
pub(super) fn profile(policies: &mut [&mut Part<'_>]) -> Option<BpfProfile> {
    let mut parts = Parts::default();
    for policy in policies.iter_mut() {
        parts.add_policy(policy);
    }
    let children = children::build(&parts, policies);
    let last = policies.last_mut()?;
    let field = match last.enhance {
        Some(_) => FIELD,
        None => "spec.policy.mode",
    };
    let profile = parts.build(field, &mut last.findings)?;
    Some(BpfProfile {
        children,
        ..profile
    })
}

impl Parts {
    /// Adds what a policy refuses and reports.
    fn add_policy(&mut self, policy: &mut Part<'_>) {
        let services = &policy.fixed.services;
        if policy.restricted {
            self.add_all(base::RUNTIME_DEFAULT, policy.effect, services);
        }
        let findings = &mut policy.findings;
        let Some(enhance) = &policy.enhance else {
            return;
        };
        for rule in &enhance.global {
            self.add_all(rule.bpf, enhance.effect, services);
        }
        if let Some(raw) = &enhance.settings.bpf_raw_rules {
            self.add_raw(raw, findings);
        }
    }

    /// Adds rules of the user's own.
    fn add_raw(&mut self, raw: &BpfRawRules, findings: &mut Findings) {
        let Self {
            paths,
            mounts,
            size,
            ..
        } = self;
        files::add(&raw.files, &format!("{FIELD}.files"), paths, size, findings);
        files::add(
            &raw.processes,
            &format!("{FIELD}.processes"),
            paths,
            size,
            findings,
        );
        mounts::add(
            &raw.mounts,
            &format!("{FIELD}.mounts"),
            mounts,
            size,
            findings,
        );
        if let Some(network) = &raw.network {
            let field = format!("{FIELD}.network");
            self.sockets
                .add(&network.sockets, &format!("{field}.sockets"), findings);
            if let Some(rules) = &network.egress {
                egress::add(
                    rules,
                    &format!("{field}.egress"),
                    &mut self.destinations,
                    findings,
                );
            }
        }
        if let Some(rule) = &raw.ptrace {
            ptrace::add(
                rule,
                &format!("{FIELD}.ptrace"),
                &mut self.profile.ptrace,
                findings,
            );
        }
    }

    /// Adds parts of built-in rules. Masks only grow: no rule takes back what another refuses.
    fn add_all(&mut self, parts: &[BpfPart], effect: Effect, services: &ServiceAddresses) {
        for part in parts {
            match *part {
                BpfPart::Path(pattern, permissions) => {
                    let pattern =
                        Pattern::path(pattern).expect("patterns of the tables are tested");
                    let Masks { deny, audit } = effect.masks(permissions);
                    self.paths.push((
                        pattern,
                        PathVerdict {
                            deny,
                            audit,
                            ..PathVerdict::default()
                        },
                    ));
                }
                BpfPart::Capabilities(mask) => {
                    let Masks { deny, audit } = effect.masks(mask);
                    self.profile.capabilities.deny |= deny;
                    self.profile.capabilities.audit |= audit;
                }
                BpfPart::Destination(ip) => {
                    let address = ip.parse().expect("addresses of the tables are tested");
                    self.destinations
                        .push(egress::DestinationRule::address(address, effect));
                }
                BpfPart::Service { namespace, name } => {
                    // One that was not looked up has been refused with its field.
                    let service = services.get(&ServiceName::new(namespace, name));
                    self.destinations.extend(
                        service
                            .into_iter()
                            .flatten()
                            .map(|address| egress::DestinationRule::service(address, effect)),
                    );
                }
                BpfPart::Sockets {
                    families,
                    types,
                    protocols,
                } => self.sockets.built_in(families, types, protocols, effect),
                BpfPart::BlockDevices { open, mount } => {
                    let profile = &mut self.profile;
                    for (masks, on) in [
                        (&mut profile.block_open, open),
                        (&mut profile.block_mount, mount),
                    ] {
                        let Masks { deny, audit } = effect.masks(on);
                        masks.deny |= deny;
                        masks.audit |= audit;
                    }
                }
                BpfPart::PtraceExternal(permissions) => {
                    let Masks { deny, audit } = effect.masks(permissions);
                    self.profile.ptrace.external.deny |= deny;
                    self.profile.ptrace.external.audit |= audit;
                }
                BpfPart::Mount {
                    fstype,
                    source,
                    flags,
                } => {
                    let source =
                        Pattern::mount_source(source).expect("patterns of the tables are tested");
                    let Masks { deny, audit } = effect.masks(flags);
                    let set = MountSet {
                        deny_flags: deny,
                        audit_flags: audit,
                        ..MountSet::default()
                    };
                    self.mounts.push((fstype.map(str::to_owned), source, set));
                }
                BpfPart::UsernsCreate => {
                    let Masks { deny, audit } = effect.masks(true);
                    self.profile.userns_create.deny |= deny;
                    self.profile.userns_create.audit |= audit;
                }
            }
        }
    }

    fn build(mut self, field: &str, findings: &mut Findings) -> Option<BpfProfile> {
        let paths = compile_paths(&self.paths)
            .map_err(|e| findings.add(format!("{field}.files"), e.to_string()))
            .ok()?;
        self.profile.forward = paths.forward;
        self.profile.backward = paths.backward;
        self.mounts
            .retain(|(_, _, set)| *set != MountSet::default());
        self.profile.mounts = compile_mounts(&self.mounts)
            .map_err(|e| findings.add(format!("{field}.mounts"), e.to_string()))
            .ok()?;
        self.profile.egress = egress::build(
            &self.destinations,
            &format!("{field}.network.egress"),
            findings,
        );
        self.profile.sockets = self.sockets.build();
        Some(self.profile)
    }
}

#[cfg(test)]
mod built_in_tests;
#[cfg(test)]
mod tests;
