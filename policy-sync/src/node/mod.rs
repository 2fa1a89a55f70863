// SPDX-License-Identifier: Apache-2.0
//! One node: watches fill what is wanted, one loop brings the daemon there, and another reports.

pub mod desired;
mod owners;
pub mod pace;
mod pod_events;
mod policies;
mod profiles;
mod push;
pub mod report;
pub mod report_writer;
mod watches;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard};

use tokio::sync::Notify;
use varmor_node_api::DEFAULT_SOCKET;
use varmor_policy::matching::OPT_IN_LABEL;

use desired::{Desired, PolicyKey, Sent};
use owners::Resolver;
use policies::Policies;

/// Options of `policy-sync node`.
#[derive(Debug, Clone, clap::Args)]
pub struct Options {
    /// Name of this node
    #[arg(long, env = "NODE_NAME")]
    pub node_name: String,
    /// Socket of the node daemon
    #[arg(long, env = "VARMOR_NODE_SOCKET", default_value = DEFAULT_SOCKET)]
    pub node_socket: PathBuf,
    /// Label (key=value) that a workload or pod must carry to be protected; empty: all are. As the daemon has it
    #[arg(
        long,
        env = "VARMOR_OPT_IN_LABEL",
        default_value = OPT_IN_LABEL
    )]
    pub opt_in_label: String,
    /// Enforce ArmorProfiles, which `policy-sync controller` makes; without, policies as they are written, so that no
    /// controller is needed, and none of toPods and toServices works
    #[arg(long, env = "VARMOR_PROFILES", default_value_t = true, action = clap::ArgAction::Set)]
    pub profiles: bool,
}

/// What the parts share.
pub struct Shared {
    /// Name of this node.
    pub node: String,
    /// Where the daemon listens.
    pub socket: PathBuf,
    desired: Mutex<Desired>,
    sent: Mutex<Sent>,
    refused: Mutex<BTreeMap<PolicyKey, String>>,
    /// Something in `desired` changed.
    pub changed: Notify,
    /// Something at the daemon changed.
    pub applied: Notify,
    /// Finds the workloads of pods.
    pub resolver: Resolver,
    /// Looks policies up.
    pub policies: Policies,
}

impl Shared {
    /// What is wanted; never held across an await.
    pub fn desired(&self) -> MutexGuard<'_, Desired> {
        self.desired.lock().expect("no panic while it was held")
    }

    /// What the daemon was sent; never held across an await.
    pub fn sent(&self) -> MutexGuard<'_, Sent> {
        self.sent.lock().expect("no panic while it was held")
    }

    /// What the daemon refused, and why; never held across an await.
    pub fn refused(&self) -> MutexGuard<'_, BTreeMap<PolicyKey, String>> {
        self.refused.lock().expect("no panic while it was held")
    }

    /// Changes what is wanted.
    pub fn change(&self, change: impl FnOnce(&mut Desired)) {
        change(&mut self.desired());
        self.changed.notify_one();
    }
}

/// Runs until it is told to stop.
pub async fn run(options: Options) -> anyhow::Result<()> {
    let client = crate::api_server::client().await?;
    let shared = Arc::new(Shared {
        node: options.node_name.clone(),
        socket: options.node_socket.clone(),
        desired: Mutex::new(Desired {
            from_profiles: options.profiles,
            ..Desired::default()
        }),
        sent: Mutex::default(),
        refused: Mutex::default(),
        changed: Notify::new(),
        applied: Notify::new(),
        resolver: Resolver::new(client.clone(), &options.opt_in_label)?,
        policies: Policies::new(client.clone()),
    });
    tracing::info!(
        "node {}: policies go to {}",
        options.node_name,
        options.node_socket.display()
    );
    tokio::select! {
        () = watches::run(&client, &shared, &options) => {}
        () = push::run(&shared) => {}
        () = report::run(&client, &shared) => {}
        stopped = crate::stopped() => stopped?,
    }
    tracing::info!("stopping; what is enforced stays enforced");
    Ok(())
}
