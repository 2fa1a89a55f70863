// SPDX-License-Identifier: Apache-2.0
//! The enforcers, as columns of the matrix.

use serde::{Deserialize, Serialize};

/// A column.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    clap::ValueEnum,
)]
pub enum Enforcer {
    /// The AppArmor LSM.
    #[value(name = "AppArmor")]
    AppArmor,
    /// The BPF programs.
    #[serde(rename = "BPF")]
    #[value(name = "BPF")]
    Bpf,
    /// The seccomp filter.
    #[value(name = "Seccomp")]
    Seccomp,
}

impl Enforcer {
    /// In the order of the columns.
    pub const ALL: [Self; 3] = [Self::AppArmor, Self::Bpf, Self::Seccomp];

    /// As a policy names it.
    pub fn name(self) -> &'static str {
        match self {
            Self::AppArmor => "AppArmor",
            Self::Bpf => "BPF",
            Self::Seccomp => "Seccomp",
        }
    }
}

impl std::fmt::Display for Enforcer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.name())
    }
}
