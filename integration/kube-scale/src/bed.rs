// SPDX-License-Identifier: Apache-2.0
//! The control plane of the test bed: integration/kube/up.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, ensure};
use kube::api::{Api, DynamicObject};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::core::{ApiResource, GroupVersionKind};
use kube::{Client, Config};

use crate::gauges::Process;

/// A bed that is up.
pub struct Bed {
    state: PathBuf,
    scripts: PathBuf,
    base_port: u16,
}

/// A process that is ended with its owner.
pub struct Guard(Child);

impl Guard {
    /// The process.
    pub fn process(&self) -> Process {
        Process(self.0.id())
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Bed {
    /// The bed of a state directory.
    pub fn open(state: &Path) -> Result<Self> {
        let none = || format!("no bed in {}; see integration/kube/up", state.display());
        let state = state.canonicalize().with_context(none)?;
        let number = std::fs::read_to_string(state.join("number")).with_context(none)?;
        let number: u16 = number.trim().parse().context("the bed's number")?;
        Ok(Self {
            state,
            scripts: Path::new(env!("CARGO_MANIFEST_DIR")).join("../kube"),
            // As integration/kube/lib/bed.sh counts.
            base_port: 26400 + number * 10,
        })
    }

    /// Port of etcd.
    pub fn etcd_port(&self) -> u16 {
        self.base_port + 1
    }

    /// A client of the API server, with connections of its own, as an administrator.
    pub async fn client(&self) -> Result<Client> {
        self.client_of(None).await
    }

    /// A client of the server that has the custom resources.
    pub async fn crd_client(&self) -> Result<Client> {
        self.client_of(Some(self.base_port + 5)).await
    }

    /// A client of the API server, with connections of its own, as `policy-sync node` is one: the limits on requests do not
    /// hold for an administrator.
    pub async fn node_client(&self) -> Result<Client> {
        let kubeconfig = Kubeconfig::from_yaml(&self.node_kubeconfig()?)?;
        Self::client_with(kubeconfig).await
    }

    fn node_kubeconfig(&self) -> Result<String> {
        let answer = Command::new(self.scripts.join("kubeconfig-for"))
            .env("VARMOR_KUBE_STATE", &self.state)
            .args(["varmor", "policy-sync-node"])
            .output()?;
        ensure!(answer.status.success(), "integration/kube/kubeconfig-for");
        Ok(String::from_utf8(answer.stdout)?)
    }

    async fn client_of(&self, port: Option<u16>) -> Result<Client> {
        let mut kubeconfig = Kubeconfig::read_from(self.state.join("kubeconfig"))?;
        if let Some(port) = port {
            for cluster in &mut kubeconfig.clusters {
                if let Some(cluster) = &mut cluster.cluster {
                    cluster.server = Some(format!("https://127.0.0.1:{port}"));
                }
            }
        }
        Self::client_with(kubeconfig).await
    }

    async fn client_with(kubeconfig: Kubeconfig) -> Result<Client> {
        let options = KubeConfigOptions::default();
        let mut config = Config::from_custom_kubeconfig(kubeconfig, &options).await?;
        // Watches say nothing for long.
        config.read_timeout = None;
        Ok(Client::try_from(config)?)
    }

    /// A part of the bed: see integration/kube/part.
    pub fn part(&self, action: &str, name: &str) -> Result<()> {
        let status = Command::new(self.scripts.join("part"))
            .env("VARMOR_KUBE_STATE", &self.state)
            .args([action, name])
            .status()?;
        ensure!(status.success(), "integration/kube/part {action} {name}");
        Ok(())
    }

    /// The process of a part.
    pub fn process(&self, name: &str) -> Result<Process> {
        Process::of_part(&self.state, name)
    }

    /// `policy-sync node` as it is, with the service account that it has.
    pub fn policy_sync_node(&self, name: &str, directory: &Path, socket: &Path) -> Result<Guard> {
        let kubeconfig = directory.join(format!("{name}.kubeconfig"));
        std::fs::write(&kubeconfig, self.node_kubeconfig()?)?;
        let log = std::fs::File::create(self.state.join("log").join(format!("{name}.log")))?;
        let child = Command::new(self.state.join("policy-sync"))
            .args(["node", "--node-name", name, "--node-socket"])
            .arg(socket)
            .env("KUBECONFIG", &kubeconfig)
            .stderr(Stdio::from(log))
            .spawn()
            .context("policy-sync; see integration/kube/controllers-up")?;
        Ok(Guard(child))
    }

    /// The replica that leads.
    pub async fn leader(&self, client: &Client) -> Result<(String, Process)> {
        let gvk = GroupVersionKind::gvk("coordination.k8s.io", "v1", "Lease");
        let resource = ApiResource::from_gvk_with_plural(&gvk, "leases");
        let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), "varmor", &resource);
        let lease = api
            .get("varmor-policy-sync")
            .await
            .context("the controller's Lease")?;
        let holder = lease.data["spec"]["holderIdentity"]
            .as_str()
            .unwrap_or_default()
            .to_owned();
        ensure!(!holder.is_empty(), "no controller leads");
        let process = self.process(&holder)?;
        Ok((holder, process))
    }
}
