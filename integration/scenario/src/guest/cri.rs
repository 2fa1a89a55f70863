// SPDX-License-Identifier: Apache-2.0
//! A small CRI client: what a kubelet asks of the runtime to run a pod.

use std::collections::HashMap;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use hyper_util::rt::TokioIo;
use k8s_cri::v1::runtime_service_client::RuntimeServiceClient;
use k8s_cri::v1::security_profile::ProfileType;
use k8s_cri::v1::{
    Capability, ContainerConfig, ContainerMetadata, ContainerState, ContainerStatusRequest,
    CreateContainerRequest, DnsConfig, ExecSyncRequest, ImageSpec, Int64Value,
    LinuxContainerConfig, LinuxContainerSecurityContext, LinuxPodSandboxConfig,
    LinuxSandboxSecurityContext, Mount, NamespaceMode, NamespaceOption, PodSandboxConfig,
    PodSandboxMetadata, RemovePodSandboxRequest, RunPodSandboxRequest, SecurityProfile,
    StartContainerRequest, StopPodSandboxRequest, VersionRequest,
};
use tokio::net::UnixStream;
use tonic::transport::{Channel, Endpoint, Uri};
use tower::service_fn;

use crate::format::{Container, Pod, SeccompProfile};

/// The image of every container.
const IMAGE: &str = "registry.local/varmor-test:1";

/// A call's refusal, as the CRI client sees it: the runtime's own text.
#[derive(Debug)]
pub struct Refused(pub String);

impl From<tonic::Status> for Refused {
    fn from(status: tonic::Status) -> Self {
        Self(status.message().to_string())
    }
}

/// What a line in a container left behind.
#[derive(Debug, Clone, Default)]
pub struct Output {
    /// Exit status.
    pub status: i32,
    /// As text.
    pub stdout: String,
    /// As text.
    pub stderr: String,
}

/// A connection to containerd's CRI service.
#[derive(Clone)]
pub struct Client(RuntimeServiceClient<Channel>);

impl Client {
    /// Connects when the first call is made, and again when containerd was restarted.
    pub fn new(socket: &Path) -> Result<Self> {
        let socket = socket.to_path_buf();
        // The address is not looked at; the connector below is what counts.
        let channel =
            Endpoint::try_from("http://cri.invalid")
                .context("CRI endpoint")?
                .connect_with_connector_lazy(service_fn(move |_: Uri| {
                    let socket = socket.clone();
                    async move {
                        Ok::<_, std::io::Error>(TokioIo::new(UnixStream::connect(socket).await?))
                    }
                }));
        Ok(Self(RuntimeServiceClient::new(channel)))
    }

