// SPDX-License-Identifier: Apache-2.0
//! A node daemon that loads nothing: it takes policies, says for a while that they are being loaded, and then that they are
//! in force. For `policy-sync node` as it is.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::Result;
use async_trait::async_trait;
use serde_json::Value;
use tokio::sync::mpsc::{Receiver, channel};
use varmor_node_api::{ApiError, Service, api};

/// A policy is loaded after this long: what the compilation of a large one takes, and the kernel.
pub const LOADING: Duration = Duration::from_millis(80);
/// Under this name policy-sync brings its policies.
pub const SOURCE: &str = "policy-sync";

type Key = (String, String, String);

/// The daemon: when each policy came.
#[derive(Default)]
pub struct Daemon(Mutex<BTreeMap<Key, Instant>>);

/// What the daemon says of a policy.
pub fn policy_status(key: &Key, is_loaded: bool) -> api::PolicyStatus {
    let mut policy = api::PolicyStatus::new();
    policy.policy = Some(api::PolicyRef::of(&key.0, &key.1, &key.2)).into();
    policy.source = SOURCE.to_owned();
    for name in ["AppArmor", "BPF", "Seccomp"] {
        let mut enforcer = api::EnforcerState::new();
        enforcer.enforcer = name.to_owned();
        enforcer.in_force = is_loaded;
        if !is_loaded {
            enforcer.reason = "is being loaded".to_owned();
        }
        policy.enforcers.push(enforcer);
    }
    policy
}

/// The daemon's own status.
pub fn daemon_status(settled: bool) -> api::StatusResponse {
    let mut status = api::StatusResponse::new();
    status.version = "0.1.0".to_owned();
    status.runtime_connected = true;
    status.failure_policy = "Fail".to_owned();
    status.settled = settled;
    for name in ["AppArmor", "BPF", "Seccomp"] {
        let mut enforcer = api::EnforcerAvailability::new();
        enforcer.enforcer = name.to_owned();
        enforcer.available = true;
        status.enforcers.push(enforcer);
    }
    status
}

impl Daemon {
    /// Serves on a socket until the process ends.
    pub fn serve(socket: &Path) -> Result<()> {
        let listener = varmor_node_api::NodeSocket::bind(socket)?;
        let daemon = Arc::new(Self::default());
        tokio::spawn(async move { listener.serve(daemon, std::future::pending()).await });
        Ok(())
    }

    fn all(&self) -> Vec<(Key, bool)> {
        let policies = self.0.lock().expect("no panic while it was held");
        let all = policies.iter();
        all.map(|(key, came)| (key.clone(), came.elapsed() >= LOADING))
            .collect()
    }
}

#[async_trait]
impl Service for Daemon {
    async fn apply(&self, request: api::ApplyRequest) -> Result<api::ApplyResponse, ApiError> {
        let objects: Vec<Value> = serde_json::from_str(&request.objects).unwrap_or_default();
        let mut policies = self.0.lock().expect("no panic while it was held");
        for object in objects {
            let text = |pointer: &str| {
                let value = object.pointer(pointer).and_then(Value::as_str);
                value.unwrap_or_default().to_owned()
            };
            let key = (
                text("/kind"),
                text("/metadata/namespace"),
                text("/metadata/name"),
            );
            policies.insert(key, Instant::now());
        }
        Ok(api::ApplyResponse::new())
    }

    async fn delete(&self, request: api::DeleteRequest) -> Result<api::DeleteResponse, ApiError> {
        let mut policies = self.0.lock().expect("no panic while it was held");
        for one in request.policies {
            policies.remove(&(one.kind, one.namespace, one.name));
        }
        Ok(api::DeleteResponse::new())
    }

    async fn list(&self, _: api::ListRequest) -> Result<api::ListResponse, ApiError> {
        let mut list = api::ListResponse::new();
        let all = self.all().into_iter();
        list.policies = all
            .map(|(key, loaded)| policy_status(&key, loaded))
            .collect();
        Ok(list)
    }

    async fn bind(&self, _: api::BindRequest) -> Result<api::BindResponse, ApiError> {
        Ok(api::BindResponse::new())
    }

    async fn status(&self, _: api::StatusRequest) -> Result<api::StatusResponse, ApiError> {
        Ok(daemon_status(self.all().iter().all(|(_, loaded)| *loaded)))
    }

    async fn tell(&self, _: api::TellRequest) -> Result<api::TellResponse, ApiError> {
        Ok(api::TellResponse::new())
    }

    async fn questions(
        &self,
        _: api::QuestionsRequest,
    ) -> Result<Receiver<api::Question>, ApiError> {
        let (sender, questions) = channel(1);
        // It never asks, and its end would end the connection.
        std::mem::forget(sender);
        Ok(questions)
    }

    async fn violations(
        &self,
        _: api::ViolationsRequest,
    ) -> Result<Receiver<api::Violation>, ApiError> {
        Ok(channel(1).1)
    }
}
