// SPDX-License-Identifier: Apache-2.0
//! `policy-sync`: between the API server and the node daemons. `policy-sync node` runs on every node, without privileges,
//! and brings policies and what is known of pods to the daemon there; `policy-sync controller` runs once in the cluster.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use policy_sync::{controller, node};
use tracing_subscriber::EnvFilter;

/// Policies from the API server to the nodes, and what became of them back.
#[derive(Parser)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Bring policies to this node's daemon
    Node(node::Options),
    /// Turn policies into profiles, and the nodes' reports into their status
    Controller(controller::Options),
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let cli = Cli::parse();
    let filter = EnvFilter::builder()
        .with_default_directive(tracing::Level::INFO.into())
        .from_env_lossy();
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_env_filter(filter)
        .with_ansi(false)
        .init();
    let result = match cli.command {
        Command::Node(options) => node::run(options).await,
        Command::Controller(options) => controller::run(options).await,
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("policy-sync: {error:#}");
            ExitCode::FAILURE
        }
    }
}
