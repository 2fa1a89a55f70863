// SPDX-License-Identifier: Apache-2.0
//! The fixed-size part of a profile, as the programs read it.

use varmor_bpf_abi::layout::{
    ADDRESS_FAMILIES, AutomatonRef, MOUNT_SETS, MountSet, PROFILE_BLOCK_MOUNT_AUDIT,
    PROFILE_BLOCK_MOUNT_DENY, PROFILE_BLOCK_OPEN_AUDIT, PROFILE_BLOCK_OPEN_DENY, PROFILE_COMPLAIN,
    PROFILE_EGRESS, PROFILE_PTRACE, PROFILE_SOCKETS, PROFILE_USERNS_AUDIT, PROFILE_USERNS_DENY,
    Profile, SocketRule,
};
use varmor_policy::plan::bpf::{self, BpfProfile, Masks};

use crate::prefixes;

/// Why a profile can't be loaded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// More address families than Linux has.
    #[error("socket rules for {found} address families, {ADDRESS_FAMILIES} at most")]
    Sockets {
        /// How many.
        found: usize,
    },
    /// More distinct sets of mount rules than a profile holds.
    #[error(
        "the mount rules make {found} distinct sets, {MOUNT_SETS} at most: use fewer mount rules that differ in flags"
    )]
    MountSets {
        /// How many.
        found: usize,
    },
    /// A mount automaton's verdict names a set that isn't there.
    #[error("a mount rule names set {found}, there are {sets}")]
    MountSet {
        /// The number.
        found: u16,
        /// How many there are.
        sets: usize,
    },
}

/// Where the parts of a profile that have maps of their own were put.
#[derive(Debug, Clone, Copy, Default)]
pub struct Parts {
    /// Key of the entries in `prefixes`, and of a profile's in `children`.
    pub generation: u64,
    /// Forward path automaton.
    pub forward: AutomatonRef,
    /// Backward path automaton.
    pub backward: AutomatonRef,
    /// Mount automaton.
    pub mount: AutomatonRef,
    /// Automaton of the executables that have rules of their own.
    pub targets: AutomatonRef,
}

/// The entry of the profile's array, or of its child's, which has the profile's key.
pub fn encode(key: u64, profile: &BpfProfile, parts: &Parts) -> Result<Profile, Error> {
    let Parts {
        generation,
        forward,
        backward,
        mount,
        targets,
    } = *parts;
    let (external, internal) = (profile.ptrace.external, profile.ptrace.internal);
    let mounts = mounts(profile)?;
    Ok(Profile {
        key,
        generation,
        capabilities_deny: profile.capabilities.deny,
        capabilities_audit: profile.capabilities.audit,
        forward,
        backward,
        mount,
        targets,
        flags: flags(profile),
        pod_self: profile
            .egress
            .as_ref()
            .map_or(0, |egress| egress.pod_self.into()),
        ptrace_external_deny: external.deny,
        ptrace_external_audit: external.audit,
        ptrace_internal_deny: internal.deny,
        ptrace_internal_audit: internal.audit,
        pad: [0; 4],
        any_source: any_source(profile),
        egress_first: profile
            .egress
            .as_ref()
            .map_or_else(Default::default, prefixes::first_bytes),
        sockets: sockets(profile)?,
        mounts,
    })
}

/// What the programs test before they look further.
fn flags(profile: &BpfProfile) -> u32 {
    let ptrace = [profile.ptrace.external, profile.ptrace.internal];
    let Masks { deny, audit } = profile.userns_create;
    [
        (profile.complain, PROFILE_COMPLAIN),
        (profile.egress.is_some(), PROFILE_EGRESS),
        (
            profile
                .sockets
                .iter()
                .any(|rule| *rule != Default::default()),
            PROFILE_SOCKETS,
        ),
        (
            ptrace.iter().any(|masks| masks.deny | masks.audit != 0),
            PROFILE_PTRACE,
        ),
        (deny, PROFILE_USERNS_DENY),
        (audit, PROFILE_USERNS_AUDIT),
        (profile.block_open.deny, PROFILE_BLOCK_OPEN_DENY),
        (profile.block_open.audit, PROFILE_BLOCK_OPEN_AUDIT),
        (profile.block_mount.deny, PROFILE_BLOCK_MOUNT_DENY),
        (profile.block_mount.audit, PROFILE_BLOCK_MOUNT_AUDIT),
    ]
    .into_iter()
    .filter_map(|(set, flag)| set.then_some(flag))
    .fold(0, |all, flag| all | flag)
}

fn sockets(profile: &BpfProfile) -> Result<[SocketRule; ADDRESS_FAMILIES], Error> {
    let mut all = [SocketRule::default(); ADDRESS_FAMILIES];
    let found = profile.sockets.len();
    if found > all.len() {
        return Err(Error::Sockets { found });
    }
    for (to, from) in all.iter_mut().zip(&profile.sockets) {
        *to = SocketRule {
            deny_protocols: from.protocols.deny,
            audit_protocols: from.protocols.audit,
            deny_types: from.types.deny,
            audit_types: from.types.audit,
        };
    }
    Ok(all)
}

