//! The command line.

use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use varmor_policy::compile::{ServiceName, Settings};
use varmor_policy::rules::{self, BpfPart};

/// Checks vArmor policies, and shows what they compile to and what they say of an action.
#[derive(Debug, Parser)]
#[command(name = "varmorctl", version, about, max_term_width = 100)]
pub struct Arguments {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
    /// How to print.
    #[arg(short, long, global = true, value_enum, default_value = "text")]
    pub output: Output,
}

/// Whom the output is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// For people.
    Text,
    /// For programs.
    Json,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Check policy files; exits with 1 when one is wrong.
    Validate(Validate),
    /// Print the completion script of a shell.
    Completions {
        /// The shell.
        shell: Shell,
    },
    /// Print a manual page.
    Man {
        /// A command, such as `explain`; the program itself when absent.
        command: Option<String>,
    },
}

/// Check policy files.
#[derive(Debug, Args)]
pub struct Validate {
    /// YAML files; `-` is the standard input.
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<String>,
    /// Also check what a node without an API server cannot do, as for files in policies.d.
    #[arg(long)]
    pub node: bool,
    /// The objects as they are in force now: also check that these may become what FILE says.
    #[arg(long, value_name = "FILE")]
    pub previous: Option<String>,
    /// Settings of the cluster.
    #[command(flatten)]
    pub cluster: Cluster,
}

/// Settings of the cluster.
#[derive(Debug, Args)]
pub struct Cluster {
    /// The namespace that cluster policies' profiles are named after.
    #[arg(long, value_name = "NAMESPACE", default_value = "varmor")]
    pub cluster_namespace: String,
}

impl Cluster {
    /// What the compiler takes. `for_node`: as on a node without an API server, which cannot look services up; else
    /// those that built-in rules name count as known, at addresses that only the cluster knows.
    pub fn settings(&self, for_node: bool) -> Settings {
        let services = rules::all()
            .flat_map(|rule| rule.bpf)
            .filter_map(|part| match *part {
                BpfPart::Service { namespace, name } if !for_node => {
                    Some((ServiceName::new(namespace, name), Vec::new()))
                }
                _ => None,
            });
        Settings {
            cluster_namespace: self.cluster_namespace.clone(),
            services: services.collect(),
            ..Settings::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }
}
