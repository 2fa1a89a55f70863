//! What enforcement costs: a table of ratios and counts, each measured within one run.

mod deep_path;
mod figures;
mod isolation;
mod matcher;
mod rules;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

/// Measures what enforcement costs and compares it with the targets. The exit status is 1 when a target is missed.
#[derive(Debug, Parser)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// The look-up of a path, natively.
    Matcher {
        /// How often each variant is measured; the median counts.
        #[arg(long, default_value_t = 41)]
        rounds: usize,
        /// Runs per measurement; the mean counts.
        #[arg(long, default_value_t = 4000)]
        repeat: u32,
    },
}

fn main() -> Result<ExitCode> {
    let arguments = Arguments::parse();
    // Before anything starts a thread: the kernel moves single-threaded processes only.
    isolation::enter()?;
    let section = match arguments.command {
        Command::Matcher { rounds, repeat } => matcher::measure(rounds, repeat)?,
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
