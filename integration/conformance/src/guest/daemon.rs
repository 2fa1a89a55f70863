// SPDX-License-Identifier: Apache-2.0
//! Policies, brought to the daemon and in force when the call returns.

use anyhow::{Context, Result, bail};
use serde_json::Value;
use varmor_node_api::{Client, DEFAULT_SOCKET, api};

use super::NAMESPACE;

/// Compiling and loading, in emulation on a busy machine.
const WAIT_MS: u32 = 120_000;

/// A connection.
pub struct Policies(Client);

impl Policies {
    /// Connects.
    pub async fn connect() -> Result<Self> {
        Ok(Self(Client::connect(DEFAULT_SOCKET).await?))
    }

    /// Makes these all the policies that there are. The error is the daemon's, or says what of them does not hold.
    pub async fn become_all(&self, objects: &[Value]) -> Result<()> {
        let request = api::ApplyRequest {
            objects: Value::Array(objects.to_vec()).to_string(),
            replace_all: true,
            wait_ms: WAIT_MS,
            ..Default::default()
        };
        let response = self.0.apply(request).await?;
        for result in &response.results {
            if result.outcome == api::object_result::Outcome::REJECTED.into() {
                bail!("the policy was refused: {}", result.message);
            }
        }
        if response.timed_out {
            bail!("the policies were not in force after {} s", WAIT_MS / 1000);
        }
        let request = api::ListRequest {
            namespace: NAMESPACE.into(),
            ..Default::default()
        };
        let listed = self.0.list(request).await.context("the list of policies")?;
        for policy in &listed.policies {
            let of_enforcers = policy
                .enforcers
                .iter()
                .filter(|state| !state.in_force)
                .map(|state| format!("{}: {}", state.enforcer, state.reason));
            let of_containers = policy
                .containers
                .iter()
                .flat_map(|container| container.shortfalls.iter().cloned());
            let wrong: Vec<_> = of_enforcers
                .chain(of_containers)
                .chain(policy.errors.iter().cloned())
                .collect();
            if !wrong.is_empty() {
                bail!("not in force: {}", wrong.join("; "));
            }
        }
        Ok(())
    }
}
