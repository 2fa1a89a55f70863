// SPDX-License-Identifier: Apache-2.0
//! `scenario`: boots the test VM, applies policies, starts pods, does what the scenario files say and compares the verdicts.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use varmor_scenario::{format, guest, host};

#[derive(Parser)]
#[command(about, args_conflicts_with_subcommands = true)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    run: Option<RunArguments>,
}

#[derive(Subcommand)]
enum Command {
    /// Boots the VM and runs scenarios in it (also without the word `run`)
    Run(RunArguments),
    /// Reads and checks scenario files, and boots nothing
    Check {
        /// Files or folders
        #[arg(required = true)]
        files: Vec<PathBuf>,
    },
    /// The side that runs in the VM
    #[command(hide = true)]
    Guest(guest::Options),
}

#[derive(Args)]
struct RunArguments {
    /// Kernel of the VM: 5.10, 6.1, 6.12 or 7.2
    #[arg(long, default_value = "6.12")]
    kernel: String,
    /// containerd in the VM: 2.1 or 1.7
    #[arg(long, default_value = "2.1")]
    containerd: String,
    /// So many starts in every step that repeats, instead of its own number
    #[arg(long)]
    repeat: Option<u32>,
    /// Without the daemon, the hook and the policies: shows what is refused anyway. The verdicts are printed and not judged
    #[arg(long)]
    baseline: bool,
    /// Seconds that the VM may run
    #[arg(long)]
    timeout: Option<u64>,
    /// Scenario files, or folders of them: all of them in one boot
    #[arg(required = true)]
    files: Vec<PathBuf>,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let outcome = match (cli.command, cli.run) {
        (Some(Command::Guest(options)), _) => guest::main(options),
        (Some(Command::Check { files }), _) => check(&files),
        (Some(Command::Run(run)), _) | (None, Some(run)) => host::run(&host::Run {
            kernel: run.kernel,
            containerd: run.containerd,
            repeat: run.repeat,
            baseline: run.baseline,
            timeout: run.timeout,
            files: run.files,
        }),
        (None, None) => unreachable!("clap asks for the file"),
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("scenario: {error:#}");
            ExitCode::from(2)
        }
    }
}

fn check(files: &[PathBuf]) -> anyhow::Result<bool> {
    let mut scenarios = 0;
    let mut steps = 0;
    for scenario in format::load_all(files)? {
        scenarios += 1;
        steps += scenario.steps.len();
    }
    println!("{scenarios} scenarios, {steps} steps");
    Ok(true)
}
