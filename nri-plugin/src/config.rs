// SPDX-License-Identifier: Apache-2.0
//! What the daemon is told on its command line or in its environment.

use std::path::PathBuf;
use std::time::Duration;

use varmor_node_api::DEFAULT_SOCKET;
use varmor_policy::matching::OPT_IN_LABEL;

/// A CreateContainer answer must be with containerd well before its 2 s (`plugin_request_timeout`): past that the
/// container starts without its adjustment.
pub const ANSWER_WITHIN: Duration = Duration::from_millis(1500);

/// What happens to a container that a policy selects when this node can't enforce the policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
#[value(rename_all = "PascalCase")]
pub enum FailurePolicy {
    /// The container is refused.
    #[default]
    Fail,
    /// The container starts with what can be enforced, and the rest is reported.
    Ignore,
}

impl From<FailurePolicy> for varmor_policy::index::FailurePolicy {
    fn from(failure_policy: FailurePolicy) -> Self {
        match failure_policy {
            FailurePolicy::Fail => Self::Fail,
            FailurePolicy::Ignore => Self::Ignore,
        }
    }
}

/// Options of `varmor-nri run`.
#[derive(Debug, Clone, clap::Args)]
pub struct Config {
    /// Folder of policy files (*.yaml, *.yml, *.json)
    #[arg(
        long,
        env = "VARMOR_POLICIES_DIR",
        default_value = "/etc/varmor-nri/policies.d"
    )]
    pub policies_dir: PathBuf,
    /// State that a reboot ends: markers and sandbox records for the OCI hook
    #[arg(long, env = "VARMOR_RUN_DIR", default_value = "/run/varmor-nri")]
    pub run_dir: PathBuf,
    /// State that is kept: the policy index, the last good version of each policy file
    #[arg(long, env = "VARMOR_STATE_DIR", default_value = "/var/lib/varmor-nri")]
    pub state_dir: PathBuf,
    /// Socket of the runtime's NRI service
    #[arg(
        long,
        env = "VARMOR_NRI_SOCKET",
        default_value = "/var/run/nri/nri.sock"
    )]
    pub nri_socket: PathBuf,
    /// Socket of containerd's gRPC API
    #[arg(
        long,
        env = "VARMOR_CONTAINERD_ADDRESS",
        default_value = "/run/containerd/containerd.sock"
    )]
    pub containerd_address: PathBuf,
    /// Two digits: where this plugin stands among the NRI plugins
    #[arg(long, env = "VARMOR_PLUGIN_INDEX", default_value = "90", value_parser = plugin_index)]
    pub plugin_index: String,
    /// Name of this node in violation records; the host name by default
    #[arg(long, env = "NODE_NAME")]
    pub node_name: Option<String>,
    /// Violation log
    #[arg(
        long,
        env = "VARMOR_VIOLATIONS_LOG",
        default_value = "/var/log/varmor/violations.log"
    )]
    pub log: PathBuf,
    /// What happens to a selected container that can't be protected
    #[arg(
        long,
        env = "VARMOR_FAILURE_POLICY",
        default_value = "Fail",
        ignore_case = true
    )]
    pub failure_policy: FailurePolicy,
    /// Label (key=value) that a pod must carry to be protected; empty: every pod is
    #[arg(long, env = "VARMOR_OPT_IN_LABEL", default_value = OPT_IN_LABEL)]
    pub opt_in_label: String,
    /// Namespace of vArmor's own objects, part of the profile names of cluster policies
    #[arg(long, env = "VARMOR_NAMESPACE", default_value = "varmor")]
    pub varmor_namespace: String,
    /// The OCI hook
    #[arg(
        long,
        env = "VARMOR_HOOK_PATH",
        default_value = "/usr/libexec/varmor-nri/varmor-oci-hook"
    )]
    pub hook_path: PathBuf,
    /// Where programs, links and maps are pinned
    #[arg(long, env = "VARMOR_BPF_PIN_DIR", default_value = "/sys/fs/bpf/varmor")]
    pub bpf_pin_dir: PathBuf,
    /// Socket of the node API
    #[arg(long, env = "VARMOR_NODE_SOCKET", default_value = DEFAULT_SOCKET)]
    pub node_socket: PathBuf,
    /// The AppArmor compiler
    #[arg(
        long,
        env = "VARMOR_APPARMOR_PARSER",
        default_value = "apparmor_parser"
    )]
    pub apparmor_parser: PathBuf,
}

impl Config {
    /// The node's name in records: the flag, else the host name.
    pub fn node(&self) -> String {
        self.node_name
            .clone()
            .filter(|name| !name.is_empty())
            .unwrap_or_else(|| {
                std::fs::read_to_string("/proc/sys/kernel/hostname")
                    .map(|name| name.trim().to_owned())
                    .unwrap_or_default()
            })
    }
}

fn plugin_index(text: &str) -> Result<String, String> {
    if text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_digit()) {
        Ok(text.to_owned())
    } else {
        Err("an NRI plugin index has two digits, such as 90".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        config: Config,
    }

    fn parse(arguments: &[&str]) -> Result<Config, clap::Error> {
        Cli::try_parse_from([&["varmor-nri"], arguments].concat()).map(|cli| cli.config)
    }

    #[test]
    fn wrong_words_are_refused() {
        assert!(parse(&["--plugin-index", "7"]).is_err());
        assert!(parse(&["--failure-policy", "Maybe"]).is_err());
        assert_eq!(
            parse(&["--failure-policy", "ignore"])
                .unwrap()
                .failure_policy,
            FailurePolicy::Ignore
        );
    }
}
