// SPDX-License-Identifier: Apache-2.0
//! The ttrpc service of a session. The nine RPCs at its end are those of NRI 0.12; up to 0.11 the same events arrive
//! through `state_change`.

use std::time::Duration;

use async_trait::async_trait;
use protobuf::MessageField;
use ttrpc::Code;
use ttrpc::r#async::TtrpcContext;

use crate::api;
use crate::event::Event;
use crate::plugin::{Configuration, Plugin};
use crate::session::{Progress, REQUEST_TIMEOUT, Session, error, present};
use crate::version::RuntimeVersion;

/// Default of containerd, used where the runtime tells none.
const REGISTRATION_TIMEOUT: Duration = Duration::from_secs(5);
/// Pods and containers that a split synchronisation may have together.
const MAX_SYNCHRONIZED: usize = 1 << 17;

#[async_trait]
impl<P: Plugin> api::service::Plugin for Session<P> {
    async fn configure(
        &self,
        context: &TtrpcContext,
        request: api::ConfigureRequest,
    ) -> ttrpc::Result<api::ConfigureResponse> {
        let version = RuntimeVersion::new(
            &request.runtime_name,
            &request.runtime_version,
            &request.NRI_version,
        );
        let configuration = Configuration {
            version: version.clone(),
            config: request.config,
            registration_timeout: milliseconds(request.registration_timeout)
                .unwrap_or(REGISTRATION_TIMEOUT),
            request_timeout: milliseconds(request.request_timeout).unwrap_or(REQUEST_TIMEOUT),
            runtime: self.runtime(),
        };
        {
            let mut state = self.state();
            state.version = Some(version.clone());
            state.request_timeout = Some(configuration.request_timeout);
        }
        let plugin = self.plugin();
        let wanted = self
            .answer(context, "Configure", async move {
                plugin.configure(&configuration).await
            })
            .await;
        let events = wanted.and_then(|wanted| {
            let unknown = wanted & !version.known_events();
            if !unknown.is_empty() {
                tracing::warn!(runtime = %version, events = %unknown, "not subscribing to events that the runtime lacks");
            }
            let events = wanted & version.known_events();
            if events.is_empty() {
                // 0 would subscribe to everything.
                return Err(error(
                    Code::INVALID_ARGUMENT,
                    &format!("the plugin wants none of the events that {version} has (wanted: {wanted})"),
                ));
            }
            Ok(events)
        });
        match events {
            Ok(events) => {
                tracing::info!(runtime = %version, %events, "configured");
                self.advance(Progress::Configured);
                let mut response = api::ConfigureResponse::new();
                response.events = events.bits().cast_signed();
                Ok(response)
            }
            Err(failure) => {
                self.advance(Progress::Refused(reason(&failure)));
                Err(failure)
            }
        }
    }

    async fn synchronize(
        &self,
        context: &TtrpcContext,
        request: api::SynchronizeRequest,
    ) -> ttrpc::Result<api::SynchronizeResponse> {
        let (pods, containers) = {
            let mut state = self.state();
            state.pods.extend(request.pods);
            state.containers.extend(request.containers);
            if state.pods.len() + state.containers.len() > MAX_SYNCHRONIZED {
                state.pods = Vec::new();
                state.containers = Vec::new();
                return Err(error(
                    Code::INVALID_ARGUMENT,
                    &format!(
                        "more than {MAX_SYNCHRONIZED} pods and containers in a synchronisation"
                    ),
                ));
            }
            if request.more {
                let mut response = api::SynchronizeResponse::new();
                response.more = true;
                return Ok(response);
            }
            (
                std::mem::take(&mut state.pods),
                std::mem::take(&mut state.containers),
            )
        };
        let plugin = self.plugin();
        let update = self
            .answer(context, "Synchronize", async move {
                plugin.synchronize(pods, containers).await
            })
            .await?;
        self.advance(Progress::Synchronized);
        let mut response = api::SynchronizeResponse::new();
        response.update = update;
        Ok(response)
    }

