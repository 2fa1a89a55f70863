// SPDX-License-Identifier: Apache-2.0
//! The tables of a BPF profile, with names for numbers.

use serde::Serialize;
use varmor_policy::PolicyObject;
use varmor_policy::capability;
use varmor_policy::explain::{listing, names};
use varmor_policy::plan::automaton::Automaton;
use varmor_policy::plan::bpf::{BpfProfile, Masks, MountSet};
use varmor_policy::plan::egress::{Egress, PortSet};

/// A profile's tables.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Tables {
    pub profile: String,
    pub capabilities: Effect<Vec<&'static str>>,
    pub paths: Paths,
    pub sockets: Vec<Socket>,
    pub egress: Option<Destinations>,
    pub ptrace: Ptrace,
    pub mounts: Mounts,
    pub user_namespaces: Effect<bool>,
    pub block_devices: BlockDevices,
    /// Rules for single executables, in place of these.
    pub children: Vec<Child>,
}

#[derive(Debug, Serialize)]
pub struct Effect<T> {
    pub refused: T,
    pub reported: T,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Paths {
    pub rules: Vec<PathRule>,
    /// Of patterns that begin with a literal.
    pub forward: Option<Size>,
    /// Of patterns that begin with `**`.
    pub backward: Option<Size>,
}

#[derive(Debug, Serialize)]
pub struct PathRule {
    pub pattern: String,
    #[serde(flatten)]
    pub permissions: Effect<Vec<&'static str>>,
    pub field: String,
    pub rule: String,
    /// The executables that it holds for; empty is the whole container.
    pub targets: Vec<String>,
}

/// Size of an automaton.
#[derive(Debug, Serialize)]
pub struct Size {
    pub states: usize,
    pub classes: usize,
    pub verdicts: usize,
    /// Of its tables in the kernel.
    pub bytes: usize,
}

#[derive(Debug, Serialize)]
pub struct Socket {
    pub family: String,
    pub types: Effect<Vec<String>>,
    pub protocols: Effect<Vec<String>>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Destinations {
    pub prefixes: Vec<Prefix>,
    /// The pod's own addresses.
    pub pod_self: Vec<Ports>,
}

#[derive(Debug, Serialize)]
pub struct Prefix {
    pub prefix: String,
    pub ports: Vec<Ports>,
}

#[derive(Debug, Serialize)]
pub struct Ports {
    pub first: u16,
    pub last: u16,
    pub refused: bool,
    pub reported: bool,
}

#[derive(Debug, Serialize)]
pub struct Ptrace {
    /// Processes outside the container.
    pub external: Effect<Vec<&'static str>>,
    /// Processes of the container.
    pub internal: Effect<Vec<&'static str>>,
}

#[derive(Debug, Serialize)]
pub struct Mounts {
    pub rules: Vec<MountRule>,
    pub automaton: Option<Size>,
    /// Distinct sets of flags that the automaton chooses from.
    pub sets: Vec<FlagSet>,
}

#[derive(Debug, Serialize)]
pub struct MountRule {
    pub fstype: Option<String>,
    pub source: String,
    pub flags: FlagSet,
    pub field: String,
    pub rule: String,
}

/// Flags any of which makes a rule hold, when set or when clear.
#[derive(Debug, Serialize)]
pub struct FlagSet {
    pub set: Effect<Vec<String>>,
    pub clear: Effect<Vec<String>>,
}

#[derive(Debug, Serialize)]
pub struct BlockDevices {
    pub open: Effect<bool>,
    pub mount: Effect<bool>,
}

#[derive(Debug, Serialize)]
pub struct Child {
    pub targets: Vec<String>,
    pub forward: Option<Size>,
    pub backward: Option<Size>,
    pub mounts: Option<Size>,
}

fn effect<T: Copy, U>(masks: Masks<T>, of: impl Fn(T) -> U) -> Effect<U> {
    Effect {
        refused: of(masks.deny),
        reported: of(masks.audit),
    }
}

impl Tables {
    /// The tables of a profile that a policy was compiled to.
    pub fn of(name: &str, object: &PolicyObject, profile: &BpfProfile) -> Self {
        let (paths, mounts) = listing::bpf_rules(object);
        let size = |automaton: &Option<Automaton>| automaton.as_ref().map(size);
        Self {
            profile: name.to_owned(),
            capabilities: effect(profile.capabilities, |mask| {
                capability::names(mask).collect()
            }),
            paths: Paths {
                rules: paths.into_iter().map(PathRule::from).collect(),
                forward: size(&profile.forward),
                backward: size(&profile.backward),
            },
            sockets: sockets(profile),
            egress: profile.egress.as_ref().map(destinations),
            ptrace: Ptrace {
                external: effect(profile.ptrace.external, names::ptrace),
                internal: effect(profile.ptrace.internal, names::ptrace),
            },
            mounts: Mounts {
                rules: mounts.into_iter().map(MountRule::from).collect(),
                automaton: profile
                    .mounts
                    .as_ref()
                    .map(|mounts| self::size(&mounts.automaton)),
                sets: profile
                    .mounts
                    .iter()
                    .flat_map(|mounts| &mounts.sets[1..])
                    .map(flag_set)
                    .collect(),
            },
            user_namespaces: effect(profile.userns_create, |on| on),
            block_devices: BlockDevices {
                open: effect(profile.block_open, |on| on),
                mount: effect(profile.block_mount, |on| on),
            },
            children: profile
                .children
                .iter()
                .map(|child| Child {
                    targets: child.targets.clone(),
                    forward: size(&child.profile.forward),
                    backward: size(&child.profile.backward),
                    mounts: child
                        .profile
                        .mounts
                        .as_ref()
                        .map(|mounts| self::size(&mounts.automaton)),
                })
                .collect(),
        }
    }
}

impl From<listing::PathRule> for PathRule {
    fn from(rule: listing::PathRule) -> Self {
        Self {
            pattern: rule.pattern,
            permissions: effect(rule.permissions, names::permissions),
            field: rule.field,
            rule: rule.rule,
            targets: rule.targets,
        }
    }
}

impl From<listing::MountRule> for MountRule {
    fn from(rule: listing::MountRule) -> Self {
        Self {
            fstype: rule.fstype,
            source: rule.source,
            flags: FlagSet {
                set: effect(rule.set, names::mount_flags),
                clear: effect(rule.clear, names::mount_flags),
            },
            field: rule.field,
            rule: rule.rule,
        }
    }
}

fn flag_set(set: &MountSet) -> FlagSet {
    let masks = |deny, audit| effect(Masks { deny, audit }, names::mount_flags);
    FlagSet {
        set: masks(set.deny_flags, set.audit_flags),
        clear: masks(set.deny_clear, set.audit_clear),
    }
}

fn size(automaton: &Automaton) -> Size {
    Size {
        states: automaton.accept.len(),
        classes: usize::from(automaton.classes.iter().max().copied().unwrap_or_default()) + 1,
        verdicts: automaton.verdicts.len(),
        bytes: automaton.bytes(),
    }
}

/// Families with rules; all of them as one entry when they have the same.
fn sockets(profile: &BpfProfile) -> Vec<Socket> {
    let rules = &profile.sockets;
    let entry = |family: String, index: usize| Socket {
        family,
        types: effect(rules[index].types, names::socket_types),
        protocols: effect(rules[index].protocols, names::protocols),
    };
    if rules.len() > 1 && rules.iter().all(|rule| *rule == rules[0]) {
        return vec![entry("all".to_owned(), 0)];
    }
    rules
        .iter()
        .enumerate()
        .filter(|(_, rule)| **rule != Default::default())
        .map(|(index, _)| entry(names::family(index), index))
        .collect()
}

fn destinations(egress: &Egress) -> Destinations {
    let ports = |set: u16| ports(&egress.port_sets[usize::from(set)]);
    Destinations {
        prefixes: egress
            .prefixes
            .iter()
            .map(|prefix| Prefix {
                prefix: match prefix.address.to_ipv4_mapped() {
                    Some(address) if prefix.length >= 96 => {
                        format!("{address}/{}", prefix.length - 96)
                    }
                    _ => format!("{}/{}", prefix.address, prefix.length),
                },
                ports: ports(prefix.port_set),
            })
            .collect(),
        pod_self: ports(egress.pod_self),
    }
}

fn ports(set: &PortSet) -> Vec<Ports> {
    set.ranges
        .iter()
        .map(|(first, last, refused, reported)| Ports {
            first: *first,
            last: *last,
            refused: *refused,
            reported: *reported,
        })
        .collect()
}
