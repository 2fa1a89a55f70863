// SPDX-License-Identifier: Apache-2.0
//! One connection's state, and how its RPCs become calls of a [`Plugin`].

use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use protobuf::MessageField;
use tokio::sync::watch;
use ttrpc::Code;
use ttrpc::r#async::TtrpcContext;

use crate::api;
use crate::event::Event;
use crate::plugin::{Plugin, Refusal};
use crate::runtime::Runtime;
use crate::task::OwnedTask;
use crate::version::RuntimeVersion;

/// Default of containerd, used where the runtime tells none.
pub(crate) const REQUEST_TIMEOUT: Duration = Duration::from_secs(2);

/// How far a connection has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Progress {
    Connected,
    Configured,
    Synchronized,
    /// The plugin refused the configuration.
    Refused(String),
}

#[derive(Default)]
pub(crate) struct State {
    /// Told by `Configure`.
    pub(crate) version: Option<RuntimeVersion>,
    /// Told by `Configure`.
    pub(crate) request_timeout: Option<Duration>,
    /// Of the parts of a synchronisation that is not complete.
    pub(crate) pods: Vec<api::PodSandbox>,
    /// Of the parts of a synchronisation that is not complete.
    pub(crate) containers: Vec<api::Container>,
    /// The runtime announced that it stops.
    pub(crate) runtime_stops: bool,
}

pub(crate) struct Session<P> {
    plugin: Arc<P>,
    runtime: Runtime,
    state: Mutex<State>,
    progress: watch::Sender<Progress>,
}

impl<P: Plugin> Session<P> {
    pub(crate) fn new(plugin: Arc<P>, runtime: Runtime) -> Self {
        Self {
            plugin,
            runtime,
            state: Mutex::default(),
            progress: watch::Sender::new(Progress::Connected),
        }
    }

    pub(crate) fn progress(&self) -> watch::Receiver<Progress> {
        self.progress.subscribe()
    }

    /// Whether the runtime announced that it stops.
    pub(crate) fn runtime_stops(&self) -> bool {
        self.state().runtime_stops
    }

    pub(crate) fn advance(&self, progress: Progress) {
        self.progress.send_replace(progress);
    }

    pub(crate) fn plugin(&self) -> Arc<P> {
        self.plugin.clone()
    }

    pub(crate) fn runtime(&self) -> Runtime {
        self.runtime.clone()
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs a call of the plugin in a task of its own, so that a panic is answered, and answers a refusal shortly
    /// before the runtime gives up: a late or missing answer makes containerd go on as if there were no plugin.
    pub(crate) async fn answer<T, F>(
        &self,
        context: &TtrpcContext,
        event: &'static str,
        call: F,
    ) -> ttrpc::Result<T>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, Refusal>> + Send + 'static,
    {
        let given = match u64::try_from(context.timeout_nano) {
            Ok(nanoseconds) if nanoseconds > 0 => Duration::from_nanos(nanoseconds),
            _ => self.state().request_timeout.unwrap_or(REQUEST_TIMEOUT),
        };
        let limit = given - (given / 10).max(Duration::from_millis(50)).min(given / 2);
        let mut task = OwnedTask::spawn(call);
        match tokio::time::timeout(limit, task.join()).await {
            Ok(Ok(Ok(value))) => Ok(value),
            Ok(Ok(Err(refusal))) => {
                tracing::debug!(event, %refusal, "refused");
                Err(error(Code::UNKNOWN, refusal.reason()))
            }
            Ok(Err(failure)) => {
                tracing::error!(event, %failure, "the plugin's handler failed");
                Err(error(
                    Code::INTERNAL,
                    &format!("the plugin failed in {event}: {failure}"),
                ))
            }
            Err(_) => {
                tracing::error!(event, ?limit, "the plugin's handler was too slow");
                // Not DEADLINE_EXCEEDED, which is how the runtime names its own timeout.
                Err(error(
                    Code::ABORTED,
                    &format!(
                        "the plugin did not handle {event} within {} ms",
                        limit.as_millis()
                    ),
                ))
            }
        }
    }

    /// Runs the handler of an event that has no answer.
    pub(crate) async fn notify(
        &self,
        context: &TtrpcContext,
        event: Event,
        pod: MessageField<api::PodSandbox>,
        container: MessageField<api::Container>,
    ) -> ttrpc::Result<()> {
        let plugin = self.plugin.clone();
        macro_rules! pod_event {
            ($method:ident) => {{
                let pod = present(pod, stringify!($method), "pod")?;
                self.answer(context, stringify!($method), async move {
                    plugin.$method(pod).await
                })
                .await
            }};
        }
        macro_rules! container_event {
            ($method:ident) => {{
                let pod = present(pod, stringify!($method), "pod")?;
                let container = present(container, stringify!($method), "container")?;
                self.answer(context, stringify!($method), async move {
                    plugin.$method(pod, container).await
                })
                .await
            }};
        }
        match event {
            Event::RUN_POD_SANDBOX => pod_event!(run_pod_sandbox),
            Event::POST_UPDATE_POD_SANDBOX => pod_event!(post_update_pod_sandbox),
            Event::STOP_POD_SANDBOX => pod_event!(stop_pod_sandbox),
            Event::REMOVE_POD_SANDBOX => pod_event!(remove_pod_sandbox),
            Event::POST_CREATE_CONTAINER => container_event!(post_create_container),
            Event::START_CONTAINER => container_event!(start_container),
            Event::POST_START_CONTAINER => container_event!(post_start_container),
            Event::POST_UPDATE_CONTAINER => container_event!(post_update_container),
            Event::REMOVE_CONTAINER => container_event!(remove_container),
            // These have an answer, and an RPC of their own in every version.
            Event::UNKNOWN
            | Event::CREATE_CONTAINER
            | Event::UPDATE_CONTAINER
            | Event::STOP_CONTAINER
            | Event::UPDATE_POD_SANDBOX
            | Event::VALIDATE_CONTAINER_ADJUSTMENT => {
                tracing::debug!(?event, "ignoring a state change that isn't one");
                Ok(())
            }
        }
    }
}

pub(crate) fn present<M>(field: MessageField<M>, event: &str, what: &str) -> ttrpc::Result<M> {
    field
        .into_option()
        .ok_or_else(|| error(Code::INVALID_ARGUMENT, &format!("{event} without a {what}")))
}

pub(crate) fn error(code: Code, text: &str) -> ttrpc::Error {
    ttrpc::Error::RpcStatus(ttrpc::get_status(code, text))
}