    async fn shutdown(&self, context: &TtrpcContext, _: api::Empty) -> ttrpc::Result<api::Empty> {
        self.state().runtime_stops = true;
        let plugin = self.plugin();
        self.answer(context, "Shutdown", async move {
            plugin.shutdown().await;
            Ok(())
        })
        .await?;
        Ok(api::Empty::new())
    }

    async fn create_container(
        &self,
        context: &TtrpcContext,
        request: api::CreateContainerRequest,
    ) -> ttrpc::Result<api::CreateContainerResponse> {
        let pod = present(request.pod, "CreateContainer", "pod")?;
        let container = present(request.container, "CreateContainer", "container")?;
        let plugin = self.plugin();
        let adjustment = self
            .answer(context, "CreateContainer", async move {
                plugin.create_container(pod, container).await
            })
            .await?;
        let version = self.state().version.clone();
        if adjustment.has_seccomp()
            && !version
                .as_ref()
                .is_some_and(RuntimeVersion::can_adjust_seccomp)
        {
            let runtime =
                version.map_or_else(|| "the runtime".to_owned(), |version| version.to_string());
            return Err(error(
                Code::FAILED_PRECONDITION,
                &format!(
                    "the plugin set a seccomp filter, which {runtime} would drop silently: NRI 0.10 is needed"
                ),
            ));
        }
        Ok(adjustment.into_response())
    }

    async fn update_container(
        &self,
        context: &TtrpcContext,
        request: api::UpdateContainerRequest,
    ) -> ttrpc::Result<api::UpdateContainerResponse> {
        let pod = present(request.pod, "UpdateContainer", "pod")?;
        let container = present(request.container, "UpdateContainer", "container")?;
        let resources = request.linux_resources.unwrap_or_default();
        let plugin = self.plugin();
        self.answer(context, "UpdateContainer", async move {
            plugin.update_container(pod, container, resources).await
        })
        .await
    }

    async fn stop_container(
        &self,
        context: &TtrpcContext,
        request: api::StopContainerRequest,
    ) -> ttrpc::Result<api::StopContainerResponse> {
        let pod = present(request.pod, "StopContainer", "pod")?;
        let container = present(request.container, "StopContainer", "container")?;
        let plugin = self.plugin();
        let update = self
            .answer(context, "StopContainer", async move {
                plugin.stop_container(pod, container).await
            })
            .await?;
        let mut response = api::StopContainerResponse::new();
        response.update = update;
        Ok(response)
    }

    async fn update_pod_sandbox(
        &self,
        context: &TtrpcContext,
        request: api::UpdatePodSandboxRequest,
    ) -> ttrpc::Result<api::UpdatePodSandboxResponse> {
        let pod = present(request.pod, "UpdatePodSandbox", "pod")?;
        let overhead = request.overhead_linux_resources.unwrap_or_default();
        let resources = request.linux_resources.unwrap_or_default();
        let plugin = self.plugin();
        self.answer(context, "UpdatePodSandbox", async move {
            plugin.update_pod_sandbox(pod, overhead, resources).await
        })
        .await?;
        Ok(api::UpdatePodSandboxResponse::new())
    }

    async fn validate_container_adjustment(
        &self,
        context: &TtrpcContext,
        request: api::ValidateContainerAdjustmentRequest,
    ) -> ttrpc::Result<api::ValidateContainerAdjustmentResponse> {
        let plugin = self.plugin();
        // A rejection is an answer here, not a failed call.
        let verdict = self
            .answer(context, "ValidateContainerAdjustment", async move {
                Ok(plugin.validate_container_adjustment(request).await)
            })
            .await?;
        let mut response = api::ValidateContainerAdjustmentResponse::new();
        if let Err(refusal) = verdict {
            response.reject = true;
            response.reason = refusal.reason().to_owned();
        }
        Ok(response)
    }

    async fn state_change(
        &self,
        context: &TtrpcContext,
        request: api::StateChangeEvent,
    ) -> ttrpc::Result<api::Empty> {
        match request.event.enum_value() {
            Ok(event) => {
                self.notify(context, event, request.pod, request.container)
                    .await?
            }
            // Of a newer runtime, which sends it although nobody subscribed.
            Err(number) => tracing::debug!(number, "ignoring an unknown kind of state change"),
        }
        Ok(api::Empty::new())
    }

