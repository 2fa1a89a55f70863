// SPDX-License-Identifier: Apache-2.0
//! `varmor-nri`: the node daemon. It reads policies, puts each container under the one that selects it before its first
//! instruction, through containerd's NRI and an OCI hook, and follows changes of the policies while the container runs.

mod applied;
mod config;
mod containers;
mod counters;
mod daemon;
mod disks;
mod enforcers;
mod inventory;
mod memory;
mod node;
mod node_api;
mod nri;
mod policies_dir;
mod query;
mod sd_notify;
mod spec_update;
mod store;
mod stored;
mod violations;
mod wait;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use tracing_subscriber::EnvFilter;

use config::Config;

/// vArmor policies, enforced from inside containerd.
#[derive(Parser)]
#[command(version, args_conflicts_with_subcommands = true)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    config: Config,
}

#[derive(Subcommand)]
enum Command {
    /// Run the daemon (the default)
    Run(Box<Config>),
    /// Show what this node enforces
    Status(query::StatusOptions),
    /// Wait until the policy folder, as it is now, is in force; fails when some of it can't be
    Wait(query::WaitOptions),
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let result = match cli.command {
        None => daemon(&cli.config),
        Some(Command::Run(config)) => daemon(&config),
        Some(Command::Status(options)) => query::status(&options),
        Some(Command::Wait(options)) => query::wait(&options),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("varmor-nri: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn daemon(config: &Config) -> anyhow::Result<()> {
    let filter = EnvFilter::builder()
        .with_default_directive(tracing::Level::INFO.into())
        .from_env_lossy();
    // journald has the time already.
    let journal = std::env::var_os("JOURNAL_STREAM").is_some();
    let log = tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_env_filter(filter)
        .with_ansi(false);
    if journal {
        log.without_time().init()
    } else {
        log.init()
    }
    daemon::run(config)
}
