// SPDX-License-Identifier: Apache-2.0
//! The cluster.

/// Options of `policy-sync controller`.
#[derive(Debug, Clone, clap::Args)]
pub struct Options {}

/// Runs until it is told to stop.
pub async fn run(_options: Options) -> anyhow::Result<()> {
    crate::stopped().await
}
