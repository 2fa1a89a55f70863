// SPDX-License-Identifier: Apache-2.0
//! `conformance`: boots the test VM, runs the matrix and prints it. See docs/conformance.md for what it said last.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use varmor_conformance::enforcer::Enforcer;
use varmor_conformance::{case, guest, host};

#[derive(Parser)]
#[command(about, args_conflicts_with_subcommands = true)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    run: RunArguments,
}

#[derive(Subcommand)]
enum Command {
    /// Reads and checks the cases, and boots nothing
    Check,
    /// Writes the differences that the cases name into docs/conformance.md, and boots nothing
    Differences,
    /// Writes docs/conformance.md of the last runs of what is built now, one on each kernel at least, and boots nothing
    Document,
    /// The side that runs in the VM
    #[command(hide = true)]
    Guest(guest::Options),
}

#[derive(Args)]
struct RunArguments {
    /// 5.10, 6.1, 6.12 or 7.2: every case there; `all`: every case on all of them. Without it: every case on 6.12, the core on the
    /// others
    #[arg(long)]
    kernel: Option<String>,
    /// Only this column; may be given several times
    #[arg(long = "enforcer")]
    enforcers: Vec<Enforcer>,
    /// Only cases whose name has this in it
    #[arg(long)]
    case: Option<String>,
    /// Seconds that a VM may run
    #[arg(long, default_value_t = 1800)]
    timeout: u64,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let outcome = match cli.command {
        Some(Command::Guest(options)) => guest::main(&options).map(|()| true),
        Some(Command::Check) => check(),
        Some(Command::Differences) => host::write_differences().map(|()| true),
        Some(Command::Document) => host::document(),
        None => host::run(&host::Run {
            kernel: cli.run.kernel,
            enforcers: cli.run.enforcers,
            case: cli.run.case,
            timeout: cli.run.timeout,
        }),
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("conformance: {error:#}");
            ExitCode::from(2)
        }
    }
}

fn check() -> anyhow::Result<bool> {
    let folder = varmor_scenario::vm::project()?.join(PathBuf::from(host::FOLDER));
    let (pods, cases) = case::load(&folder)?;
    let actions: usize = cases.iter().map(|case| case.actions().count()).sum();
    println!(
        "{} workloads, {} cases, {actions} actions",
        pods.len(),
        cases.len()
    );
    Ok(true)
}