    async fn run_pod_sandbox(
        &self,
        context: &TtrpcContext,
        request: api::RunPodSandboxRequest,
    ) -> ttrpc::Result<api::RunPodSandboxResponse> {
        self.notify(
            context,
            Event::RUN_POD_SANDBOX,
            request.pod,
            MessageField::none(),
        )
        .await?;
        Ok(api::RunPodSandboxResponse::new())
    }

    async fn post_update_pod_sandbox(
        &self,
        context: &TtrpcContext,
        request: api::PostUpdatePodSandboxRequest,
    ) -> ttrpc::Result<api::PostUpdatePodSandboxResponse> {
        self.notify(
            context,
            Event::POST_UPDATE_POD_SANDBOX,
            request.pod,
            MessageField::none(),
        )
        .await?;
        Ok(api::PostUpdatePodSandboxResponse::new())
    }

    async fn stop_pod_sandbox(
        &self,
        context: &TtrpcContext,
        request: api::StopPodSandboxRequest,
    ) -> ttrpc::Result<api::StopPodSandboxResponse> {
        self.notify(
            context,
            Event::STOP_POD_SANDBOX,
            request.pod,
            MessageField::none(),
        )
        .await?;
        Ok(api::StopPodSandboxResponse::new())
    }

    async fn remove_pod_sandbox(
        &self,
        context: &TtrpcContext,
        request: api::RemovePodSandboxRequest,
    ) -> ttrpc::Result<api::RemovePodSandboxResponse> {
        self.notify(
            context,
            Event::REMOVE_POD_SANDBOX,
            request.pod,
            MessageField::none(),
        )
        .await?;
        Ok(api::RemovePodSandboxResponse::new())
    }

    async fn post_create_container(
        &self,
        context: &TtrpcContext,
        request: api::PostCreateContainerRequest,
    ) -> ttrpc::Result<api::PostCreateContainerResponse> {
        self.notify(
            context,
            Event::POST_CREATE_CONTAINER,
            request.pod,
            request.container,
        )
        .await?;
        Ok(api::PostCreateContainerResponse::new())
    }

    async fn start_container(
        &self,
        context: &TtrpcContext,
        request: api::StartContainerRequest,
    ) -> ttrpc::Result<api::StartContainerResponse> {
        self.notify(
            context,
            Event::START_CONTAINER,
            request.pod,
            request.container,
        )
        .await?;
        Ok(api::StartContainerResponse::new())
    }

    async fn post_start_container(
        &self,
        context: &TtrpcContext,
        request: api::PostStartContainerRequest,
    ) -> ttrpc::Result<api::PostStartContainerResponse> {
        self.notify(
            context,
            Event::POST_START_CONTAINER,
            request.pod,
            request.container,
        )
        .await?;
        Ok(api::PostStartContainerResponse::new())
    }

    async fn post_update_container(
        &self,
        context: &TtrpcContext,
        request: api::PostUpdateContainerRequest,
    ) -> ttrpc::Result<api::PostUpdateContainerResponse> {
        self.notify(
            context,
            Event::POST_UPDATE_CONTAINER,
            request.pod,
            request.container,
        )
        .await?;
        Ok(api::PostUpdateContainerResponse::new())
    }

    async fn remove_container(
        &self,
        context: &TtrpcContext,
        request: api::RemoveContainerRequest,
    ) -> ttrpc::Result<api::RemoveContainerResponse> {
        self.notify(
            context,
            Event::REMOVE_CONTAINER,
            request.pod,
            request.container,
        )
        .await?;
        Ok(api::RemoveContainerResponse::new())
    }
}

fn milliseconds(value: i64) -> Option<Duration> {
    u64::try_from(value)
        .ok()
        .filter(|value| *value > 0)
        .map(Duration::from_millis)
}

fn reason(error: &ttrpc::Error) -> String {
    match error {
        ttrpc::Error::RpcStatus(status) => status.message.clone(),
        other => other.to_string(),
    }
}
