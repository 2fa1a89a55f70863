// SPDX-License-Identifier: Apache-2.0
//! `varmorctl`: checks policies, and shows what they compile to and what they say of an action.

mod args;
mod explain;
mod input;
mod load;
mod render;
mod validate;

use args::{Arguments, Command};
use clap::{CommandFactory, Parser};
use std::io::Write;
use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match run(arguments) {
        Ok(code) => code,
        Err(error) if is_closed_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("varmorctl: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    let out = &mut std::io::stdout().lock();
    match arguments.command {
        Command::Validate(validate) => validate::run(&validate, arguments.output, out),
        Command::Render(render) => {
            render::run(&render, arguments.output, out)?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Explain(explain) => {
            explain::run(&explain, arguments.output, out)?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Arguments::command(), "varmorctl", &mut script);
            out.write_all(&script)?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Man { command } => {
            manual(command.as_deref(), out)?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// Writes the manual page of the program, or of one command.
fn manual(command: Option<&str>, out: &mut dyn Write) -> anyhow::Result<()> {
    let mut program = Arguments::command();
    program.build();
    let page = match command {
        None => program,
        Some(name) => program
            .find_subcommand(name)
            .cloned()
            .ok_or_else(|| anyhow::anyhow!("there is no command `{name}`; see `varmorctl help`"))?,
    };
    let mut text = Vec::new();
    clap_mangen::Man::new(page).render(&mut text)?;
    out.write_all(&text)?;
    Ok(())
}

/// `varmorctl ... | head` ends before all is written; that is no failure.
fn is_closed_pipe(error: &anyhow::Error) -> bool {
    error
        .downcast_ref::<std::io::Error>()
        .is_some_and(|error| error.kind() == std::io::ErrorKind::BrokenPipe)
}
