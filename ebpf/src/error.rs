// SPDX-License-Identifier: Apache-2.0
//! What can go wrong between the daemon and the kernel.

use std::io;
use std::path::PathBuf;

use crate::{automata, host, prefixes, profile};

/// Why an operation on the programs or their tables failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The node can't run BPF LSM programs.
    #[error(transparent)]
    Host(#[from] host::Error),
    /// A pinned map could not be used.
    #[error(transparent)]
    Map(#[from] varmor_bpf_abi::maps::Error),
    /// /proc did not answer.
    #[error(transparent)]
    Procfs(#[from] varmor_bpf_abi::procfs::Error),
    /// The kernel's types could not be read.
    #[error("cannot read the kernel's BTF: {0}")]
    Btf(#[from] aya::BtfError),
    /// The kernel could not be asked what it supports.
    #[error("cannot find out whether the kernel has task storage: {0}")]
    Probe(#[from] aya::sys::SyscallError),
    /// The object's maps could not be made.
    #[error("cannot make the BPF maps under {}: {source}", path.display())]
    Maps {
        /// Folder of the pins.
        path: PathBuf,
        /// Why.
        source: Box<aya::EbpfError>,
    },
    /// A program without which nothing can be enforced is not in use.
    #[error(
        "the BPF program {program} cannot be used on this kernel: {reason}; without it nothing can be enforced: {not_enforced}"
    )]
    Program {
        /// The program.
        program: &'static str,
        /// Why.
        reason: String,
        /// What it is for.
        not_enforced: &'static str,
    },
    /// A pin could not be made, moved or removed.
    #[error("cannot {operation} the pin {}: {source}", path.display())]
    Pin {
        /// What was tried.
        operation: &'static str,
        /// The pin.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A profile's rules can't be put into the kernel's tables.
    #[error("profile {name}: {source}")]
    Rules {
        /// Name of the profile.
        name: String,
        /// Why.
        source: Box<RulesError>,
    },
    /// A table of a profile could not be made.
    #[error("profile {name}: cannot make the map for {table}: {source}")]
    Table {
        /// Name of the profile.
        name: String,
        /// Which one.
        table: &'static str,
        /// Why.
        source: io::Error,
    },
    /// A profile that containers use can't be removed.
    #[error("profile {name} is in use by {containers} containers: give them another profile first")]
    InUse {
        /// Name of the profile.
        name: String,
        /// How many use it.
        containers: usize,
    },
    /// Running tasks could not be found and marked.
    #[error("cannot mark the running processes of container {container_id}: {reason}")]
    Mark {
        /// The container.
        container_id: String,
        /// Why.
        reason: String,
    },
    /// The ring buffer can't be read.
    #[error("cannot read the reports of the BPF programs from {}: {source}", path.display())]
    Violations {
        /// The pin.
        path: PathBuf,
        /// Why.
        source: Box<aya::maps::MapError>,
    },
    /// The system gave no random number.
    #[error("cannot get a random number: {0}")]
    Random(io::Error),
}

/// Why rules can't be put into the kernel's tables.
#[derive(Debug, thiserror::Error)]
pub enum RulesError {
    /// An automaton doesn't fit.
    #[error("{automaton} rules: {source}")]
    Automaton {
        /// Which rules it is for.
        automaton: &'static str,
        /// Why.
        source: automata::Error,
    },
    /// Two rule sets for one executable: which one holds?
    #[error("two sets of rules are for the executable {0}: a defect of the plan")]
    Target(String),
    /// The targets don't fit into one automaton.
    #[error("the executables with rules of their own: {0}")]
    Targets(#[from] varmor_policy::automata::AutomatonError),
    /// Egress rules don't fit.
    #[error(transparent)]
    Prefixes(#[from] prefixes::Error),
    /// Socket or mount rules don't fit.
    #[error(transparent)]
    Profile(#[from] profile::Error),
}
