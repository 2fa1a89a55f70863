// SPDX-License-Identifier: Apache-2.0
//! The pods of a scenario: started, found again by name, and removed without a trace.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};

use super::cri::{self, Client, Output, Refused};
use crate::format::{Container, ContainerName, Pod};

/// Tells the lines of `in: host` where `namespace/pod/container/{id,pid}` are.
pub const CONTAINERS: &str = "/run/scenario/containers";
const FILES: &str = "/run/scenario/pods";
const LOGS: &str = "/var/log/pods";

/// Longer than any init container of a scenario needs, in emulation.
const INIT_TIMEOUT: Duration = Duration::from_secs(60);

/// One container that was created.
#[derive(Debug, Clone)]
struct Created {
    id: String,
    log: PathBuf,
}

/// One sandbox.
struct Sandbox {
    id: String,
    config: k8s_cri::v1::PodSandboxConfig,
    containers: BTreeMap<String, Created>,
}

/// All pods that run now.
pub struct Pods {
    client: Client,
    running: BTreeMap<String, (Pod, Sandbox)>,
    containers: PathBuf,
    files: PathBuf,
    logs: PathBuf,
    /// Counts starts, so that no two share a name, a uid or a log.
    starts: u32,
}

impl Pods {
    /// None yet.
    pub fn new(client: Client) -> Self {
        Self {
            client,
            running: BTreeMap::new(),
            containers: CONTAINERS.into(),
            files: FILES.into(),
            logs: LOGS.into(),
            starts: 0,
        }
    }

    /// None yet; nothing is written outside `folder`.
    pub fn below(client: Client, folder: &Path) -> Self {
        Self {
            containers: folder.join("containers"),
            files: folder.join("files"),
            logs: folder.join("logs"),
            ..Self::new(client)
        }
    }

    /// Starts a pod, in the place of one of that name. The error is the runtime's refusal, in its own words.
    ///
    /// With `until`, the start is over when that container has ended, whatever its exit status is.
    pub async fn start(&mut self, pod: &Pod, until: Option<&str>) -> Result<Result<(), Refused>> {
        self.remove(&pod.name).await?;
        self.starts += 1;
        let uid = format!("5ce0a210-0000-4000-8000-{:012}", self.starts);
        let logs = self
            .logs
            .join(format!("{}_{}_{}", pod.namespace, pod.name, self.starts));
        std::fs::create_dir_all(&logs).context("the pod's log directory")?;
        let config = cri::sandbox_config(pod, &uid, self.starts, &logs);
        let id = match self.client.run_sandbox(&config).await {
            Ok(id) => id,
            Err(refused) => return Ok(Err(refused)),
        };
        let sandbox = Sandbox {
            id,
            config,
            containers: BTreeMap::new(),
        };
        self.running
            .insert(pod.name.clone(), (pod.clone(), sandbox));
        self.start_containers(pod, &uid, &logs, until).await
    }

    async fn start_containers(
        &mut self,
        pod: &Pod,
        uid: &str,
        logs: &Path,
        until: Option<&str>,
    ) -> Result<Result<(), Refused>> {
        for container in pod.all_containers() {
            if let Err(refused) = self.start_container(pod, container, uid, logs).await? {
                return Ok(Err(refused));
            }
            let is_init = pod
                .init_containers
                .iter()
                .any(|init| init.name == container.name);
            if !is_init {
                continue;
            }
            let output = self.wait(&pod.name, &container.name, INIT_TIMEOUT).await?;
            if until == Some(&container.name) {
                return Ok(Ok(()));
            }
            if output.status != 0 {
                let Output { status, stderr, .. } = output;
                return Ok(Err(Refused(format!(
                    "init container {} ended with {status}: {stderr}",
                    container.name
                ))));
            }
        }
        if let Some(container) = until {
            self.wait(&pod.name, container, INIT_TIMEOUT).await?;
        }
        Ok(Ok(()))
    }

    async fn start_container(
        &mut self,
        pod: &Pod,
        container: &Container,
        uid: &str,
        logs: &Path,
    ) -> Result<Result<(), Refused>> {
        for mount in &container.mounts {
            if !Path::new(&mount.host_path).exists() {
                std::fs::create_dir_all(&mount.host_path)
                    .with_context(|| format!("mount {}", mount.host_path))?;
            }
        }
        let attempt = self.starts;
        let token = if container.service_account {
            Some(service_account(&self.files, pod)?)
        } else {
            None
        };
        let config = cri::container_config(pod, container, uid, attempt, token.as_deref());
        let (_, sandbox) = self
            .running
            .get_mut(&pod.name)
            .context("the pod's sandbox")?;
        let id = match self
            .client
            .create(&sandbox.id, &sandbox.config, config)
            .await
        {
            Ok(id) => id,
            Err(refused) => return Ok(Err(refused)),
        };
        let log = logs.join(cri::log_name(&container.name, attempt));
        sandbox.containers.insert(
            container.name.clone(),
            Created {
                id: id.clone(),
                log,
            },
        );
        if let Err(refused) = self.client.start(&id).await {
            return Ok(Err(refused));
        }
        let files = self
            .containers
            .join(format!("{}/{}/{}", pod.namespace, pod.name, container.name));
        std::fs::create_dir_all(&files)?;
        std::fs::write(files.join("id"), &id)?;
        // An entrypoint that has ended already has no pid any more.
        if let Ok(pid) = self.client.pid(&id).await {
            std::fs::write(files.join("pid"), pid.to_string())?;
        }
        Ok(Ok(()))
    }

