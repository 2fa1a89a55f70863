// SPDX-License-Identifier: Apache-2.0
//! Where the maps and links are pinned.
//!
//! bpffs refuses names with a dot (`BPF_OBJ_PIN` answers EPERM), so none has one.

/// Folder of every pin, on a bpffs.
pub const DIR: &str = "/sys/fs/bpf/varmor";

/// Map: container key to [`Container`](crate::layout::Container).
pub const CONTAINERS: &str = "containers";
/// Map: container key to [`ContainerState`](crate::layout::ContainerState).
pub const STATES: &str = "states";
/// Map: inode number of a mount namespace to container key.
pub const NAMESPACES: &str = "namespaces";
/// Map: profile key to an array of one [`Profile`](crate::layout::Profile).
pub const PROFILES: &str = "profiles";
/// Map: [`ChildKey`](crate::layout::ChildKey) to an array of one [`Profile`](crate::layout::Profile).
pub const CHILDREN: &str = "children";
/// Map: automaton key to an array of one automaton of the smallest size.
pub const AUTOMATA_S: &str = "automata_s";
/// Map: as [`AUTOMATA_S`], the second size.
pub const AUTOMATA_M: &str = "automata_m";
/// Map: as [`AUTOMATA_S`], the third size.
pub const AUTOMATA_L: &str = "automata_l";
/// Map: as [`AUTOMATA_S`], the largest size.
pub const AUTOMATA_XL: &str = "automata_xl";
/// Map: [`PrefixKey`](crate::layout::PrefixKey) to [`PrefixValue`](crate::layout::PrefixValue).
pub const PREFIXES: &str = "prefixes";
/// Map: task to [`Mark`](crate::layout::Mark).
pub const SUBJECTS: &str = "subjects";
/// Ring buffer of [`ViolationHeader`](crate::layout::ViolationHeader) and text.
pub const VIOLATIONS: &str = "violations";
/// Map: per-CPU counters, see [`layout`](crate::layout) `COUNTER_*`.
pub const COUNTERS: &str = "counters";
/// Map: one [`Settings`](crate::layout::Settings).
pub const SETTINGS: &str = "settings";
/// Map: one [`MarkRequest`](crate::layout::MarkRequest).
pub const MARK_REQUEST: &str = "mark_request";
/// Map: one [`Meta`](crate::layout::Meta).
pub const META: &str = "meta";
/// Prefix of a pinned link's name; the program's name follows.
pub const LINK_PREFIX: &str = "link_";
