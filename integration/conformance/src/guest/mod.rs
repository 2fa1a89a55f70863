// SPDX-License-Identifier: Apache-2.0
//! The guest's side: runs in the VM, as root.

mod containers;
mod daemon;
mod driver;
mod events;
mod filters;
mod trial;

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result};
use clap::Args;
use serde_json::{Value, json};
use varmor_scenario::guest::node::{self, Containerd, Daemon};

use crate::case::{self, Case};
use crate::enforcer::Enforcer;
use crate::outcome::Outcome;

/// The pods' namespace.
const NAMESPACE: &str = "conformance";
const LOGS: &str = "/share/logs";
/// Where the host's side looks for the outcomes.
pub const OUTCOMES: &str = "outcomes.json";

/// What the host's side tells.
#[derive(Args, Clone)]
pub struct Options {
    /// The VM's kernel.
    #[arg(long)]
    pub kernel: String,
    /// Columns, one after the other.
    #[arg(long = "enforcer")]
    pub enforcers: Vec<Enforcer>,
    /// Only cases whose name has this in it.
    #[arg(long)]
    pub case: Option<String>,
    /// Only the core.
    #[arg(long)]
    pub core: bool,
    /// With pods.yaml and cases/.
    pub folder: PathBuf,
}

impl Options {
    /// Whether a case is asked for at all.
    pub fn selects(&self, case: &Case) -> bool {
        (!self.core || case.core)
            && self
                .case
                .as_ref()
                .is_none_or(|part| case.name.contains(part.as_str()))
    }
}

/// A policy object for a workload; for one container of it when that is named.
pub fn object(name: &str, pod: &str, container: Option<&str>, policy: &Value) -> Value {
    let mut target = json!({"kind": "Pod", "selector": {"matchLabels": {"app": pod}}});
    if let Some(container) = container {
        target["containers"] = json!([container]);
    }
    json!({
        "apiVersion": "crd.varmor.org/v1beta1",
        "kind": "VarmorPolicy",
        "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": {"target": target, "policy": policy},
    })
}

/// Runs the cases and leaves the outcomes in the shared folder.
///
/// # Errors
/// The node does not come up, or something breaks off that is no verdict.
pub fn main(options: &Options) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let outcomes = runtime.block_on(run(options));
    for log in ["/var/log/containerd.log", node::VIOLATIONS] {
        if let Some(name) = Path::new(log).file_name() {
            let _ = std::fs::copy(log, Path::new(LOGS).join(name));
        }
    }
    let text = serde_json::to_vec(&outcomes?)?;
    std::fs::write(Path::new("/share").join(OUTCOMES), text).context(OUTCOMES)
}

async fn run(options: &Options) -> Result<Vec<Outcome>> {
    let (pods, cases) = case::load(&options.folder)?;
    let began = Instant::now();
    let _containerd = Containerd::start("2.1", true)?;
    let _daemon = Daemon::start(&[], &Path::new(LOGS).join("daemon.log")).await?;
    println!(
        "kernel {}, ready after {:.0} s",
        options.kernel,
        began.elapsed().as_secs_f64()
    );
    let mut outcomes = Vec::new();
    for &enforcer in &options.enforcers {
        let (mut chosen, mut here) = (Vec::new(), Vec::new());
        for case in &cases {
            if !options.selects(case) || !case.policies.contains_key(&enforcer) {
                continue;
            }
            match case.conditions.why_not(&options.kernel, "2.1") {
                None => chosen.push(case),
                Some(why) => here.push(Outcome {
                    left_out: Some(why),
                    ..Outcome::new(&case.name, enforcer)
                }),
            }
        }
        outcomes.append(&mut here);
        let began = Instant::now();
        outcomes.extend(match enforcer {
            Enforcer::AppArmor | Enforcer::Bpf => {
                trial::run(enforcer, &chosen, &pods, &options.kernel).await?
            }
            Enforcer::Seccomp => filters::run(&chosen, &pods, &options.kernel).await?,
        });
        println!(
            "{enforcer}: {} cases in {:.0} s",
            chosen.len(),
            began.elapsed().as_secs_f64()
        );
    }
    Ok(outcomes)
}
