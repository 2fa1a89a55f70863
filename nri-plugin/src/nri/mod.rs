// SPDX-License-Identifier: Apache-2.0
//! The NRI plugin: turns the runtime's events into calls of the node, and the node's answers into adjustments.

mod convert;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use containerd_nri::api::{Container, ContainerUpdate, PodSandbox};
use containerd_nri::{
    Adjustment, Configuration, End, Event, EventMask, Hook, HookPoint, Plugin, Refusal,
};

use crate::node::{New, Node};

/// The annotation that names the profile of a container, for those who look at its specification.
const PROFILE_ANNOTATION: &str = "profile.varmor.org";
/// File name of the hook, wherever it is installed.
const HOOK_NAME: &str = "varmor-oci-hook";
/// Seconds after which the OCI runtime kills a hook: an end, where none would block the container for ever.
const HOOK_TIMEOUT: u32 = 10;

/// The plugin.
pub struct Varmor {
    node: Arc<Node>,
    hook: PathBuf,
    /// Its options, where they are not its defaults.
    hook_arguments: Vec<String>,
    sees_seccomp: AtomicBool,
}

impl Varmor {
    /// A plugin for this node, which adds this OCI hook.
    pub fn new(node: Arc<Node>, hook: PathBuf, hook_arguments: Vec<String>) -> Self {
        Self {
            node,
            hook,
            hook_arguments,
            sees_seccomp: AtomicBool::new(false),
        }
    }

    fn hook(&self, point: &str) -> Hook {
        let path = self.hook.to_string_lossy().into_owned();
        let mut args = vec![HOOK_NAME.to_owned()];
        args.extend(self.hook_arguments.iter().cloned());
        args.push(point.to_owned());
        Hook {
            path,
            args,
            env: Vec::new(),
            timeout: Some(HOOK_TIMEOUT),
        }
    }

    /// Whether the container got the hook from the runtime's `base_runtime_spec` already.
    fn has_hook(&self, container: &Container) -> bool {
        let is_ours = |hook: &containerd_nri::api::Hook| {
            Path::new(&hook.path).file_name() == Some(HOOK_NAME.as_ref())
        };
        container
            .hooks
            .as_ref()
            .is_some_and(|hooks| hooks.create_runtime.iter().any(is_ours))
    }
}

#[async_trait]
impl Plugin for Varmor {
    async fn configure(&self, configuration: &Configuration) -> Result<EventMask, Refusal> {
        tracing::info!("connected to {}", configuration.version);
        self.node.counters.runtime_connections.add(1);
        *self
            .node
            .runtime
            .lock()
            .expect("a panic aborts the process") = Some(configuration.version.clone());
        self.sees_seccomp.store(
            configuration.version.can_adjust_seccomp(),
            Ordering::Relaxed,
        );
        // Each event is a call that the container's start waits for, and of the runtime's to its shim before it: a
        // millisecond. That a start has failed is a StopContainer, so none is needed for that it has not.
        Ok(EventMask::from_events([
            Event::RUN_POD_SANDBOX,
            Event::REMOVE_POD_SANDBOX,
            Event::CREATE_CONTAINER,
            Event::POST_CREATE_CONTAINER,
            Event::START_CONTAINER,
            Event::STOP_CONTAINER,
            Event::REMOVE_CONTAINER,
        ]))
    }

    async fn synchronize(
        &self,
        pods: Vec<PodSandbox>,
        containers: Vec<Container>,
    ) -> Result<Vec<ContainerUpdate>, Refusal> {
        self.node.connected.store(true, Ordering::Relaxed);
        let pods = pods.into_iter().map(convert::pod).collect();
        self.node.adopt(
            pods,
            containers.into_iter().map(convert::existing).collect(),
        );
        Ok(Vec::new())
    }

    async fn disconnected(&self, end: &End) {
        self.node.connected.store(false, Ordering::Relaxed);
        if !matches!(end, End::Stopped) {
            tracing::warn!("no runtime: {end}; what is enforced stays enforced");
        }
    }

    async fn run_pod_sandbox(&self, pod: PodSandbox) -> Result<(), Refusal> {
        self.node.pod_started(convert::pod(pod));
        Ok(())
    }

    async fn remove_pod_sandbox(&self, pod: PodSandbox) -> Result<(), Refusal> {
        self.node.pod_removed(&pod.id);
        Ok(())
    }

    async fn create_container(
        &self,
        pod: PodSandbox,
        container: Container,
    ) -> Result<Adjustment, Refusal> {
        let filter = if self.sees_seccomp.load(Ordering::Relaxed) {
            Some(
                container
                    .linux
                    .as_ref()
                    .and_then(|linux| linux.seccomp_policy.as_ref())
                    .map(convert::filter_to_oci),
            )
        } else {
            None
        };
        let hooked = self.has_hook(&container);
        let image = convert::image(&container);
        let pod = self.node.pod_started(convert::pod(pod));
        let new = New {
            pod,
            id: container.id,
            name: container.name,
            image,
            filter,
        };
        let admission = self.node.create(new).await.map_err(|reason| {
            tracing::error!("{reason}");
            Refusal::new(reason)
        })?;
        let mut adjustment = Adjustment::new();
        if admission.hook && !hooked {
            adjustment = adjustment
                .hook(HookPoint::CreateRuntime, self.hook("createRuntime"))
                .hook(HookPoint::Poststop, self.hook("poststop"));
        }
        if let Some(profile) = admission.profile {
            adjustment = adjustment.annotation(PROFILE_ANNOTATION, profile);
        }
        if let Some(filter) = admission.filter {
            let filter = convert::filter_from_oci(&filter).map_err(Refusal::new)?;
            adjustment = adjustment.seccomp(filter);
        }
        Ok(adjustment)
    }

    async fn post_create_container(
        &self,
        _pod: PodSandbox,
        container: Container,
    ) -> Result<(), Refusal> {
        self.node.created(&container.id).await.map_err(|reason| {
            tracing::error!("{reason}");
            Refusal::new(reason)
        })
    }

    async fn start_container(&self, _pod: PodSandbox, container: Container) -> Result<(), Refusal> {
        self.node
            .starting(&container.id, container.pid)
            .map_err(|reason| {
                tracing::error!("{reason}");
                Refusal::new(reason)
            })
    }

    async fn stop_container(
        &self,
        _pod: PodSandbox,
        container: Container,
    ) -> Result<Vec<ContainerUpdate>, Refusal> {
        self.node.stopped(&container.id);
        Ok(Vec::new())
    }

    async fn remove_container(
        &self,
        _pod: PodSandbox,
        container: Container,
    ) -> Result<(), Refusal> {
        self.node.removed(&container.id);
        Ok(())
    }
}
