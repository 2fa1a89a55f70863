// SPDX-License-Identifier: Apache-2.0
//! The measurement, from an empty cluster to a new leader.

mod changes;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use kube::Client;
use tokio::sync::Notify;

use crate::Cli;
use crate::bed::{Bed, Guard};
use crate::daemon::Daemon;
use crate::fleet::{self, Done, View};
use crate::gauges::{self, Process, Requests};
use crate::policies::Policies;
use crate::setup;
use crate::table::{Table, bytes};
use crate::watching::{self, Bytes, Kind, OF_A_NODE};

/// Deployments that have opted in, at most.
const DEPLOYMENTS: usize = 500;
/// Simulated nodes that begin in one second.
const TOGETHER: usize = 20;
/// Simulated nodes that share the connections of one client.
const SHARE: usize = 500;

/// Everything that is there while it is measured.
struct Stage<'a> {
    cli: &'a Cli,
    bed: Bed,
    client: Client,
    servers: Vec<Client>,
    view: Arc<View>,
    policies: Arc<Policies>,
    /// Of the nodes that keep all watches.
    bytes: Arc<Bytes>,
    /// Of those that only have the watch of the profiles.
    more: Arc<Bytes>,
    /// Of the leader's watch of the reports.
    leader_bytes: Arc<Bytes>,
    /// Of the lists of one node.
    listed: u64,
    /// Of the Nodes.
    uids: HashMap<String, String>,
    done: Arc<Done>,
    real: Vec<Guard>,
    table: Table,
}

/// Measures; whether every aim was met.
pub async fn run(cli: &Cli) -> Result<bool> {
    ensure!(cli.watching <= cli.nodes, "--watching is a part of --nodes");
    let bed = Bed::open(&cli.state)?;
    let client = bed.client().await?;
    let servers = vec![client.clone(), bed.crd_client().await?];
    let (view, policies) = (Arc::new(View::default()), Arc::new(Policies::default()));
    let directory = tempfile::tempdir()?;
    let mut stage = Stage {
        cli,
        bed,
        client: client.clone(),
        servers,
        view: Arc::clone(&view),
        policies: Arc::clone(&policies),
        bytes: Arc::default(),
        more: Arc::default(),
        leader_bytes: Arc::default(),
        listed: 0,
        uids: HashMap::new(),
        done: Arc::default(),
        real: Vec::new(),
        table: Table::default(),
    };
    tokio::spawn(async move { view.follow(client).await });
    let client = stage.client.clone();
    tokio::spawn(async move { policies.follow(client).await });
    println!(
        "{} policies, {} simulated nodes ({} with all watches), {} real, {} pods",
        cli.policies, cli.nodes, cli.watching, cli.processes, cli.pods
    );
    stage.fill(directory.path()).await?;
    stage.sizes().await?;
    stage.idle().await?;
    stage.changes().await?;
    stage.new_policies().await?;
    stage.other_objects().await?;
    stage.new_leader().await?;
    stage.new_node().await?;
    stage.deleted_reports().await?;
    stage.end_of_it().await?;
    Ok(stage.table.end())
}