fn mounts(profile: &BpfProfile) -> Result<[MountSet; MOUNT_SETS], Error> {
    let mut all = [MountSet::default(); MOUNT_SETS];
    let Some(mounts) = &profile.mounts else {
        return Ok(all);
    };
    let sets = mounts.sets.len();
    if sets > all.len() {
        return Err(Error::MountSets { found: sets });
    }
    let beyond = |set: &u16| *set != 0 && usize::from(*set) >= sets;
    if let Some(found) = mounts
        .automaton
        .verdicts
        .iter()
        .map(|verdict| verdict.ancestors)
        .find(beyond)
    {
        return Err(Error::MountSet { found, sets });
    }
    for (to, from) in all.iter_mut().zip(&mounts.sets) {
        *to = mount_set(from);
    }
    Ok(all)
}

fn any_source(profile: &BpfProfile) -> MountSet {
    profile
        .mounts
        .as_ref()
        .map_or_else(MountSet::default, |mounts| mount_set(&mounts.any_source()))
}

fn mount_set(from: &bpf::MountSet) -> MountSet {
    MountSet {
        deny_flags: from.deny_flags,
        deny_clear: from.deny_clear,
        audit_flags: from.audit_flags,
        audit_clear: from.audit_clear,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use varmor_policy::plan::automaton::{Automaton, PathVerdict};
    use varmor_policy::plan::bpf::{Mounts, Ptrace};

    #[test]
    fn every_rule_finds_its_place() {
        let mut sockets = vec![bpf::SocketRule::default(); 3];
        sockets[2] = bpf::SocketRule {
            types: Masks {
                deny: 1 << 3,
                audit: 1 << 4,
            },
            protocols: Masks {
                deny: 1 << 17,
                audit: 1 << 18,
            },
        };
        let profile = BpfProfile {
            complain: true,
            capabilities: Masks {
                deny: 1 << 21,
                audit: 1 << 13,
            },
            sockets,
            ptrace: Ptrace {
                external: Masks { deny: 1, audit: 2 },
                internal: Masks { deny: 4, audit: 8 },
            },
            userns_create: Masks {
                deny: true,
                audit: true,
            },
            block_open: Masks {
                deny: true,
                audit: false,
            },
            block_mount: Masks {
                deny: false,
                audit: true,
            },
            ..BpfProfile::default()
        };
        let forward = AutomatonRef {
            key: 5,
            class: 2,
            permissions: 1,
        };
        let encoded = encode(
            77,
            &profile,
            &Parts {
                generation: 6,
                forward,
                ..Parts::default()
            },
        )
        .unwrap();
        assert_eq!(
            (encoded.key, encoded.generation, encoded.forward),
            (77, 6, forward)
        );
        assert_eq!(
            (encoded.capabilities_deny, encoded.capabilities_audit),
            (1 << 21, 1 << 13)
        );
        let expected = PROFILE_COMPLAIN
            | PROFILE_SOCKETS
            | PROFILE_PTRACE
            | PROFILE_USERNS_DENY
            | PROFILE_USERNS_AUDIT
            | PROFILE_BLOCK_OPEN_DENY
            | PROFILE_BLOCK_MOUNT_AUDIT;
        assert_eq!(encoded.flags, expected);
        let inet = SocketRule {
            deny_protocols: 1 << 17,
            audit_protocols: 1 << 18,
            deny_types: 8,
            audit_types: 16,
        };
        assert_eq!(
            (encoded.sockets[2], encoded.sockets[3]),
            (inet, SocketRule::default())
        );
        assert_eq!(
            (encoded.ptrace_external_deny, encoded.ptrace_external_audit),
            (1, 2)
        );
        assert_eq!(
            (encoded.ptrace_internal_deny, encoded.ptrace_internal_audit),
            (4, 8)
        );
        assert_eq!(
            encode(1, &BpfProfile::default(), &Parts::default())
                .unwrap()
                .flags,
            0
        );
    }

    #[test]
    fn too_many_sets_and_sets_that_are_not_there_are_refused() {
        let verdicts = vec![
            PathVerdict::default(),
            PathVerdict {
                ancestors: 2,
                ..PathVerdict::default()
            },
        ];
        let automaton = Automaton {
            classes: [0; 256],
            stride_shift: 3,
            start: 0,
            transitions: vec![0; 8],
            accept: vec![0],
            verdicts,
        };
        let with = |sets| BpfProfile {
            mounts: Some(Mounts {
                automaton: automaton.clone(),
                sets: vec![bpf::MountSet::default(); sets],
            }),
            ..BpfProfile::default()
        };
        let error = |sets| encode(1, &with(sets), &Parts::default()).unwrap_err();
        assert_eq!(error(2), Error::MountSet { found: 2, sets: 2 });
        assert_eq!(error(257), Error::MountSets { found: 257 });
        assert!(encode(1, &with(256), &Parts::default()).is_ok());
        let families = BpfProfile {
            sockets: vec![bpf::SocketRule::default(); 65],
            ..BpfProfile::default()
        };
        assert_eq!(
            encode(1, &families, &Parts::default()).unwrap_err(),
            Error::Sockets { found: 65 }
        );
    }
}
