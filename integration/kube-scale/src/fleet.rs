// SPDX-License-Identifier: Apache-2.0
//! Simulated nodes. Each writes its report when its own watch of the profiles has brought something, as policy-sync does,
//! with the code of policy-sync; what the nodes know of the profiles they have in common, since thousands of copies of it
//! would fit into no machine.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use kube::Client;
use kube::api::{Api, DynamicObject};
use policy_sync::kinds;
use policy_sync::node::pace::{PERIOD, Pace, Place, Step};
use policy_sync::node::report;
use policy_sync::node::report_writer::Writer;
use serde_json::Value;
use tokio::sync::Notify;
use varmor_node_api::api;

use crate::daemon::{LOADING, daemon_status, policy_status};
use crate::follow::follow;

type Key = (String, String, String);

/// Nodes that run containers of the same policies.
const ALIKE: usize = 50;

/// The profiles as a node sees them.
#[derive(Default)]
pub struct View {
    generations: Mutex<BTreeMap<Key, i64>>,
    /// The nodes that each profile's status counts.
    counted: Mutex<BTreeMap<Key, usize>>,
    /// Counts changes.
    version: AtomicU64,
    /// How many nodes report.
    nodes: AtomicUsize,
    /// Reports of this version: a group's.
    reports: Mutex<(u64, HashMap<usize, Arc<Value>>)>,
}

impl View {
    /// How many profiles there are.
    pub fn len(&self) -> usize {
        self.generations().len()
    }

    /// The generation of a policy of which there is a profile.
    pub fn generation(&self, namespace: &str, name: &str) -> Option<i64> {
        let key = (
            "VarmorPolicy".to_owned(),
            namespace.to_owned(),
            name.to_owned(),
        );
        self.generations().get(&key).copied()
    }

    /// How many profiles have so many nodes in their status.
    pub fn with_nodes(&self, nodes: usize) -> usize {
        let counted = self.counted.lock().expect("no panic while it was held");
        counted.values().filter(|count| **count == nodes).count()
    }

    fn generations(&self) -> std::sync::MutexGuard<'_, BTreeMap<Key, i64>> {
        self.generations.lock().expect("no panic while it was held")
    }

    /// Follows the profiles for ever.
    pub async fn follow(&self, client: Client) {
        let api: Api<DynamicObject> = Api::all_with(client, &kinds::profiles());
        follow(api, "the profiles", |profile| self.take(profile)).await;
    }

    fn take(&self, profile: &DynamicObject) {
        let text = |pointer: &str| {
            let value = profile.data.pointer(pointer).and_then(Value::as_str);
            value.unwrap_or_default().to_owned()
        };
        let key = (
            text("/spec/policy/kind"),
            text("/spec/policy/metadata/namespace"),
            text("/spec/policy/metadata/name"),
        );
        if let Some(nodes) = kinds::nodes_of(profile) {
            self.nodes.store(nodes, Ordering::Relaxed);
            let mut counted = self.counted.lock().expect("no panic while it was held");
            counted.insert(key.clone(), nodes);
        }
        let generation = profile
            .data
            .pointer("/spec/generation")
            .and_then(Value::as_i64);
        let generation = generation.unwrap_or_default();
        // A status that was written is no change.
        if self.generations().insert(key, generation) != Some(generation) {
            self.version.fetch_add(1, Ordering::SeqCst);
        }
    }

    /// What a node says when all that it has been sent is in force: five of its policies have a container.
    fn report(&self, node: usize) -> (u64, Arc<Value>) {
        let group = node % ALIKE;
        let mut reports = self.reports.lock().expect("no panic while it was held");
        let version = self.version.load(Ordering::SeqCst);
        if reports.0 != version {
            *reports = (version, HashMap::new());
        }
        if let Some(report) = reports.1.get(&group) {
            return (version, Arc::clone(report));
        }
        let generations = self.generations().clone();
        let mut list = api::ListResponse::new();
        let step = (generations.len() / 5).max(1);
        for (index, key) in generations.keys().enumerate() {
            let mut status = policy_status(key, true);
            if index % step == group % step {
                let mut container = api::ContainerStatus::new();
                container.state = "running".to_owned();
                status.containers.push(container);
            }
            list.policies.push(status);
        }
        let report = report::report(
            &daemon_status(true),
            &list,
            std::iter::empty(),
            |key| generations.get(key).copied().unwrap_or_default(),
            |_| None,
        );
        let report = Arc::new(report);
        reports.1.insert(group, Arc::clone(&report));
        (version, report)
    }
}

/// What the nodes have done.
#[derive(Default)]
pub struct Done {
    /// Reports that were written.
    pub written: AtomicU64,
    /// Bytes of reports that were written.
    pub bytes: AtomicU64,
    /// Reports that the API server did not take, since it had too much to do: they come later.
    pub deferred: AtomicU64,
    /// Reports that it did not take for another reason.
    pub failed: AtomicU64,
}

/// One node: reports for ever, whenever something has come.
pub async fn node(
    client: Client,
    view: Arc<View>,
    index: usize,
    uid: String,
    came: Arc<Notify>,
    done: Arc<Done>,
) {
    let api: Api<DynamicObject> = Api::all_with(client, &kinds::nodes());
    let name = crate::objects::node(index);
    let mut pace = Pace::new(&name);
    let mut writer = Writer::default();
    let mut failures = 0;
    loop {
        // The daemon loads it, and nothing is reported meanwhile. Nodes are not in step.
        let jitter = Duration::from_millis((index * 7919 % 50) as u64);
        tokio::time::sleep(LOADING + jitter).await;
        loop {
            let (version, report) = view.report(index);
            let place = Place::of(&name, view.nodes.load(Ordering::Relaxed));
            match pace.next(&version, true, place, Instant::now()) {
                Step::Wait(PERIOD) => break,
                Step::Wait(time) => {
                    tokio::time::sleep(time).await;
                    continue;
                }
                Step::Write => {}
                Step::Repeat => writer.forget(),
            }
            match writer.write(&api, &name, Some(&uid), &report).await {
                Ok(()) => {
                    failures = 0;
                    pace.wrote(version, Instant::now());
                    done.written.fetch_add(1, Ordering::Relaxed);
                    let length = report.to_string().len() as u64;
                    done.bytes.fetch_add(length, Ordering::Relaxed);
                }
                Err(error) => {
                    let is_busy = matches!(&error, kube::Error::Api(error) if matches!(error.code, 429 | 504));
                    let count = if is_busy {
                        &done.deferred
                    } else {
                        &done.failed
                    };
                    if count.fetch_add(1, Ordering::Relaxed) < 5 {
                        eprintln!("the report of {name}: {error}");
                    }
                    failures += 1;
                    tokio::time::sleep(place.retry(failures)).await;
                }
            }
        }
        came.notified().await;
    }
}