    fn created(&self, pod: &str, container: &str) -> Result<&Created> {
        let (_, sandbox) = self
            .running
            .get(pod)
            .ok_or_else(|| anyhow!("pod {pod} does not run"))?;
        sandbox
            .containers
            .get(container)
            .ok_or_else(|| anyhow!("container {container} of pod {pod} was not created"))
    }

    /// The id of a container of a running pod.
    pub fn id(&self, name: &ContainerName) -> Result<String> {
        Ok(self.created(&name.pod, &name.container)?.id.clone())
    }

    /// The process id of a container's init on the node.
    pub async fn pid(&self, name: &ContainerName) -> Result<u32> {
        let id = self.id(name)?;
        self.client
            .pid(&id)
            .await
            .map_err(|Refused(text)| anyhow!("{name}: {text}"))
    }

    /// Runs a line in a container.
    pub async fn exec(
        &self,
        name: &ContainerName,
        line: &str,
        timeout: Duration,
    ) -> Result<Output> {
        let id = self.id(name)?;
        self.client
            .exec(&id, line, timeout)
            .await
            .map_err(|Refused(text)| anyhow!("exec in {name}: {text}"))
    }

    /// Waits for the end of a container and reads its output from its log.
    pub async fn wait(&self, pod: &str, container: &str, timeout: Duration) -> Result<Output> {
        let created = self.created(pod, container)?;
        let until = Instant::now() + timeout;
        loop {
            match self.client.exit_status(&created.id).await {
                Ok(Some(status)) => {
                    let log = std::fs::read_to_string(&created.log).unwrap_or_default();
                    let (stdout, stderr) = split_log(&log);
                    return Ok(Output {
                        status,
                        stdout,
                        stderr,
                    });
                }
                Ok(None) if Instant::now() > until => {
                    return Err(anyhow!(
                        "container {container} of pod {pod} did not end within {} s",
                        timeout.as_secs()
                    ));
                }
                Ok(None) => tokio::time::sleep(Duration::from_millis(100)).await,
                Err(Refused(text)) => {
                    return Err(anyhow!(
                        "status of container {container} of pod {pod}: {text}"
                    ));
                }
            }
        }
    }

    /// Removes a pod, when it runs.
    pub async fn remove(&mut self, name: &str) -> Result<()> {
        let Some((pod, sandbox)) = self.running.remove(name) else {
            return Ok(());
        };
        let removed = self.client.remove_sandbox(&sandbox.id).await;
        let _ = std::fs::remove_dir_all(self.containers.join(&pod.namespace).join(&pod.name));
        removed.map_err(|Refused(text)| anyhow!("removing pod {name}: {text}"))
    }

    /// Removes all pods; the first failure is reported when all were tried.
    pub async fn remove_all(&mut self) -> Result<()> {
        let names: Vec<_> = self.running.keys().cloned().collect();
        let mut first = Ok(());
        for name in names {
            let removed = self.remove(&name).await;
            if first.is_ok() {
                first = removed;
            }
        }
        first
    }
}

/// The service account of a pod on the node, with the links that a kubelet makes: token -> ..data/token, ..data -> ..DATE.
fn service_account(files: &Path, pod: &Pod) -> Result<PathBuf> {
    let folder = files
        .join(format!("{}_{}", pod.namespace, pod.name))
        .join("serviceaccount");
    let version = folder.join("..2025_02_24_06_32_23.1519281840");
    if version.is_dir() {
        return Ok(folder);
    }
    std::fs::create_dir_all(&version)?;
    std::os::unix::fs::symlink("..2025_02_24_06_32_23.1519281840", folder.join("..data"))?;
    for (file, content) in [
        ("token", "eyJhbGciOiJSUzI1NiJ9.a-token"),
        ("namespace", pod.namespace.as_str()),
        ("ca.crt", "a-ca"),
    ] {
        std::fs::write(version.join(file), content)?;
        std::os::unix::fs::symlink(format!("..data/{file}"), folder.join(file))?;
    }
    Ok(folder)
}

/// A CRI log: each line is `TIME stdout|stderr F|P TEXT`; P is a line without its end.
fn split_log(log: &str) -> (String, String) {
    let (mut stdout, mut stderr) = (String::new(), String::new());
    for line in log.lines() {
        let mut parts = line.splitn(4, ' ');
        let (_, Some(stream), Some(tag), text) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            continue;
        };
        let target = if stream == "stderr" {
            &mut stderr
        } else {
            &mut stdout
        };
        target.push_str(text.unwrap_or_default());
        if tag.starts_with('F') {
            target.push('\n');
        }
    }
    (stdout, stderr)
}

#[cfg(test)]
mod tests {
    use super::split_log;

    #[test]
    fn a_log_is_split_into_its_streams() {
        let log = "2025-01-01T00:00:00Z stdout F one\n2025-01-01T00:00:00Z stderr P per\n2025-01-01T00:00:00Z stderr F mission\n";
        assert_eq!(split_log(log), ("one\n".into(), "permission\n".into()));
        assert_eq!(split_log("garbage\n"), (String::new(), String::new()));
    }
}