async fn until(what: &str, limit: Duration, mut is_so: impl FnMut() -> bool) -> Result<Duration> {
    let began = Instant::now();
    while !is_so() {
        ensure!(
            began.elapsed() < limit,
            "{what}: not within {} s",
            limit.as_secs()
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(began.elapsed())
}

fn seconds(time: Duration) -> String {
    format!("{:.1} s", time.as_secs_f64())
}

impl Stage<'_> {
    fn limit(&self) -> Duration {
        Duration::from_secs(self.cli.limit)
    }

    fn control_plane(&self) -> Result<[Process; 3]> {
        let process = |name| self.bed.process(name);
        Ok([
            process("kube-apiserver")?,
            process("crd-server")?,
            process("etcd")?,
        ])
    }

    async fn fill(&mut self, directory: &std::path::Path) -> Result<()> {
        let Cli {
            policies,
            nodes,
            pods,
            ..
        } = *self.cli;
        self.table.heading("Filling the cluster");
        let began = Instant::now();
        setup::surroundings(&self.client, policies, DEPLOYMENTS.min(policies)).await?;
        // One more, that joins in the end.
        self.uids = setup::nodes(&self.client, nodes + 1).await?;
        // The nodes have no kubelet and the pods no node that is alive: both would be taken away.
        self.bed.part("stop", "kube-controller-manager")?;
        self.bed.part("stop", "kube-scheduler")?;
        setup::pods(&self.client, pods, nodes, policies).await?;
        self.table.row(
            "nodes, pods and Deployments made",
            &seconds(began.elapsed()),
        );
        let began = Instant::now();
        setup::policies(&self.client, policies).await?;
        self.table.row("policies made", &seconds(began.elapsed()));
        let view = Arc::clone(&self.view);
        until("a profile for each policy", self.limit(), || {
            view.len() == policies
        })
        .await?;
        self.table.row(
            "and a profile for each, from the first policy on",
            &seconds(began.elapsed()),
        );

        let (began, requests, cpu) = (Instant::now(), self.requests().await?, self.cpu().await?);
        self.watch().await?;
        for index in 0..self.cli.processes {
            let name = format!("real-{index}");
            let socket = directory.join(format!("{name}.sock"));
            Daemon::serve(&socket)?;
            self.real
                .push(self.bed.policy_sync_node(&name, directory, &socket)?);
        }
        let seen = Arc::clone(&self.policies);
        let limit = self.limit() * 5;
        until("every policy Ready", limit, || seen.ready() == policies).await?;
        self.table.row(
            "all nodes begin: until every policy is Ready",
            &seconds(began.elapsed()),
        );
        self.request_rows(&requests, &self.requests().await?, nodes as f64, "per node");
        self.cpu_rows(&cpu, &self.cpu().await?, nodes as f64, "per node");
        self.table.row(
            "bytes of profiles to a node meanwhile",
            &bytes(self.bytes.events().0 as f64 / self.cli.watching.max(1) as f64),
        );
        Ok(())
    }

    /// Begins the simulated nodes.
    async fn watch(&mut self) -> Result<()> {
        let began = Instant::now();
        let (versions, listed) = self.lists().await?;
        self.listed = listed;
        self.table
            .row("the lists of one node", &seconds(began.elapsed()));
        let began = Instant::now();
        let mut client = self.bed.node_client().await?;
        for index in 0..self.cli.nodes {
            if index % SHARE == 0 {
                client = self.bed.node_client().await?;
            }
            // As a DaemonSet begins them, in parts: all at once are more than two processors answer in time.
            if index % TOGETHER == TOGETHER - 1 {
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
            self.begin_node(&client, index, &versions)?;
        }
        let (version, _) = watching::list(&self.client, Kind::Reports, "").await?;
        let leader_bytes = Arc::clone(&self.leader_bytes);
        let observer = self.bed.client().await?;
        tokio::spawn(watching::watch(
            observer,
            Kind::Reports,
            String::new(),
            version,
            leader_bytes,
            Arc::new(Notify::new()),
        ));
        self.table
            .row("the simulated nodes have begun", &seconds(began.elapsed()));
        Ok(())
    }

    /// What a node lists when it begins: the versions, and the bytes of all.
    async fn lists(&self) -> Result<(Vec<String>, u64)> {
        let (mut versions, mut bytes) = (Vec::new(), 0);
        for kind in OF_A_NODE {
            let (version, length) =
                watching::list(&self.client, kind, &crate::objects::node(0)).await?;
            versions.push(version);
            bytes += length;
        }
        Ok((versions, bytes))
    }

    /// A simulated node, whose watches begin with these versions.
    fn begin_node(&self, client: &Client, index: usize, versions: &[String]) -> Result<()> {
        let name = crate::objects::node(index);
        let is_full = index < self.cli.watching;
        let came = Arc::new(Notify::new());
        for (kind, version) in OF_A_NODE.into_iter().zip(versions) {
            if kind != Kind::Profiles && !is_full {
                continue;
            }
            let bytes = Arc::clone(if is_full { &self.bytes } else { &self.more });
            tokio::spawn(watching::watch(
                client.clone(),
                kind,
                name.clone(),
                version.clone(),
                bytes,
                Arc::clone(&came),
            ));
        }
        let uid = self.uids.get(&name).cloned();
        let uid = uid.context("a Node without a UID")?;
        let (view, done) = (Arc::clone(&self.view), Arc::clone(&self.done));
        tokio::spawn(fleet::node(client.clone(), view, index, uid, came, done));
        Ok(())
    }

    /// Waits for the numbers of the profiles, which come at a pace of their own.
    async fn numbers(&mut self) {
        let (began, limit) = (Instant::now(), Duration::from_secs(self.cli.settle));
        let nodes = self.cli.nodes + self.cli.processes;
        let right = || self.view.with_nodes(nodes);
        while right() < self.cli.policies && began.elapsed() < limit {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        self.table.row(
            "profiles whose status has the right number of nodes, and after",
            &format!("{}, {}", right(), seconds(began.elapsed())),
        );
    }

    async fn sizes(&mut self) -> Result<()> {
        self.numbers().await;
        tokio::time::sleep(Duration::from_secs(5)).await;
        let listed = self.listed as f64;
        let written = self.done.written.load(Ordering::Relaxed).max(1) as f64;
        let report = self.done.bytes.load(Ordering::Relaxed) as f64 / written;
        let (_, all) = watching::list(&self.client, Kind::Reports, "").await?;
        let table = &self.table;
        table.heading("Sizes");
        table.row("a node's lists when it begins", &bytes(listed));
        table.row("a node's report", &bytes(report));
        table.row("all reports, as the leader lists them", &bytes(all as f64));
        self.memory().await
    }

    async fn memory(&mut self) -> Result<()> {
        let (name, leader) = self.bed.leader(&self.client).await?;
        let (now, most) = leader.memory()?;
        self.table.row(
            &format!("memory of the leader ({name}) now"),
            &format!("{now:.0} MiB"),
        );
        self.table
            .below("memory of the leader at most", most, self.cli.memory, "MiB");
        for (index, real) in self.real.iter().enumerate() {
            let (now, most) = real.process().memory()?;
            let text = format!("{now:.0} / {most:.0} MiB");
            self.table.row(
                &format!("memory of policy-sync node {index}: now / at most"),
                &text,
            );
        }
        for name in ["kube-apiserver", "crd-server", "etcd"] {
            let (now, most) = self.bed.process(name)?.memory()?;
            let text = format!("{now:.0} / {most:.0} MiB");
            self.table
                .row(&format!("memory of {name}: now / at most"), &text);
        }
        let (file, used) = gauges::etcd_sizes(self.bed.etcd_port())?;
        let text = format!("{} / {}", bytes(file as f64), bytes(used as f64));
        self.table.row("etcd: file / in use", &text);
        Ok(())
    }

    /// Processor time of leader, the three of the control plane, and the real nodes.
    async fn cpu(&self) -> Result<Vec<Duration>> {
        let (_, leader) = self.bed.leader(&self.client).await?;
        let mut all = vec![leader.cpu()?];
        for process in self.control_plane()? {
            all.push(process.cpu()?);
        }
        all.push(
            self.real
                .iter()
                .map(|real| real.process().cpu())
                .sum::<Result<_>>()?,
        );
        Ok(all)
    }

    fn cpu_rows(&self, before: &[Duration], after: &[Duration], per: f64, of: &str) {
        let names = [
            "the leader",
            "kube-apiserver",
            "the server of custom resources",
            "etcd",
            "the real policy-sync nodes together",
        ];
        for (index, name) in names.iter().enumerate() {
            let spent = after[index].saturating_sub(before[index]).as_secs_f64() * 1000.0 / per;
            self.table.row(
                &format!("processor time of {name} {of}"),
                &format!("{spent:.0} ms"),
            );
        }
    }

    async fn idle(&mut self) -> Result<()> {
        const LONG: u64 = 5;
        let (before, requests) = (self.cpu().await?, self.requests().await?);
        tokio::time::sleep(Duration::from_secs(LONG)).await;
        let (after, later) = (self.cpu().await?, self.requests().await?);
        self.table.heading("Nothing happens");
        self.cpu_rows(&before, &after, LONG as f64, "per second");
        self.request_rows(&requests, &later, LONG as f64, "per second");
        Ok(())
    }

    async fn requests(&self) -> Result<Requests> {
        gauges::all_requests(&self.servers).await
    }

    fn request_rows(&self, before: &Requests, after: &Requests, per: f64, of: &str) {
        for (what, count) in after {
            let count = count - before.get(what).copied().unwrap_or_default();
            let rate = count as f64 / per;
            // Of this program, and of one server that asks the other who may do what.
            let is_own = matches!(
                &*what.1,
                "" | "leases" | "tokenreviews" | "subjectaccessreviews"
            );
            if rate >= 0.05 && !is_own {
                let (verb, resource) = what;
                self.table.row(
                    &format!("requests {of}: {verb} {resource}"),
                    &format!("{rate:.1}"),
                );
            }
        }
    }

    async fn end_of_it(&mut self) -> Result<()> {
        self.table.heading("At the end");
        self.memory().await?;
        let all = [&self.bytes, &self.more, &self.leader_bytes];
        let broken: u64 = all
            .iter()
            .map(|bytes| bytes.broken.load(Ordering::Relaxed))
            .sum();
        let resumed: u64 = all
            .iter()
            .map(|bytes| bytes.resumed.load(Ordering::Relaxed))
            .sum();
        let failed = self.done.failed.load(Ordering::Relaxed);
        self.table.row(
            "watches that the server ended, that began anew",
            &format!("{resumed}, {broken}"),
        );
        let deferred = self.done.deferred.load(Ordering::Relaxed);
        self.table.row(
            "reports that came later since the server was busy, that failed",
            &format!("{deferred}, {failed}"),
        );
        self.table
            .must(&format!("{failed} reports were not taken"), failed == 0);
        Ok(())
    }
}
