// SPDX-License-Identifier: Apache-2.0
//! Seccomp: a filter stays with a container for life, so every policy has a container of its own, all of them in one pod.

use std::time::Instant;

use anyhow::{Context, Result};
use serde_json::Value;
use varmor_scenario::format::{Container, Pod};

use super::containers::Workloads;
use super::daemon::Policies;
use super::events::{Events, Said};
use super::object;
use super::trial::{Column, report};
use crate::case::Case;
use crate::enforcer::Enforcer;
use crate::outcome::Outcome;

/// The workload that the containers are made like.
const POD: &str = "filtered";
/// The container that no policy selects.
const FREE: &str = "free";

/// Runs the cases.
pub async fn run(cases: &[&Case], pods: &[Pod], kernel: &str) -> Result<Vec<Outcome>> {
    if cases.is_empty() {
        return Ok(Vec::new());
    }
    let pattern = pods
        .iter()
        .find(|pod| pod.name == POD)
        .with_context(|| format!("pods.yaml has no pod {POD:?}"))?;
    // (case, what is tried, container, policy)
    let mut rounds: Vec<(usize, Said, String, Value)> = Vec::new();
    for (index, case) in cases.iter().enumerate() {
        let policy = case.policies[&Enforcer::Seccomp].clone();
        rounds.push((index, Said::Denied, format!("c{index}"), policy));
        if let Some(policy) = case.observe_only(Enforcer::Seccomp) {
            rounds.push((index, Said::Audit, format!("c{index}-observed"), policy));
        }
    }
    let policies = Policies::connect().await?;
    let objects: Vec<Value> = rounds
        .iter()
        .map(|(_, _, container, policy)| {
            object(&format!("{POD}-{container}"), POD, Some(container), policy)
        })
        .collect();
    policies.become_all(&objects).await?;
    let began = Instant::now();
    let mut workloads = Workloads::new()?;
    let names = rounds
        .iter()
        .map(|(_, _, container, _)| container.as_str())
        .chain([FREE]);
    workloads.start(&with_containers(pattern, names)).await?;
    println!(
        "{}: {} containers started in {:.0} s",
        Enforcer::Seccomp,
        rounds.len() + 1,
        began.elapsed().as_secs_f64()
    );

    let mut column = Column {
        enforcer: Enforcer::Seccomp,
        kernel,
        events: Events::collect()?,
    };
    let mut outcomes = Vec::new();
    for (index, case) in cases.iter().enumerate() {
        let began = Instant::now();
        let mut outcome = Outcome::new(&case.name, Enforcer::Seccomp);
        column.without_policy(case, workloads.get(POD, FREE)?, &mut outcome)?;
        for (_, said, container, _) in rounds.iter().filter(|round| round.0 == index) {
            column.round(case, *said, workloads.get(POD, container)?, &mut outcome)?;
        }
        report(&outcome, began);
        outcomes.push(outcome);
    }
    workloads.remove_all().await?;
    policies.become_all(&[]).await?;
    Ok(outcomes)
}

/// The pod with a copy of its container for each name; each has its own folder of pipes.
fn with_containers<'a>(pattern: &Pod, names: impl Iterator<Item = &'a str>) -> Pod {
    let copy = |name: &str| -> Container {
        let mut container = pattern.containers[0].clone();
        container.name = name.to_string();
        for mount in &mut container.mounts {
            if mount.path == "/conformance" {
                mount.host_path = format!("{}/{name}", mount.host_path);
            }
        }
        container
    };
    Pod {
        containers: names.map(copy).collect(),
        ..pattern.clone()
    }
}
