// SPDX-License-Identifier: Apache-2.0
//! Seccomp rules as in the OCI runtime specification (config-linux.md, `linux.seccomp.syscalls`).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A LinuxSyscall of the OCI runtime specification.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SyscallRule {
    /// Names of system calls.
    pub names: Vec<String>,
    /// `SCMP_ACT_*`.
    pub action: String,
    /// The errno of SCMP_ACT_ERRNO or the message of SCMP_ACT_TRACE; EPERM when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub errno_ret: Option<u32>,
    /// Comparisons on different arguments, all of which must hold; comparisons on one argument are alternatives.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub args: Vec<SyscallArg>,
}

/// A LinuxSeccompArg of the OCI runtime specification.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SyscallArg {
    /// Argument number, 0 to 5.
    pub index: u32,
    /// Value compared with; for SCMP_CMP_MASKED_EQ the mask.
    pub value: u64,
    /// For SCMP_CMP_MASKED_EQ the value after masking.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub value_two: u64,
    /// `SCMP_CMP_*`.
    pub op: String,
}

#[allow(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde passes a reference"
)]
fn is_zero(value: &u64) -> bool {
    *value == 0
}
