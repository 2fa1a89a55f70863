// SPDX-License-Identifier: Apache-2.0
//! What came of a case on one enforcer and one kernel; the guest's side writes it, the host's side reads it.

use serde::{Deserialize, Serialize};

use crate::enforcer::Enforcer;

/// One cell of the matrix.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Outcome {
    /// The case's name.
    pub case: String,
    /// The column.
    pub enforcer: Enforcer,
    /// So many actions were refused as they must be.
    pub refused: usize,
    /// So many neighbours were not refused.
    pub allowed: usize,
    /// So many actions were let through and reported.
    pub observed: usize,
    /// So many reports of refusals were read.
    pub reported: usize,
    /// The daemon refused the policy, as it must on a node of this kind.
    pub rejected: bool,
    /// What was otherwise than the case says.
    pub failures: Vec<String>,
    /// Why it was not run here.
    pub left_out: Option<String>,
}

impl Outcome {
    /// Nothing was tried yet.
    pub fn new(case: &str, enforcer: Enforcer) -> Self {
        Self {
            case: case.into(),
            enforcer,
            refused: 0,
            allowed: 0,
            observed: 0,
            reported: 0,
            rejected: false,
            failures: Vec::new(),
            left_out: None,
        }
    }

    /// Whether everything was as the case says.
    pub fn passed(&self) -> bool {
        self.failures.is_empty()
    }
}
