// SPDX-License-Identifier: Apache-2.0
//! Calls from the plugin to the runtime.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::api::service::RuntimeClient;
use crate::api::{
    ContainerEviction, ContainerUpdate, RegisterPluginRequest, UpdateContainersRequest,
};

/// NRI version told at registration.
pub const NRI_VERSION: &str = "v0.12.0";

/// The runtime's side of one connection. Calls fail once the connection has ended.
#[derive(Clone)]
pub struct Runtime {
    client: Arc<Mutex<Option<RuntimeClient>>>,
}

impl std::fmt::Debug for Runtime {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Runtime").finish_non_exhaustive()
    }
}

impl Runtime {
    pub(crate) fn new(client: ttrpc::r#async::Client) -> Self {
        Self {
            client: Arc::new(Mutex::new(Some(RuntimeClient::new(client)))),
        }
    }

    /// Closes the connection although the plugin may keep clones of this handle.
    pub(crate) fn close(&self) {
        self.client
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
    }

    fn client(&self) -> ttrpc::Result<RuntimeClient> {
        let client = self.client.lock().unwrap_or_else(PoisonError::into_inner);
        client.clone().ok_or(ttrpc::Error::LocalClosed)
    }

    pub(crate) async fn register(
        &self,
        name: &str,
        index: &str,
        timeout: Duration,
    ) -> ttrpc::Result<()> {
        let mut request = RegisterPluginRequest::new();
        request.plugin_name = name.to_owned();
        request.plugin_idx = index.to_owned();
        request.NRI_version = NRI_VERSION.to_owned();
        self.client()?
            .register_plugin(ttrpc::context::with_duration(timeout), &request)
            .await?;
        Ok(())
    }

    /// Changes and stops containers outside of any event. Answers the updates that the runtime could not make.
    ///
    /// Not to be called from within an event: the runtime handles one thing at a time and would wait for that event.
    ///
    /// # Errors
    /// The connection has ended, `timeout` has passed, or the runtime refuses.
    pub async fn update_containers(
        &self,
        update: Vec<ContainerUpdate>,
        evict: Vec<ContainerEviction>,
        timeout: Duration,
    ) -> ttrpc::Result<Vec<ContainerUpdate>> {
        let mut request = UpdateContainersRequest::new();
        request.update = update;
        request.evict = evict;
        let response = self
            .client()?
            .update_containers(ttrpc::context::with_duration(timeout), &request)
            .await?;
        Ok(response.failed)
    }
}
