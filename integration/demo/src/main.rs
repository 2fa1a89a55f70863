// SPDX-License-Identifier: Apache-2.0
//! `demo`: one pod without a policy, under a policy, and under a policy that changes while it runs, told to a person and
//! judged: the exit status is 0 only when every verdict was the expected one, by the expected enforcer.
//!
//! It runs on this machine when its kernel can hold a container by all three enforcers, else in the test VM. Both ways the
//! node is the same: a containerd and a daemon of the demo's own, with everything they keep in folders of their own.

mod evidence;
mod host;
mod node;
mod place;
mod report;
mod story;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

/// Shows a policy taking hold of a pod, and changing while the pod runs.
#[derive(Parser)]
#[command(args_conflicts_with_subcommands = true)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    host: HostArguments,
}

#[derive(Subcommand)]
enum Command {
    /// Only says whether this kernel would do
    Kernel,
    /// The demo itself, where everything that it needs is
    #[command(hide = true)]
    Play(PlayArguments),
}

#[derive(Args)]
struct HostArguments {
    /// Kernel of the VM: 5.10, 6.1, 6.12 or 7.2
    #[arg(long, default_value = "6.12")]
    kernel: String,
    /// containerd in the VM: 2.1 or 1.7
    #[arg(long, default_value = "2.1")]
    containerd: String,
    /// In the test VM, even when this machine would do
    #[arg(long)]
    vm: bool,
}

#[derive(Args)]
struct PlayArguments {
    /// Folder of containerd and what belongs to it, before those on the PATH
    #[arg(long)]
    containerd: Option<PathBuf>,
    /// Folder of the project's programs
    #[arg(long)]
    programs: PathBuf,
    /// Folder of the image archives
    #[arg(long)]
    images: PathBuf,
    /// Folder for the logs of containerd and the daemon
    #[arg(long)]
    logs: PathBuf,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let outcome = match cli.command {
        Some(Command::Kernel) => place::kernel().map(|found| match found {
            Ok(()) => {
                println!("this kernel will do");
                true
            }
            Err(why) => {
                println!("{why}");
                false
            }
        }),
        Some(Command::Play(arguments)) => story::main(&node::Programs {
            containerd: arguments.containerd,
            ours: arguments.programs,
            images: arguments.images,
            logs: arguments.logs,
        }),
        None => host::run(&host::Wish {
            kernel: cli.host.kernel,
            containerd: cli.host.containerd,
            vm: cli.host.vm,
        }),
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("demo: {error:#}");
            ExitCode::from(2)
        }
    }
}
