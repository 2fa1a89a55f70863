// SPDX-License-Identifier: Apache-2.0
//! A plugin for tests that writes down what it was called with and answers as told.

#![allow(dead_code)]

use std::sync::Mutex;
use std::time::Duration;

use async_trait::async_trait;
use containerd_nri::api::{
    Container, ContainerUpdate, LinuxResources, PodSandbox, UpdateContainerResponse,
    ValidateContainerAdjustmentRequest,
};
use containerd_nri::{Adjustment, Configuration, End, EventMask, Plugin, Refusal};

/// What to do in CreateContainer.
#[derive(Clone, Debug, Default)]
pub enum Creation {
    #[default]
    Nothing,
    Answer(Box<Adjustment>),
    Refuse(&'static str),
    Panic,
    Sleep(Duration),
}

pub struct Recorder {
    pub calls: Mutex<Vec<String>>,
    pub configuration: Mutex<Option<Configuration>>,
    pub synchronized: Mutex<Vec<(usize, usize)>>,
    pub ends: Mutex<Vec<String>>,
    pub subscription: EventMask,
    pub creation: Creation,
}

impl Default for Recorder {
    fn default() -> Self {
        Self {
            calls: Mutex::default(),
            configuration: Mutex::default(),
            synchronized: Mutex::default(),
            ends: Mutex::default(),
            subscription: EventMask::ALL,
            creation: Creation::Nothing,
        }
    }
}

impl Recorder {
    pub fn creating(creation: Creation) -> Self {
        Self {
            creation,
            ..Self::default()
        }
    }

    pub fn calls(&self) -> Vec<String> {
        self.calls.lock().unwrap().clone()
    }

    fn pod(&self, event: &str, pod: &PodSandbox) -> Result<(), Refusal> {
        assert_eq!(
            (pod.id.as_str(), pod.labels["app"].as_str()),
            ("pod-id", "web")
        );
        self.calls.lock().unwrap().push(event.to_owned());
        Ok(())
    }

    fn container(
        &self,
        event: &str,
        pod: &PodSandbox,
        container: &Container,
    ) -> Result<(), Refusal> {
        assert_eq!(container.id, "container-id");
        self.pod(event, pod)
    }
}

#[async_trait]
impl Plugin for Recorder {
    async fn configure(&self, configuration: &Configuration) -> Result<EventMask, Refusal> {
        *self.configuration.lock().unwrap() = Some(configuration.clone());
        Ok(self.subscription)
    }

    async fn synchronize(
        &self,
        pods: Vec<PodSandbox>,
        containers: Vec<Container>,
    ) -> Result<Vec<ContainerUpdate>, Refusal> {
        self.synchronized
            .lock()
            .unwrap()
            .push((pods.len(), containers.len()));
        Ok(Vec::new())
    }

    async fn shutdown(&self) {
        self.calls.lock().unwrap().push("shutdown".into());
    }

    async fn disconnected(&self, end: &End) {
        self.ends.lock().unwrap().push(end.to_string());
    }

    async fn run_pod_sandbox(&self, pod: PodSandbox) -> Result<(), Refusal> {
        self.pod("run_pod_sandbox", &pod)
    }

    async fn update_pod_sandbox(
        &self,
        pod: PodSandbox,
        overhead: LinuxResources,
        resources: LinuxResources,
    ) -> Result<(), Refusal> {
        assert_eq!(overhead.cpu.shares.value, 1);
        assert_eq!(resources.cpu.shares.value, 2);
        self.pod("update_pod_sandbox", &pod)
    }

    async fn post_update_pod_sandbox(&self, pod: PodSandbox) -> Result<(), Refusal> {
        self.pod("post_update_pod_sandbox", &pod)
    }

    async fn stop_pod_sandbox(&self, pod: PodSandbox) -> Result<(), Refusal> {
        self.pod("stop_pod_sandbox", &pod)
    }

    async fn remove_pod_sandbox(&self, pod: PodSandbox) -> Result<(), Refusal> {
        self.pod("remove_pod_sandbox", &pod)
    }

    async fn create_container(
        &self,
        pod: PodSandbox,
        container: Container,
    ) -> Result<Adjustment, Refusal> {
        self.container("create_container", &pod, &container)?;
        match self.creation.clone() {
            Creation::Nothing => Ok(Adjustment::new()),
            Creation::Answer(adjustment) => Ok(*adjustment),
            Creation::Refuse(reason) => Err(Refusal::new(reason)),
            Creation::Panic => panic!("a bug in the plugin"),
            Creation::Sleep(time) => {
                tokio::time::sleep(time).await;
                self.calls.lock().unwrap().push("slept".into());
                Ok(Adjustment::new().annotation("slept", "yes"))
            }
        }
    }

    async fn post_create_container(
        &self,
        pod: PodSandbox,
        container: Container,
    ) -> Result<(), Refusal> {
        self.container("post_create_container", &pod, &container)
    }

    async fn start_container(&self, pod: PodSandbox, container: Container) -> Result<(), Refusal> {
        self.container("start_container", &pod, &container)
    }

    async fn post_start_container(
        &self,
        pod: PodSandbox,
        container: Container,
    ) -> Result<(), Refusal> {
        self.container("post_start_container", &pod, &container)
    }

    async fn update_container(
        &self,
        pod: PodSandbox,
        container: Container,
        resources: LinuxResources,
    ) -> Result<UpdateContainerResponse, Refusal> {
        assert_eq!(resources.pids.limit, 7);
        self.container("update_container", &pod, &container)?;
        let mut response = UpdateContainerResponse::new();
        response
            .update
            .push(containerd_nri::adjust::container_update("other", resources));
        Ok(response)
    }

    async fn post_update_container(
        &self,
        pod: PodSandbox,
        container: Container,
    ) -> Result<(), Refusal> {
        self.container("post_update_container", &pod, &container)
    }

    async fn stop_container(
        &self,
        pod: PodSandbox,
        container: Container,
    ) -> Result<Vec<ContainerUpdate>, Refusal> {
        self.container("stop_container", &pod, &container)?;
        Ok(vec![containerd_nri::adjust::container_update(
            "other",
            LinuxResources::new(),
        )])
    }

    async fn remove_container(&self, pod: PodSandbox, container: Container) -> Result<(), Refusal> {
        self.container("remove_container", &pod, &container)
    }

    async fn validate_container_adjustment(
        &self,
        request: ValidateContainerAdjustmentRequest,
    ) -> Result<(), Refusal> {
        match request.adjust.annotations.get("bad") {
            Some(_) => Err(Refusal::new("the annotation \"bad\" is not allowed")),
            None => Ok(()),
        }
    }
}
