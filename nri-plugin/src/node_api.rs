// SPDX-License-Identifier: Apache-2.0
//! The node API's service: policies in, status and violations out.

use std::collections::BTreeSet;
use std::future::Future;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use serde_json::Value;
use tokio::sync::mpsc;
use tokio::time::timeout;
use varmor_node_api::api::{self, Outcome};
use varmor_node_api::{ApiError, Kind, SUBSCRIBER_BUFFER};
use varmor_policy::plan::PolicyRef;

use crate::applied::{Applied, Brought};
use crate::node::Node;
use crate::store::{self, Policy};
use crate::violations::subscribers::Subscribers;

/// Who brings policies when a request does not say.
const DEFAULT_SOURCE: &str = "api";

/// The service.
pub struct Service {
    node: Arc<Node>,
    applied: Arc<Applied>,
    /// Where what was told of pods and workloads is kept.
    inventory: PathBuf,
    subscribers: Arc<Subscribers>,
    /// One change of the policies at a time.
    changes: tokio::sync::Mutex<()>,
}

impl Service {
    /// A service of this node; `applied` is where brought policies are kept.
    pub fn new(
        node: Arc<Node>,
        applied: Applied,
        inventory: PathBuf,
        subscribers: Arc<Subscribers>,
    ) -> Self {
        Self {
            node,
            applied: Arc::new(applied),
            inventory,
            subscribers,
            changes: tokio::sync::Mutex::default(),
        }
    }

    async fn read(&self, text: String) -> Result<Policy, String> {
        let compiler = Arc::clone(&self.node.adapters.compiler);
        // Who has told of workloads goes on doing so.
        let has_workloads = self.node.state().inventory.is_some();
        let compiled = tokio::task::spawn_blocking(move || {
            let mut objects = varmor_policy::parse(&text).map_err(|errors| store::join(&errors))?;
            match (objects.pop(), objects.is_empty()) {
                (Some(object), true) => {
                    if !has_workloads {
                        let checked = varmor_policy::validate::for_node(&object);
                        checked.map_err(|errors| store::join(&errors))?;
                    }
                    Policy::new(object, &*compiler)
                }
                _ => Err("a document must be one policy object".to_owned()),
            }
        });
        compiled.await.map_err(|error| error.to_string())?
    }

    async fn take(
        &self,
        source: &str,
        policy: Policy,
        dry_run: bool,
    ) -> Result<(Outcome, String), String> {
        let reference = policy.reference.clone();
        let outcome = {
            let state = self.node.state();
            match (
                state.applied.get(&reference),
                state.desired.sources.get(&reference),
            ) {
                (Some(known), _) if known.source != source => {
                    return Err(format!(
                        "{reference} was brought by {}, which must change it",
                        known.source
                    ));
                }
                (Some(known), _) if known.policy.digest == policy.digest => Outcome::UNCHANGED,
                (Some(_), _) => Outcome::CONFIGURED,
                (None, Some(file)) => {
                    return Err(format!(
                        "{reference} is in {file}, which counts: change it there"
                    ));
                }
                (None, None) => Outcome::CREATED,
            }
        };
        let message = self.node.shortcomings(&policy).join("; ");
        if !dry_run && outcome != Outcome::UNCHANGED {
            let brought = Brought {
                source: source.to_owned(),
                policy: Arc::new(policy),
            };
            let (applied, kept) = (Arc::clone(&self.applied), brought.clone());
            // It is flushed to the disk, which may be slow.
            tokio::task::spawn_blocking(move || applied.keep(&kept))
                .await
                .unwrap_or_else(|error| Err(std::io::Error::other(error)))
                .map_err(|error| format!("{reference} can't be kept: {error}"))?;
            self.node.applied_changed(&reference, Some(brought));
        }
        Ok((outcome, message))
    }

