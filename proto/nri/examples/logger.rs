// SPDX-License-Identifier: Apache-2.0
//! Logs what a runtime does, and marks every container that it makes with an annotation.
//!
//! `logger [SOCKET]`, as root; or installed as /opt/nri/plugins/10-logger, where the runtime starts it.

use std::sync::Arc;

use containerd_nri::api::{Container, ContainerUpdate, PodSandbox};
use containerd_nri::{
    Adjustment, Backoff, Configuration, End, Event, EventMask, Identity, Plugin, Preinstalled,
    Refusal,
};

struct Logger;

#[async_trait::async_trait]
impl Plugin for Logger {
    async fn configure(&self, configuration: &Configuration) -> Result<EventMask, Refusal> {
        println!("connected to {}", configuration.version);
        println!(
            "seccomp adjustable: {}",
            configuration.version.can_adjust_seccomp()
        );
        Ok(EventMask::of(Event::RUN_POD_SANDBOX)
            | Event::CREATE_CONTAINER
            | Event::REMOVE_CONTAINER)
    }

    async fn synchronize(
        &self,
        pods: Vec<PodSandbox>,
        containers: Vec<Container>,
    ) -> Result<Vec<ContainerUpdate>, Refusal> {
        println!(
            "{} pods and {} containers exist",
            pods.len(),
            containers.len()
        );
        Ok(Vec::new())
    }

    async fn run_pod_sandbox(&self, pod: PodSandbox) -> Result<(), Refusal> {
        println!("new pod {}/{}", pod.namespace, pod.name);
        Ok(())
    }

    async fn create_container(
        &self,
        pod: PodSandbox,
        container: Container,
    ) -> Result<Adjustment, Refusal> {
        println!(
            "new container {}/{}/{}",
            pod.namespace, pod.name, container.name
        );
        if pod
            .labels
            .get("logger")
            .is_some_and(|value| value == "refuse")
        {
            return Err(Refusal::new(format!(
                "pod {} asked to be refused",
                pod.name
            )));
        }
        Ok(Adjustment::new().annotation("logger.example/seen", "true"))
    }

    async fn remove_container(&self, pod: PodSandbox, container: Container) -> Result<(), Refusal> {
        println!(
            "container {}/{}/{} is gone",
            pod.namespace, pod.name, container.name
        );
        Ok(())
    }

    async fn disconnected(&self, end: &End) {
        println!("disconnected: {end}");
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let stop = async {
        let _ = tokio::signal::ctrl_c().await;
    };
    if let Some(started) = Preinstalled::from_env()? {
        started.socket.set_nonblocking(true)?;
        let socket = tokio::net::UnixStream::from_std(started.socket)?;
        let end = containerd_nri::run_on(socket, &started.identity, Arc::new(Logger), stop).await;
        println!("{end}");
        return Ok(());
    }
    let socket = std::env::args()
        .nth(1)
        .unwrap_or(containerd_nri::stub::DEFAULT_SOCKET.into());
    let identity = Identity::new("logger", "10")?;
    containerd_nri::run_with_reconnect(
        socket,
        &identity,
        Arc::new(Logger),
        Backoff::default(),
        stop,
    )
    .await;
    Ok(())
}
