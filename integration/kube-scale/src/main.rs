// SPDX-License-Identifier: Apache-2.0
//! `kube-scale`: the Kubernetes side with many policies, nodes and pods. The API servers, etcd, the controllers and a few
//! `policy-sync node` are real; the other nodes are simulated. On the test bed's control plane, which must be up with its
//! controllers.

mod bed;
mod daemon;
mod fleet;
mod follow;
mod gauges;
mod objects;
mod phases;
mod policies;
mod setup;
mod table;
mod watching;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;

/// Measures the Kubernetes side with many policies, nodes and pods.
#[derive(Parser)]
struct Cli {
    /// The bed's state directory
    #[arg(long, env = "VARMOR_KUBE_STATE", default_value = "target/kube")]
    state: PathBuf,
    /// How many policies
    #[arg(long, default_value_t = 20)]
    policies: usize,
    /// How many simulated nodes, each of which reports
    #[arg(long, default_value_t = 30)]
    nodes: usize,
    /// How many of them keep all watches of a node; the others only that of the profiles
    #[arg(long, default_value_t = 30)]
    watching: usize,
    /// How many real `policy-sync node` besides
    #[arg(long, default_value_t = 1)]
    processes: usize,
    /// How many pods
    #[arg(long, default_value_t = 100)]
    pods: usize,
    /// How many changes of a policy
    #[arg(long, default_value_t = 10)]
    changes: usize,
    /// Seconds in which a change must be Ready everywhere, to be counted at all
    #[arg(long, default_value_t = 120)]
    limit: u64,
    /// Seconds to wait, once all is Ready, for the numbers in the profiles' statuses
    #[arg(long, default_value_t = 60)]
    settle: u64,
    /// MiB that the leading controller should stay below
    #[arg(long, default_value_t = 100.0)]
    memory: f64,
}

#[tokio::main]
async fn main() -> ExitCode {
    match phases::run(&Cli::parse()).await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("kube-scale: {error:#}");
            ExitCode::FAILURE
        }
    }
}