    fn remove(&self, source: &str, policy: &PolicyRef) -> Result<(Outcome, String), String> {
        let known = self
            .node
            .state()
            .applied
            .get(policy)
            .map(|known| known.source.clone());
        match known {
            None => Ok((Outcome::NOT_FOUND, String::new())),
            Some(other) if other != source => Err(format!(
                "{policy} was brought by {other}, which must delete it"
            )),
            Some(_) => {
                self.applied
                    .forget(policy)
                    .map_err(|error| format!("{policy} can't be forgotten: {error}"))?;
                self.node.applied_changed(policy, None);
                Ok((Outcome::DELETED, String::new()))
            }
        }
    }

    /// Whether the wait was too short.
    async fn settle(&self, wait_ms: u32) -> bool {
        wait_ms != 0
            && timeout(Duration::from_millis(wait_ms.into()), self.node.settled())
                .await
                .is_err()
    }
}

#[async_trait]
impl varmor_node_api::Service for Service {
    async fn apply(&self, request: api::ApplyRequest) -> Result<api::ApplyResponse, ApiError> {
        let _one = self.changes.lock().await;
        let source = source(&request.source);
        let mut response = api::ApplyResponse::new();
        let mut named = BTreeSet::new();
        for (index, text) in documents(&request.objects)?.into_iter().enumerate() {
            let (reference, result) = match self.read(text).await {
                Ok(policy) => {
                    let reference = policy.reference.clone();
                    (
                        Some(reference),
                        self.take(source, policy, request.dry_run).await,
                    )
                }
                Err(error) => (None, Err(error)),
            };
            named.extend(reference.clone());
            response
                .results
                .push(object_result(index, reference.as_ref(), result));
        }
        let refused = response
            .results
            .iter()
            .any(|result| result.outcome == Outcome::REJECTED.into());
        if request.replace_all && !request.dry_run {
            // An object that was refused can't be named, so what it may have replaced stays.
            let absent: Vec<PolicyRef> = match refused {
                true => Vec::new(),
                false => {
                    let state = self.node.state();
                    let brought = state
                        .applied
                        .iter()
                        .filter(|(_, brought)| brought.source == source);
                    brought
                        .map(|(reference, _)| reference.clone())
                        .filter(|one| !named.contains(one))
                        .collect()
                }
            };
            for reference in absent {
                let result = self.remove(source, &reference);
                response.results.push(object_result(
                    response.results.len(),
                    Some(&reference),
                    result,
                ));
            }
        }
        response.timed_out = !request.dry_run && self.settle(request.wait_ms).await;
        Ok(response)
    }

    async fn delete(&self, request: api::DeleteRequest) -> Result<api::DeleteResponse, ApiError> {
        let _one = self.changes.lock().await;
        let source = source(&request.source);
        let mut response = api::DeleteResponse::new();
        for (index, policy) in request.policies.iter().enumerate() {
            let reference = PolicyRef {
                kind: policy.kind.clone(),
                namespace: policy.namespace.clone(),
                name: policy.name.clone(),
            };
            response.results.push(object_result(
                index,
                Some(&reference),
                self.remove(source, &reference),
            ));
        }
        response.timed_out = self.settle(request.wait_ms).await;
        Ok(response)
    }

    async fn list(&self, request: api::ListRequest) -> Result<api::ListResponse, ApiError> {
        Ok(self.node.list(&request))
    }

    async fn bind(&self, request: api::BindRequest) -> Result<api::BindResponse, ApiError> {
        let profile = Some(request.profile).filter(|profile| !profile.is_empty());
        let tasks = self
            .node
            .bind_by_hand(&request.container_id, request.pid, profile)
            .map_err(|error| ApiError::new(Kind::FailedPrecondition, error))?;
        let mut response = api::BindResponse::new();
        response.tasks = tasks;
        Ok(response)
    }

    async fn status(&self, request: api::StatusRequest) -> Result<api::StatusResponse, ApiError> {
        Ok(self.node.status(request.containers))
    }

