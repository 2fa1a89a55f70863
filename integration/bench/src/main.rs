// SPDX-License-Identifier: Apache-2.0
//! What enforcement costs: a table of ratios and counts, each measured within one run.

mod deep_path;
mod figures;
mod isolation;
mod large_policy;
mod matcher;
mod node;
mod operations;
mod rules;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};
use varmor_scenario::vm;

/// Measures what enforcement costs and compares it with the targets. The exit status is 1 when a target is missed.
#[derive(Debug, Parser)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Compiling a policy of every built-in rule and 1,000 custom ones, and what the kernel keeps of it, natively.
    Compile {
        /// How often each variant is compiled; the median counts.
        #[arg(long, default_value_t = 21)]
        rounds: usize,
    },
    /// The look-up of a path, natively.
    Matcher {
        /// How often each variant is measured; the median counts.
        #[arg(long, default_value_t = 41)]
        rounds: usize,
        /// Runs per measurement; the mean counts.
        #[arg(long, default_value_t = 4000)]
        repeat: u32,
        /// Another build of kernel/matcher.bpf.c, to compare two versions of the programs.
        #[arg(long)]
        object: Option<PathBuf>,
    },
    /// open, exec and connect under a real kernel, in the VM.
    Operations {
        /// The VM's kernel.
        #[arg(long, default_value = "6.12")]
        kernel: String,
    },
    /// The start of a container with and without plugin and hook, natively.
    Startup {
        /// Pairs of starts; the median difference counts.
        #[arg(long, default_value_t = 200)]
        pairs: usize,
        /// Where the two containerds keep their state: on a disk, as on a node, or in memory.
        #[arg(long, default_value = "/var/tmp")]
        directory: PathBuf,
    },
    /// The hook's run time, natively.
    Hook {
        /// Runs; the median counts.
        #[arg(long, default_value_t = 200)]
        runs: usize,
    },
    /// The daemon's resident memory, natively.
    Memory {
        /// Containers that run meanwhile.
        #[arg(long, default_value_t = 256)]
        containers: usize,
    },
    /// Inside the VM: what `operations` starts there.
    #[command(hide = true)]
    Guest,
    /// Inside the VM: a process that waits to become a subject.
    #[command(hide = true)]
    Wait { path: PathBuf, program: PathBuf },
    /// Inside the VM: the process that measures itself.
    #[command(hide = true)]
    Measure { path: PathBuf, program: PathBuf },
}

fn main() -> Result<ExitCode> {
    let section = match Arguments::parse().command {
        Command::Guest => return operations::guest::run().map(|()| ExitCode::SUCCESS),
        Command::Wait { path, program } => {
            return operations::guest::wait(&path, &program).map(|()| ExitCode::SUCCESS);
        }
        Command::Measure { path, program } => {
            return operations::guest::print_own_counts(&path, &program)
                .map(|()| ExitCode::SUCCESS);
        }
        Command::Compile { rounds } => large_policy::measure(rounds)?,
        Command::Operations { kernel } => operations::measure(&vm::project()?, &kernel)?,
        Command::Startup { pairs, directory } => {
            node::startup::measure(&programs()?, pairs, &directory)?
        }
        Command::Hook { runs } => node::hook::measure(&programs()?, runs)?,
        Command::Memory { containers } => node::memory::measure(&programs()?, containers)?,
        Command::Matcher {
            rounds,
            repeat,
            object,
        } => {
            isolation::enter()?;
            matcher::measure(rounds, repeat, object.as_deref())?
        }
    };
    print!("{section}");
    let missed = section
        .figures
        .iter()
        .filter(|figure| figure.missed())
        .count();
    Ok(if missed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// What the measurements on this machine run; from then on in a mount namespace of their own.
fn programs() -> Result<node::Programs> {
    let programs = node::Programs::of(&vm::project()?)?;
    isolation::enter()?;
    Ok(programs)
}
