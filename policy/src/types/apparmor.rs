// SPDX-License-Identifier: Apache-2.0
//! Rules that may hold for single executables only.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// One entry of `attackProtectionRules`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AttackProtectionRule {
    /// Names of built-in rules.
    pub rules: Vec<String>,
    /// Absolute paths of executables; empty is the whole container. AppArmor only.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub targets: Vec<String>,
}

/// One entry of `appArmorRawRules`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AppArmorRawRule {
    /// Rules in AppArmor's language; each ends with a comma.
    pub rules: String,
    /// Absolute paths of executables; empty is the whole container.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub targets: Vec<String>,
}