    async fn tell(&self, request: api::TellRequest) -> Result<api::TellResponse, ApiError> {
        let _one = self.changes.lock().await;
        if let Some(inventory) = self.node.tell(&request) {
            let path = self.inventory.clone();
            let saved = tokio::task::spawn_blocking(move || inventory.save(&path)).await;
            if let Err(error) = saved.unwrap_or_else(|error| Err(std::io::Error::other(error))) {
                tracing::error!("{}: {error}", self.inventory.display());
            }
        }
        Ok(api::TellResponse::new())
    }

    async fn questions(
        &self,
        _: api::QuestionsRequest,
    ) -> Result<mpsc::Receiver<api::Question>, ApiError> {
        Ok(self.node.answerer())
    }

    async fn violations(
        &self,
        request: api::ViolationsRequest,
    ) -> Result<mpsc::Receiver<api::Violation>, ApiError> {
        let (sender, receiver) = mpsc::channel(SUBSCRIBER_BUFFER);
        self.subscribers.add(request, sender);
        Ok(receiver)
    }
}

/// Serves until `stop` is ready.
pub fn serve<F: Future<Output = ()> + Send + 'static>(
    path: &std::path::Path,
    service: Service,
    stop: F,
) -> Result<impl Future<Output = ()> + use<F>, varmor_node_api::BindError> {
    let socket = varmor_node_api::NodeSocket::bind(path)?;
    let service = Arc::new(service);
    Ok(async move { socket.serve(service, stop).await })
}

fn source(asked: &str) -> &str {
    if asked.is_empty() {
        DEFAULT_SOURCE
    } else {
        asked
    }
}

/// The objects of a request, each as a text of its own so that each has a result of its own.
fn documents(objects: &str) -> Result<Vec<String>, ApiError> {
    if let Ok(json) = serde_json::from_str::<Value>(objects) {
        let list = match json {
            Value::Array(list) => list,
            Value::Object(mut object)
                if object
                    .get("kind")
                    .and_then(Value::as_str)
                    .is_some_and(is_list) =>
            {
                match object.remove("items") {
                    Some(Value::Array(items)) => items,
                    _ => {
                        return Err(ApiError::new(
                            Kind::InvalidArgument,
                            "the List has no items",
                        ));
                    }
                }
            }
            object => vec![object],
        };
        return Ok(list.iter().map(Value::to_string).collect());
    }
    // "---" at the beginning of a line ends a YAML document, also inside a block scalar (YAML 1.2, 9.1.2).
    let mut documents = vec![String::new()];
    for line in objects.split_inclusive('\n') {
        let marker = line
            .strip_prefix("---")
            .is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', '\t', '\r', '\n']));
        if marker {
            documents.push(String::new());
        }
        if let Some(document) = documents.last_mut() {
            document.push_str(line);
        }
    }
    let has_content = |document: &String| {
        let mut lines = document
            .lines()
            .map(|line| line.trim_start_matches("---").trim());
        lines.any(|line| !line.is_empty() && !line.starts_with('#'))
    };
    documents.retain(has_content);
    Ok(documents)
}

fn is_list(kind: &str) -> bool {
    kind == "List" || kind == "VarmorPolicyList" || kind == "VarmorClusterPolicyList"
}

fn object_result(
    index: usize,
    policy: Option<&PolicyRef>,
    result: Result<(Outcome, String), String>,
) -> api::ObjectResult {
    let (outcome, message) = result.unwrap_or_else(|error| (Outcome::REJECTED, error));
    let mut object = api::ObjectResult::new();
    object.index = u32::try_from(index).unwrap_or(u32::MAX);
    object.policy = policy
        .map(|policy| {
            let mut reference = api::PolicyRef::new();
            reference.kind.clone_from(&policy.kind);
            reference.namespace.clone_from(&policy.namespace);
            reference.name.clone_from(&policy.name);
            reference
        })
        .into();
    object.outcome = outcome.into();
    object.message = message;
    object
}

#[cfg(test)]
mod tests;
