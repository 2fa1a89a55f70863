// SPDX-License-Identifier: Apache-2.0
//! The cluster: policies become ArmorProfiles, and the reports of the nodes become their status. One replica works; the
//! others wait for its Lease.

mod address_slices;
mod kept;
mod lease;
mod plan;
mod profile;
mod reports;
mod resolve;
mod restart;
mod send;
mod slicing;
mod status;
mod watches;

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use kube::Client;
use kube::api::ApiResource;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use varmor_policy::compile::Settings;

use crate::kinds;
use lease::Lease;
use plan::{Planner, World};
use send::Sender;

/// Kind, namespace (empty for a cluster policy) and name.
pub type PolicyKey = (String, String, String);

/// Changes that come together are dealt with together.
const TOGETHER: Duration = Duration::from_millis(20);
/// Status is for people: this often at most, whatever number of nodes reports.
const STATUS_EVERY: Duration = Duration::from_millis(500);
/// How often it is asked which version of EndpointSlices there is: an upgrade of the API server may bring or end one.
const VERSION_EVERY: Duration = Duration::from_secs(20);
/// Numbers that wait for their turn are written this often.
const NUMBERS_EVERY: Duration = Duration::from_secs(1);
/// What failed is tried again after this long.
const RETRY: Duration = Duration::from_secs(5);

/// Options of `policy-sync controller`.
#[derive(Debug, Clone, clap::Args)]
pub struct Options {
    /// Namespace of this project: for the profiles of cluster policies, and the Lease
    #[arg(long, env = "VARMOR_NAMESPACE", default_value = "varmor")]
    pub namespace: String,
    /// Name of this replica
    #[arg(long, env = "POD_NAME")]
    pub name: Option<String>,
}

/// What the watches share with the loop.
#[derive(Default)]
pub struct Shared {
    world: Mutex<World>,
    changed: Notify,
    reported: Notify,
}

impl Shared {
    /// The cluster; never held across an await.
    pub fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().expect("no panic while it was held")
    }

    /// Changes what is known of a kind of objects. On what nodes say only statuses depend, so that it waits until one may be
    /// written: it comes from all nodes at a time.
    pub fn change(&self, kind: &str, change: impl FnOnce(&mut World)) {
        change(&mut self.world());
        if kind == kinds::KIND_NODE {
            self.reported.notify_one();
        } else {
            self.changed.notify_one();
        }
    }
}

/// Runs until it is told to stop.
pub async fn run(options: Options) -> anyhow::Result<()> {
    let client = crate::api_server::client().await?;
    let name = options
        .name
        .clone()
        .unwrap_or_else(|| format!("policy-sync-{}", std::process::id()));
    let mut lease = Lease::new(client.clone(), &options.namespace, &name);
    tokio::select! {
        () = take_turns(&client, &options, &mut lease, &name) => {}
        stopped = crate::stopped() => stopped?,
    }
    lease.release().await;
    tracing::info!("stopping; what nodes enforce stays enforced");
    Ok(())
}

/// Leads whenever it is this replica's turn. When the Lease is lost, such as because the API server was away, all that
/// was under way is dropped, and nothing that was known then is used again.
async fn take_turns(client: &Client, options: &Options, lease: &mut Lease, name: &str) {
    loop {
        tracing::info!("{name} waits for the Lease");
        lease.acquire().await;
        tracing::info!("{name} leads");
        tokio::select! {
            () = lease.keep() => tracing::warn!("{name} has lost the Lease"),
            () = lead(client, options) => {}
        }
    }
}

/// Watches, and brings what is there to what should be.
async fn lead(client: &Client, options: &Options) {
    let shared = Arc::new(Shared::default());
    let slices = loop {
        match watches::slices(client).await {
            Ok(slices) => break slices,
            Err(error) => tracing::warn!("the API server's versions: {error:#}"),
        }
        sleep(RETRY).await;
    };
    tracing::info!("EndpointSlices are of {}", slices.api_version);
    tokio::select! {
        () = watches::run(client, &shared, &slices) => {}
        other = other_slices(client, &slices) => {
            tracing::info!("EndpointSlices are of {other} now: everything is read anew");
        }
        () = reconcile(client, &shared, options) => {}
    }
}

/// Returns when EndpointSlices are of another version than this one.
async fn other_slices(client: &Client, slices: &ApiResource) -> String {
    loop {
        sleep(VERSION_EVERY).await;
        // Where there is no answer, the watches tell why.
        if let Ok(now) = watches::slices(client).await
            && now.api_version != slices.api_version
        {
            return now.api_version;
        }
    }
}

async fn reconcile(client: &Client, shared: &Shared, options: &Options) {
    let mut planner = Planner::new(
        Settings {
            cluster_namespace: options.namespace.clone(),
            ..Settings::default()
        },
        &options.namespace,
    );
    let sender = Sender::new(client.clone());
    let mut status_at = Instant::now();
    let mut pause = RETRY;
    loop {
        let reported = async {
            shared.reported.notified().await;
            sleep_until(status_at).await;
        };
        let something = async {
            tokio::select! {
                () = shared.changed.notified() => {}
                () = reported => {}
            }
        };
        let _ = timeout(pause, something).await;
        sleep(TOGETHER).await;
        let with_status = Instant::now() >= status_at;
        let actions = {
            let world = shared.world();
            if !world.is_listed() {
                continue;
            }
            planner.plan(&world, with_status)
        };
        let failed = sender.send(actions).await;
        planner.forget(&failed);
        if with_status {
            status_at = Instant::now() + STATUS_EVERY;
        }
        pause = match (with_status, failed.is_empty()) {
            _ if failed.is_empty() && planner.has_more() => Duration::ZERO,
            (false, _) => status_at.saturating_duration_since(Instant::now()),
            (true, false) => RETRY,
            (true, true) if planner.has_numbers() => NUMBERS_EVERY,
            (true, true) if planner.is_waiting() => plan::COUNT_EVERY,
            // Everything that changes is told; this is for what a bug or a lost answer would leave.
            (true, true) => Duration::from_secs(60),
        };
    }
}
