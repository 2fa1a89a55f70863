// SPDX-License-Identifier: Apache-2.0
//! Seccomp: a container's own filter joined with its policy's.

use serde_json::Value;
use varmor_policy::plan::Seccomp;

/// The filter of both, as OCI `linux.seccomp`; never weaker than the container's own. `capabilities` is the container's
/// bounding set, on which the runtime's default filter depends. `None` means no filter, as before.
pub fn merged(
    own: Option<&Value>,
    policy: &Seccomp,
    capabilities: &[String],
) -> Result<Option<Value>, String> {
    varmor_policy::seccomp_merge::merge(own, policy, capabilities)
        .map_err(|error| error.to_string())
}