    /// Waits until the runtime answers, as it does not at once after a restart.
    pub async fn ready(&self) -> Result<(), Refused> {
        let request = || VersionRequest {
            version: "v1".into(),
        };
        for _ in 0..100 {
            if self.0.clone().version(request()).await.is_ok() {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        self.0.clone().version(request()).await?;
        Ok(())
    }

    /// Makes a pod's sandbox and gives its id.
    pub async fn run_sandbox(&self, config: &PodSandboxConfig) -> Result<String, Refused> {
        let request = RunPodSandboxRequest {
            config: Some(config.clone()),
            runtime_handler: String::new(),
        };
        Ok(self
            .0
            .clone()
            .run_pod_sandbox(request)
            .await?
            .into_inner()
            .pod_sandbox_id)
    }

    /// Ends and removes a sandbox with all that is in it.
    pub async fn remove_sandbox(&self, id: &str) -> Result<(), Refused> {
        let mut client = self.0.clone();
        client
            .stop_pod_sandbox(StopPodSandboxRequest {
                pod_sandbox_id: id.into(),
            })
            .await?;
        client
            .remove_pod_sandbox(RemovePodSandboxRequest {
                pod_sandbox_id: id.into(),
            })
            .await?;
        Ok(())
    }

    /// Creates a container and gives its id.
    pub async fn create(
        &self,
        sandbox_id: &str,
        sandbox: &PodSandboxConfig,
        container: ContainerConfig,
    ) -> Result<String, Refused> {
        let request = CreateContainerRequest {
            pod_sandbox_id: sandbox_id.into(),
            config: Some(container),
            sandbox_config: Some(sandbox.clone()),
        };
        Ok(self
            .0
            .clone()
            .create_container(request)
            .await?
            .into_inner()
            .container_id)
    }

    /// Starts a created container.
    pub async fn start(&self, id: &str) -> Result<(), Refused> {
        self.0
            .clone()
            .start_container(StartContainerRequest {
                container_id: id.into(),
            })
            .await?;
        Ok(())
    }

    /// The exit status of a container that has ended.
    pub async fn exit_status(&self, id: &str) -> Result<Option<i32>, Refused> {
        let request = ContainerStatusRequest {
            container_id: id.into(),
            verbose: false,
        };
        let status = self
            .0
            .clone()
            .container_status(request)
            .await?
            .into_inner()
            .status;
        Ok(status.and_then(|status| {
            (status.state == ContainerState::ContainerExited as i32).then_some(status.exit_code)
        }))
    }

    /// The process id of a container's init on the node.
    pub async fn pid(&self, id: &str) -> Result<u32, Refused> {
        let request = ContainerStatusRequest {
            container_id: id.into(),
            verbose: true,
        };
        let info = self
            .0
            .clone()
            .container_status(request)
            .await?
            .into_inner()
            .info;
        let pid = info
            .get("info")
            .and_then(|text| serde_json::from_str::<serde_json::Value>(text).ok())
            .and_then(|info| info.get("pid")?.as_u64());
        pid.map(|pid| pid as u32)
            .ok_or_else(|| Refused(format!("containerd names no pid of container {id}")))
    }

    /// Runs a line in a container's shell.
    pub async fn exec(&self, id: &str, line: &str, timeout: Duration) -> Result<Output, Refused> {
        let request = ExecSyncRequest {
            container_id: id.into(),
            cmd: ["/bin/sh", "-c", line].map(str::to_string).to_vec(),
            timeout: timeout.as_secs() as i64,
        };
        let answer = self.0.clone().exec_sync(request).await?.into_inner();
        Ok(Output {
            status: answer.exit_code,
            stdout: String::from_utf8_lossy(&answer.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&answer.stderr).into_owned(),
        })
    }
}

fn namespaces(pod: &Pod) -> NamespaceOption {
    let mode = |node: bool, otherwise: NamespaceMode| if node { NamespaceMode::Node } else { otherwise } as i32;
    NamespaceOption {
        network: mode(pod.host_network, NamespaceMode::Pod),
        pid: mode(pod.host_pid, NamespaceMode::Container),
        ipc: NamespaceMode::Pod as i32,
        ..Default::default()
    }
}

fn unconfined() -> SecurityProfile {
    SecurityProfile {
        profile_type: ProfileType::Unconfined as i32,
        localhost_ref: String::new(),
    }
}

fn runtime_default() -> SecurityProfile {
    SecurityProfile {
        profile_type: ProfileType::RuntimeDefault as i32,
        localhost_ref: String::new(),
    }
}

fn to_map(map: &std::collections::BTreeMap<String, String>) -> HashMap<String, String> {
    map.iter()
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect()
}

/// The sandbox of a pod, as a kubelet would describe it. `attempt` makes the name unique among the starts of one pod.
pub fn sandbox_config(
    pod: &Pod,
    uid: &str,
    attempt: u32,
    log_directory: &Path,
) -> PodSandboxConfig {
    let mut labels = to_map(&pod.labels);
    for (key, value) in [
        ("pod.name", pod.name.as_str()),
        ("pod.namespace", &pod.namespace),
        ("pod.uid", uid),
    ] {
        labels.insert(format!("io.kubernetes.{key}"), value.to_string());
    }
    PodSandboxConfig {
        metadata: Some(PodSandboxMetadata {
            name: pod.name.clone(),
            uid: uid.into(),
            namespace: pod.namespace.clone(),
            attempt,
        }),
        // With the node's network comes the node's name.
        hostname: if pod.host_network {
            String::new()
        } else {
            pod.name.clone()
        },
        log_directory: log_directory.display().to_string(),
        dns_config: Some(DnsConfig {
            servers: vec!["10.88.0.1".into()],
            ..Default::default()
        }),
        labels,
        annotations: to_map(&pod.annotations),
        linux: Some(LinuxPodSandboxConfig {
            security_context: Some(LinuxSandboxSecurityContext {
                namespace_options: Some(namespaces(pod)),
                privileged: pod.all_containers().any(|container| container.privileged),
                seccomp: Some(unconfined()),
                apparmor: Some(unconfined()),
                ..Default::default()
            }),
            ..Default::default()
        }),
        ..Default::default()
    }
}

/// One container of a pod. `service_account` is the directory on the node that holds the token.
pub fn container_config(
    pod: &Pod,
    container: &Container,
    uid: &str,
    attempt: u32,
    service_account: Option<&Path>,
) -> ContainerConfig {
    let mut mounts: Vec<Mount> = container
        .mounts
        .iter()
        .map(|mount| Mount {
            container_path: mount.path.clone(),
            host_path: mount.host_path.clone(),
            readonly: mount.read_only,
            ..Default::default()
        })
        .collect();
    mounts.extend(service_account.map(|path| Mount {
        container_path: "/var/run/secrets/kubernetes.io/serviceaccount".into(),
        host_path: path.display().to_string(),
        readonly: true,
        ..Default::default()
    }));
    let labels = [
        ("io.kubernetes.container.name", container.name.as_str()),
        ("io.kubernetes.pod.name", &pod.name),
        ("io.kubernetes.pod.namespace", &pod.namespace),
        ("io.kubernetes.pod.uid", uid),
    ];
    ContainerConfig {
        metadata: Some(ContainerMetadata {
            name: container.name.clone(),
            attempt,
        }),
        image: Some(ImageSpec {
            image: IMAGE.into(),
            ..Default::default()
        }),
        command: container.command.clone(),
        mounts,
        labels: labels
            .iter()
            .map(|(key, value)| (key.to_string(), value.to_string()))
            .collect(),
        log_path: log_name(&container.name, attempt),
        linux: Some(LinuxContainerConfig {
            security_context: Some(LinuxContainerSecurityContext {
                capabilities: Some(Capability {
                    add_capabilities: container.capabilities.add.clone(),
                    drop_capabilities: container.capabilities.drop.clone(),
                    ..Default::default()
                }),
                privileged: container.privileged,
                namespace_options: Some(namespaces(pod)),
                run_as_user: container.run_as_user.map(|value| Int64Value { value }),
                readonly_rootfs: container.read_only_root,
                no_new_privs: container.no_new_privs,
                seccomp: Some(match container.seccomp {
                    Some(SeccompProfile::RuntimeDefault) => runtime_default(),
                    Some(SeccompProfile::Unconfined) | None => unconfined(),
                }),
                apparmor: Some(if container.runtime_app_armor {
                    runtime_default()
                } else {
                    unconfined()
                }),
                ..Default::default()
            }),
            ..Default::default()
        }),
        ..Default::default()
    }
}

/// The log file of one start of a container, in the sandbox's log directory.
pub fn log_name(container: &str, attempt: u32) -> String {
    format!("{container}-{attempt}.log")
}
