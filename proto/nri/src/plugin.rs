// SPDX-License-Identifier: Apache-2.0
//! What a plugin implements.

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;

use crate::adjust::Adjustment;
use crate::api::{
    Container, ContainerUpdate, LinuxResources, PodSandbox, UpdateContainerResponse,
    ValidateContainerAdjustmentRequest,
};
use crate::event::EventMask;
use crate::runtime::Runtime;
use crate::stub::End;
use crate::version::RuntimeVersion;

/// A refusal, as text for the runtime. For `CreateContainer` the runtime refuses the container and its client (the
/// kubelet) gets to see the text; for events after the fact the runtime only logs it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal(String);

impl Refusal {
    /// A refusal with this reason.
    pub fn new(reason: impl Into<String>) -> Self {
        Self(reason.into())
    }

    /// The reason.
    pub fn reason(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Any error is a refusal; its text is the error's with those of all its sources. (`Refusal` itself is not an
/// `Error`, which is what allows this conversion.)
impl<E: std::error::Error> From<E> for Refusal {
    fn from(error: E) -> Self {
        let mut text = error.to_string();
        let mut source = error.source();
        while let Some(cause) = source {
            let cause_text = cause.to_string();
            // Some errors repeat their source in their own text.
            if !text.ends_with(&cause_text) {
                text.push_str(": ");
                text.push_str(&cause_text);
            }
            source = cause.source();
        }
        Self(text)
    }
}

/// What the runtime says in `Configure`.
#[derive(Clone, Debug)]
pub struct Configuration {
    /// Who the runtime is and what it can do.
    pub version: RuntimeVersion,
    /// Contents of the plugin's drop-in file below the runtime's `plugin_config_path`; empty for external plugins of
    /// containerd before 2.2 and wherever there is none.
    pub config: String,
    /// Time that the runtime waits for a registration.
    pub registration_timeout: Duration,
    /// Time that the runtime waits for the answer to a request. A later answer counts as none: containerd then closes
    /// the connection and **starts the container unadjusted**. The stub answers a refusal before that.
    pub request_timeout: Duration,
    /// The way to call the runtime.
    pub runtime: Runtime,
}

/// A plugin. Every method has a default that does nothing and succeeds, since a runtime treats a failure of any
/// subscribed event as a failure of the pod operation.
///
/// The same methods are called whether the runtime sends an event through `StateChange` (NRI up to 0.11) or through an
/// RPC of its own (0.12). Events of one connection may be handled concurrently. A method that panics, or takes longer
/// than the runtime waits, is answered with a refusal.
#[async_trait]
pub trait Plugin: Send + Sync + 'static {
    /// A connection was made and the runtime told who it is. May be called before the registration is confirmed.
    /// Answers the events to subscribe to; those that this runtime does not know are left out (with a warning).
    ///
    /// Default: every event of [`EventMask::BASE`].
    async fn configure(&self, _configuration: &Configuration) -> Result<EventMask, Refusal> {
        Ok(EventMask::BASE)
    }

    /// All pods and containers that exist, once per connection, collected from as many messages as the runtime needed.
    /// Events follow. Answers changes to containers.
    async fn synchronize(
        &self,
        _pods: Vec<PodSandbox>,
        _containers: Vec<Container>,
    ) -> Result<Vec<ContainerUpdate>, Refusal> {
        Ok(Vec::new())
    }

    /// The runtime is about to stop.
    async fn shutdown(&self) {}

    /// There is no connection (any more). [`run_with_reconnect`](crate::stub::run_with_reconnect) calls this when a
    /// connection ends, and when connecting fails for another reason than the last time; it logs nothing itself.
    async fn disconnected(&self, _end: &End) {}

    /// A pod's sandbox was made; its containers come later. A refusal fails the pod.
    async fn run_pod_sandbox(&self, _pod: PodSandbox) -> Result<(), Refusal> {
        Ok(())
    }

    /// A pod's resources are being changed.
    async fn update_pod_sandbox(
        &self,
        _pod: PodSandbox,
        _overhead: LinuxResources,
        _resources: LinuxResources,
    ) -> Result<(), Refusal> {
        Ok(())
    }

    /// A pod's resources were changed.
    async fn post_update_pod_sandbox(&self, _pod: PodSandbox) -> Result<(), Refusal> {
        Ok(())
    }

    /// A pod's sandbox has stopped.
    async fn stop_pod_sandbox(&self, _pod: PodSandbox) -> Result<(), Refusal> {
        Ok(())
    }

    /// A pod's sandbox is gone.
    async fn remove_pod_sandbox(&self, _pod: PodSandbox) -> Result<(), Refusal> {
        Ok(())
    }

    /// A container is being created. A refusal fails the creation.
    async fn create_container(
        &self,
        _pod: PodSandbox,
        _container: Container,
    ) -> Result<Adjustment, Refusal> {
        Ok(Adjustment::new())
    }

    /// A container is in the runtime's store with every plugin's adjustments, its task not yet made.
    async fn post_create_container(
        &self,
        _pod: PodSandbox,
        _container: Container,
    ) -> Result<(), Refusal> {
        Ok(())
    }

    /// A container's init process waits to run the entrypoint.
    async fn start_container(
        &self,
        _pod: PodSandbox,
        _container: Container,
    ) -> Result<(), Refusal> {
        Ok(())
    }

    /// A container's entrypoint runs.
    async fn post_start_container(
        &self,
        _pod: PodSandbox,
        _container: Container,
    ) -> Result<(), Refusal> {
        Ok(())
    }

    /// A container's resources are being changed. The default changes nothing about that.
    async fn update_container(
        &self,
        _pod: PodSandbox,
        _container: Container,
        _resources: LinuxResources,
    ) -> Result<UpdateContainerResponse, Refusal> {
        Ok(UpdateContainerResponse::new())
    }

    /// A container's resources were changed.
    async fn post_update_container(
        &self,
        _pod: PodSandbox,
        _container: Container,
    ) -> Result<(), Refusal> {
        Ok(())
    }

    /// A container has stopped. Answers changes to other containers.
    async fn stop_container(
        &self,
        _pod: PodSandbox,
        _container: Container,
    ) -> Result<Vec<ContainerUpdate>, Refusal> {
        Ok(Vec::new())
    }

    /// A container is gone.
    async fn remove_container(
        &self,
        _pod: PodSandbox,
        _container: Container,
    ) -> Result<(), Refusal> {
        Ok(())
    }

    /// All plugins have adjusted a new container: accept that, or refuse the container.
    async fn validate_container_adjustment(
        &self,
        _request: ValidateContainerAdjustmentRequest,
    ) -> Result<(), Refusal> {
        Ok(())
    }
}
