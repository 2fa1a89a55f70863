// SPDX-License-Identifier: Apache-2.0
//! The command line.

use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use varmor_policy::compile::{ServiceName, Settings};
use varmor_policy::matching::OPT_IN_LABEL;
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
    /// Show what would be loaded for a policy.
    Render(Render),
    /// Say which policy holds for a container, and what it says of actions.
    Explain(Explain),
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

/// Show what would be loaded for a policy.
#[derive(Debug, Args)]
pub struct Render {
    /// A YAML file; `-` is the standard input.
    #[arg(value_name = "FILE")]
    pub file: String,
    /// For which enforcer.
    #[arg(long, value_enum)]
    pub enforcer: EnforcerName,
    /// The policy, when the file has several: NAMESPACE/NAME, or NAME of a cluster policy.
    #[arg(long, value_name = "POLICY")]
    pub policy: Option<String>,
    /// seccomp: the container's own filter, or its OCI spec, as JSON; the filters are merged as for a container.
    #[arg(long, value_name = "FILE")]
    pub own: Option<String>,
    /// seccomp: a capability of the container, which the runtime's default filter depends on; repeat for several.
    #[arg(long = "capability", value_name = "CAP_NAME")]
    pub capabilities: Vec<String>,
    /// Settings of the cluster.
    #[command(flatten)]
    pub cluster: Cluster,
}

/// An enforcer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum EnforcerName {
    /// The text of the profile.
    Apparmor,
    /// The tables of the BPF programs.
    Bpf,
    /// The filter, as in the OCI runtime specification.
    Seccomp,
}

impl EnforcerName {
    /// The name in policies.
    pub fn name(self) -> &'static str {
        match self {
            Self::Apparmor => "AppArmor",
            Self::Bpf => "BPF",
            Self::Seccomp => "Seccomp",
        }
    }
}

/// Say which policy holds for a container, and what it says of actions.
#[derive(Debug, Args)]
#[command(after_help = ACTIONS)]
pub struct Explain {
    /// YAML files; `-` is the standard input.
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<String>,
    /// The container; without it, the policy is asked whomever it selects.
    #[arg(long, value_name = "NAMESPACE/POD/CONTAINER")]
    pub container: Option<String>,
    /// Labels of the pod.
    #[arg(long, value_name = "KEY=VALUE", value_delimiter = ',')]
    pub labels: Vec<String>,
    /// Annotations of the pod.
    #[arg(long, value_name = "KEY=VALUE", value_delimiter = ',')]
    pub annotations: Vec<String>,
    /// The label that pods opt in with; empty when all are.
    #[arg(long, value_name = "KEY=VALUE", default_value = OPT_IN_LABEL)]
    pub opt_in_label: String,
    /// The policy, when no container is given and there are several: NAMESPACE/NAME, or NAME of a cluster policy.
    #[arg(long, value_name = "POLICY", conflicts_with = "container")]
    pub policy: Option<String>,
    /// What the container's process does, such as open:/etc/shadow:w; repeat for several.
    #[arg(long = "action", value_name = "ACTION")]
    pub actions: Vec<String>,
    /// The program that does it, or one that it descends from, when it has rules of its own.
    #[arg(long, value_name = "PATH")]
    pub executable: Option<String>,
    /// Whom the actions' files belong to, for AppArmor rules with `owner`.
    #[arg(long, value_enum)]
    pub owner: Option<FileOwner>,
    /// An address of the pod, for rules about these.
    #[arg(long = "pod-ip", value_name = "ADDRESS")]
    pub pod_ips: Vec<std::net::IpAddr>,
    /// The container's own seccomp filter, or its OCI spec, as JSON.
    #[arg(long, value_name = "FILE")]
    pub own: Option<String>,
    /// A capability of the container, which the runtime's default filter depends on; repeat for several.
    #[arg(long = "capability", value_name = "CAP_NAME")]
    pub capabilities: Vec<String>,
    /// Settings of the cluster.
    #[command(flatten)]
    pub cluster: Cluster,
}

/// Whom a file belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum FileOwner {
    /// The user of the process.
    Own,
    /// Another user.
    Other,
}

const ACTIONS: &str = "\
Actions:
  open:PATH:HOW                      HOW is some of r, w, a (append)
  exec:PATH
  create:PATH unlink:PATH mkdir:PATH rmdir:PATH mknod:PATH symlink:PATH
  truncate:PATH chmod:PATH chown:PATH setxattr:PATH
  rename:OLD:NEW link:OLD:NEW
  connect:ADDRESS:PORT[/udp]         [fd00::1]:53 for IPv6; connect:PATH for a Unix socket
  socket:FAMILY:TYPE[:PROTOCOL]      socket:inet:raw:icmp
  mount:FSTYPE:SOURCE[:FLAGS][:on=PATH]
                                     mount:proc:proc, mount:none:/data:bind,ro:on=/mnt;
                                     what changes a mount has that one as its source
  umount:PATH
  ptrace:HOW[:external]              HOW is trace, read, traceby or readby
  cap:NAME
  userns
  syscall:NAME[:ARGUMENTS]           syscall:unshare:0x10000000, ? for an argument that may be anything

Paths are as the kernel resolves them.";

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
