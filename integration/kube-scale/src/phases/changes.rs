// SPDX-License-Identifier: Apache-2.0
//! What is measured once the cluster is full: changes of policies, of other objects, and of the leader.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use kube::api::{Api, DeleteParams, DynamicObject};
use policy_sync::kinds;

use super::{Stage, seconds, until};
use crate::setup;
use crate::table::bytes;

impl Stage<'_> {
    /// Changes one policy at a time, each of which must be Ready before the next.
    pub(super) async fn changes(&mut self) -> Result<()> {
        let count = self.cli.changes;
        self.table.heading("A change of one policy");
        let (cpu, requests) = (self.cpu().await?, self.requests().await?);
        let events = (
            self.bytes.events(),
            self.more.events(),
            self.leader_bytes.events(),
        );
        let written = self.done.written.load(Ordering::Relaxed);
        let mut times = Vec::new();
        for change in 1..=count {
            times.push(self.change(change * 17 % self.cli.policies, change).await?);
            // Statuses are still being written.
            tokio::time::sleep(Duration::from_millis(1000 + (change as u64 * 137) % 500)).await;
        }
        tokio::time::sleep(Duration::from_secs(2)).await;
        let (cpu_after, after) = (self.cpu().await?, self.requests().await?);
        let changes = count as f64;
        self.table
            .times("until Ready says that all nodes have it", &times);
        self.request_rows(&requests, &after, changes, "per change");
        let per =
            |after: u64, before: u64, nodes: f64| bytes((after - before) as f64 / nodes / changes);
        let watching = self.cli.watching.max(1) as f64;
        self.table.row(
            "bytes to a node",
            &per(self.bytes.events().0, events.0.0, watching),
        );
        let rest = self.cli.nodes - self.cli.watching;
        if rest > 0 {
            let value = per(self.more.events().0, events.1.0, rest as f64);
            self.table.row("bytes to a node, the others", &value);
        }
        self.table.row(
            "bytes of reports to the leader",
            &per(self.leader_bytes.events().0, events.2.0, 1.0),
        );
        let reports = (self.done.written.load(Ordering::Relaxed) - written) as f64;
        let of_a_node = reports / changes / self.cli.nodes as f64;
        self.table.row(
            "reports that a simulated node writes",
            &format!("{of_a_node:.2}"),
        );
        self.cpu_rows(&cpu, &cpu_after, changes, "per change");
        Ok(())
    }

    async fn change(&self, policy: usize, version: usize) -> Result<Duration> {
        let began = Instant::now();
        let generation = setup::apply(&self.client, policy, version).await?;
        let (namespace, name) = (
            crate::objects::namespace_of(policy),
            crate::objects::policy_name(policy),
        );
        let ready = self
            .policies
            .when_ready(&namespace, &name, generation, self.limit())
            .await?;
        Ok(ready - began)
    }

    pub(super) async fn new_policies(&mut self) -> Result<()> {
        self.table.heading("New policies, one at a time");
        let mut times = Vec::new();
        let first = self.cli.policies;
        // In the namespaces that there are.
        for index in 0..self.cli.changes.min(10) {
            let index = first + index;
            if !crate::objects::namespaces(first).contains(&crate::objects::namespace_of(index)) {
                setup::namespace_only(&self.client, &crate::objects::namespace_of(index)).await?;
            }
            times.push(self.change(index, 0).await?);
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        self.table
            .times("until Ready says that all nodes have it", &times);
        Ok(())
    }

    /// What else reaches every node, or makes the leader work.
    pub(super) async fn other_objects(&mut self) -> Result<()> {
        const ROUNDS: usize = 10;
        let before = self.bytes.events();
        for round in 0..ROUNDS {
            setup::touch_deployment(&self.client, round, round).await?;
        }
        tokio::time::sleep(Duration::from_secs(2)).await;
        let after = self.bytes.events();
        self.table.heading("Other changes");
        let per_node =
            (after.1 - before.1) as f64 / self.cli.watching.max(1) as f64 / ROUNDS as f64;
        self.table.row(
            "a change of an opted-in Deployment: bytes to a node",
            &bytes(per_node),
        );
        let pods = self.cli.pods.min(100);
        let (cpu, requests) = (self.cpu().await?, self.requests().await?);
        for index in 0..pods {
            setup::move_pod(&self.client, index, self.cli.policies, 1_000_000 + index).await?;
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        tokio::time::sleep(Duration::from_secs(2)).await;
        let (cpu_after, after) = (self.cpu().await?, self.requests().await?);
        self.cpu_rows(
            &cpu,
            &cpu_after,
            pods as f64,
            "per pod with another address",
        );
        self.request_rows(
            &requests,
            &after,
            pods as f64,
            "per pod with another address",
        );
        Ok(())
    }

    /// A node more, as where a cluster is scaled.
    pub(super) async fn new_node(&mut self) -> Result<()> {
        const LONG: u64 = 10;
        self.table.heading("A node joins");
        let (versions, _) = self.lists().await?;
        let client = self.bed.node_client().await?;
        let (cpu, requests) = (self.cpu().await?, self.requests().await?);
        let before = self.bytes.events().0;
        self.begin_node(&client, self.cli.nodes, &versions)?;
        tokio::time::sleep(Duration::from_secs(LONG)).await;
        let (cpu_after, after) = (self.cpu().await?, self.requests().await?);
        let of_each = (self.bytes.events().0 - before) as f64 / self.cli.watching.max(1) as f64;
        self.table.row(
            &format!("bytes to each of the others in {LONG} s"),
            &bytes(of_each),
        );
        self.request_rows(&requests, &after, 1.0, &format!("in {LONG} s"));
        self.cpu_rows(&cpu, &cpu_after, 1.0, &format!("in {LONG} s"));
        Ok(())
    }

    /// Somebody deletes reports: each is there again with the next change.
    pub(super) async fn deleted_reports(&mut self) -> Result<()> {
        self.table.heading("Deleted reports");
        let api: Api<DynamicObject> = Api::all_with(self.client.clone(), &kinds::nodes());
        let real = (0..self.cli.processes).map(|index| format!("real-{index}"));
        let names: Vec<String> = real.chain([crate::objects::node(0)]).collect();
        for name in &names {
            api.delete(name, &DeleteParams::default()).await?;
        }
        let began = Instant::now();
        setup::apply(&self.client, 1, self.cli.changes + 2).await?;
        for name in &names {
            while api.get_metadata_opt(name).await?.is_none() {
                ensure!(began.elapsed() < self.limit(), "no report of {name} again");
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        }
        let after = seconds(began.elapsed());
        self.table
            .row("with the next change they are there again, after", &after);
        Ok(())
    }

    /// Both controllers end, a policy changes, and one begins.
    pub(super) async fn new_leader(&mut self) -> Result<()> {
        self.table.heading("A new leader, with everything there");
        let (leader, _) = self.bed.leader(&self.client).await?;
        let other = if leader == "controller-a" {
            "controller-b"
        } else {
            "controller-a"
        };
        self.bed.part("stop", other)?;
        self.bed.part("stop", &leader)?;
        let version = self.cli.changes + 1;
        let generation = setup::apply(&self.client, 0, version).await?;
        let began = Instant::now();
        self.bed.part("start", &leader)?;
        let (namespace, name) = (
            crate::objects::namespace_of(0),
            crate::objects::policy_name(0),
        );
        let view = Arc::clone(&self.view);
        let has_it = || view.generation(&namespace, &name) == Some(generation);
        let profile = until("a profile by the new leader", self.limit(), has_it).await?;
        let ready = self
            .policies
            .when_ready(&namespace, &name, generation, self.limit())
            .await?;
        self.table.row(
            "from its start until it has dealt with a change",
            &seconds(profile),
        );
        self.table
            .row("until that is Ready on all nodes", &seconds(ready - began));
        Ok(())
    }
}
