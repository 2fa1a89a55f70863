// SPDX-License-Identifier: Apache-2.0
//! Changing a container's OCI spec in containerd's store, between the container's creation and its start.
//!
//! NRI has no AppArmor field in any release, and runtimes below NRI 0.10 drop the seccomp one. containerd reads the spec
//! again when it makes the task, so what is stored during PostCreateContainer is what runc gets (seen with containerd 1.7
//! to 2.3).

use std::path::PathBuf;

use async_trait::async_trait;
use containerd_client::services::v1::containers_client::ContainersClient;
use containerd_client::services::v1::{Container, GetContainerRequest, UpdateContainerRequest};
use containerd_client::tonic::transport::Channel;
use containerd_client::tonic::{Code, Request};
use tokio::sync::Mutex;
use varmor_node_state::Spec;

/// The namespace of CRI containers in containerd.
pub const NAMESPACE: &str = "k8s.io";
/// The name under which containerd registers runtime-spec's `Spec` (v1).
const SPEC_TYPE: &str = "types.containerd.io/opencontainers/runtime-spec/1/Spec";

/// Reads and changes OCI specs.
#[async_trait]
pub trait SpecStore: Send + Sync {
    /// Reads a container's spec.
    async fn spec(&self, container: &str) -> Result<Spec, String>;
    /// Replaces a container's spec.
    async fn replace(&self, container: &str, spec: &Spec) -> Result<(), String>;
}

/// containerd's own store.
pub struct Containerd {
    address: PathBuf,
    channel: Mutex<Option<Channel>>,
}

impl Containerd {
    /// The containerd that listens at `address`; connected at the first use, and again when it was restarted.
    pub fn new(address: PathBuf) -> Self {
        Self {
            address,
            channel: Mutex::new(None),
        }
    }

    async fn client(&self) -> Result<ContainersClient<Channel>, String> {
        let mut channel = self.channel.lock().await;
        let connected = match &*channel {
            Some(connected) => connected.clone(),
            None => {
                let fresh = containerd_client::connect(&self.address)
                    .await
                    .map_err(|error| {
                        format!("can't connect to {}: {error:?}", self.address.display())
                    })?;
                channel.insert(fresh).clone()
            }
        };
        // A spec is some 10 KiB plus the seccomp filter; containerd's own limit is 16 MiB.
        Ok(ContainersClient::new(connected).max_decoding_message_size(16 << 20))
    }

    /// A broken connection is made anew at the next use.
    async fn failed(&self, action: &str, status: &containerd_client::tonic::Status) -> String {
        if matches!(status.code(), Code::Unavailable | Code::Unknown) {
            *self.channel.lock().await = None;
        }
        format!(
            "containerd refuses to {action}: {} ({:?})",
            status.message(),
            status.code()
        )
    }
}

#[async_trait]
impl SpecStore for Containerd {
    async fn spec(&self, container: &str) -> Result<Spec, String> {
        let request = GetContainerRequest {
            id: container.to_owned(),
        };
        let reply = match self.client().await?.get(namespaced(request)).await {
            Ok(reply) => reply.into_inner(),
            Err(status) => return Err(self.failed("show the container", &status).await),
        };
        let spec = reply
            .container
            .and_then(|container| container.spec)
            .ok_or("containerd shows no spec")?;
        Spec::parse(&spec.value).map_err(|error| error.to_string())
    }

    async fn replace(&self, container: &str, spec: &Spec) -> Result<(), String> {
        let mut request = UpdateContainerRequest {
            container: Some(Container {
                id: container.to_owned(),
                ..Default::default()
            }),
            update_mask: None,
        };
        // Without the mask every other field would be cleared.
        request
            .update_mask
            .get_or_insert_default()
            .paths
            .push("spec".to_owned());
        let stored = request
            .container
            .get_or_insert_default()
            .spec
            .get_or_insert_default();
        stored.type_url = SPEC_TYPE.to_owned();
        stored.value = spec.to_json().map_err(|error| error.to_string())?;
        match self.client().await?.update(namespaced(request)).await {
            Ok(_) => Ok(()),
            Err(status) => Err(self.failed("update the container", &status).await),
        }
    }
}

fn namespaced<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert(
        "containerd-namespace",
        NAMESPACE.parse().expect("an ASCII literal"),
    );
    request
}
