// SPDX-License-Identifier: Apache-2.0
//! Pods and containers through CRI, and how long their starts take.

use std::collections::HashMap;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};
use k8s_cri::v1::security_profile::ProfileType;
use k8s_cri::v1::{
    ContainerConfig, ContainerMetadata, ImageSpec, LinuxContainerConfig, LinuxContainerResources,
    LinuxContainerSecurityContext, LinuxPodSandboxConfig, LinuxSandboxSecurityContext,
    NamespaceMode, NamespaceOption, PodSandboxConfig, PodSandboxMetadata, SecurityProfile,
};
use varmor_scenario::guest::cri::{Client, Refused};

/// The most that version 1 of the control groups knows.
const MOST_SHARES: i64 = 262_144;

/// Below the root of each control group hierarchy.
const CGROUP: &str = "/varmor-bench";

/// The policy of the measurements, for pods of `app: bench`: a seccomp filter, and BPF rules when `enforcer` names BPF.
pub fn policy(enforcer: &str) -> String {
    let bpf = if enforcer.contains("BPF") {
        "
      bpfRawRules:
        files:
        - {qualifiers: [deny, audit], permissions: [read, write], pattern: /opt/secret/**}"
    } else {
        ""
    };
    format!(
        "apiVersion: crd.varmor.org/v1beta1
kind: VarmorPolicy
metadata: {{name: bench, namespace: bench}}
spec:
  target: {{kind: Pod, selector: {{matchLabels: {{app: bench}}}}}}
  policy:
    enforcer: {enforcer}
    mode: EnhanceProtect
    enhanceProtect:
      hardeningRules: [disallow-create-user-ns]{bpf}
      syscallRawRules:
      - {{names: [keyctl], action: SCMP_ACT_ERRNO}}
"
    )
}

/// How long the two calls of a start took.
#[derive(Debug, Clone, Copy)]
pub struct Took {
    /// CreateContainer.
    pub create: Duration,
    /// StartContainer.
    pub start: Duration,
}

impl Took {
    /// Both calls.
    pub fn total(self) -> Duration {
        self.create + self.start
    }
}

/// A pod on the host's network: there is no CNI plugin to wait for.
pub struct Pod {
    client: Client,
    config: PodSandboxConfig,
    id: String,
    containers: u32,
}

impl Pod {
    /// Starts a pod whose label `app` is this.
    ///
    /// # Errors
    ///
    /// Fails when the runtime does not answer or refuses the sandbox.
    pub async fn start(socket: &Path, name: &str, app: &str) -> Result<Self> {
        let client = Client::new(socket)?;
        let labels = [("app", app), ("sandbox.varmor.org/enable", "true")];
        let namespaces = NamespaceOption {
            network: NamespaceMode::Node as i32,
            ..NamespaceOption::default()
        };
        let config = PodSandboxConfig {
            metadata: Some(PodSandboxMetadata {
                name: name.to_owned(),
                uid: format!("{name}-uid"),
                namespace: "bench".to_owned(),
                attempt: 0,
            }),
            labels: labels
                .map(|(key, value)| (key.to_owned(), value.to_owned()))
                .into(),
            linux: Some(LinuxPodSandboxConfig {
                cgroup_parent: CGROUP.to_owned(),
                security_context: Some(LinuxSandboxSecurityContext {
                    namespace_options: Some(namespaces),
                    ..LinuxSandboxSecurityContext::default()
                }),
                ..LinuxPodSandboxConfig::default()
            }),
            ..PodSandboxConfig::default()
        };
        let id = client.run_sandbox(&config).await.map_err(refused)?;
        Ok(Self {
            client,
            config,
            id,
            containers: 0,
        })
    }

    /// Creates and starts a container and tells how long each took. It runs until the pod is removed.
    ///
    /// # Errors
    ///
    /// Fails when the runtime refuses one of the calls.
    pub async fn add_container(&mut self) -> Result<Took> {
        self.containers += 1;
        let config = ContainerConfig {
            metadata: Some(ContainerMetadata {
                name: format!("c{}", self.containers),
                attempt: 0,
            }),
            image: Some(ImageSpec {
                image: "registry.local/varmor-test:1".to_owned(),
                ..ImageSpec::default()
            }),
            command: ["/bin/sleep", "10000"].map(str::to_owned).to_vec(),
            labels: HashMap::from([(
                "io.kubernetes.container.name".to_owned(),
                format!("c{}", self.containers),
            )]),
            linux: Some(LinuxContainerConfig {
                resources: Some(LinuxContainerResources {
                    cpu_shares: MOST_SHARES,
                    ..LinuxContainerResources::default()
                }),
                // With a filter on either side: what differs is the work of plugin and hook, and not that of a filter.
                security_context: Some(LinuxContainerSecurityContext {
                    seccomp: Some(SecurityProfile {
                        profile_type: ProfileType::RuntimeDefault as i32,
                        ..SecurityProfile::default()
                    }),
                    ..LinuxContainerSecurityContext::default()
                }),
            }),
            ..ContainerConfig::default()
        };
        let start = Instant::now();
        let container = self
            .client
            .create(&self.id, &self.config, config)
            .await
            .map_err(refused)?;
        let created = Instant::now();
        self.client.start(&container).await.map_err(refused)?;
        Ok(Took {
            create: created - start,
            start: created.elapsed(),
        })
    }

    /// Ends the pod and its containers.
    ///
    /// # Errors
    ///
    /// Fails when the runtime refuses.
    pub async fn remove(self) -> Result<()> {
        self.client.remove_sandbox(&self.id).await.map_err(refused)
    }
}

fn refused(error: Refused) -> anyhow::Error {
    anyhow!("the runtime refuses: {}", error.0)
}

/// Gives the pods the processors before the rest of the machine: a container's start is also the work of processes in
/// its own control group, which waits behind everybody else's otherwise. Where it can't be done, it is noisier.
pub fn prefer_pods() {
    for (group, file, weight) in [
        ("cpu", "cpu.shares", MOST_SHARES.to_string()),
        (".", "cpu.weight", "10000".to_owned()),
    ] {
        let directory = Path::new("/sys/fs/cgroup").join(group).join(&CGROUP[1..]);
        let _ = std::fs::create_dir(&directory);
        let _ = std::fs::write(directory.join(file), weight);
    }
}

/// Removes the control groups that the pods leave behind.
pub fn remove_control_groups() {
    let hierarchies = std::fs::read_dir("/sys/fs/cgroup")
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path());
    for hierarchy in hierarchies.chain([std::path::PathBuf::from("/sys/fs/cgroup")]) {
        // Where the pods made none there is nothing to remove.
        let _ = std::fs::remove_dir(hierarchy.join(&CGROUP[1..]));
    }
}
