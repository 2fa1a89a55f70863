// SPDX-License-Identifier: Apache-2.0
//! The connection to the daemon: sends what it does not have yet, and answers its questions.

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use varmor_node_api::api::{self, Outcome};
use varmor_node_api::{Client, ClientError};

use super::desired::{PolicyDelta, PolicyKey, Sent};
use super::{Shared, watches};

/// Who brings these policies.
pub const SOURCE: &str = "policy-sync";
/// A daemon that is away is tried again after this long.
const RECONNECT: Duration = Duration::from_millis(500);
/// Policies that stay without a profile are looked up again after this long.
const ASK_AGAIN: Duration = Duration::from_secs(10);
/// A request must stay below the 4 MiB that ttrpc carries.
const MAX_REQUEST: usize = 2 << 20;

/// Runs for ever. A new connection begins with everything, since the daemon may be another one.
pub async fn run(shared: &Arc<Shared>) {
    let mut told = String::new();
    loop {
        let error = match Client::connect(&shared.socket).await {
            Ok(client) => {
                tracing::info!("connected to the node daemon");
                let questions = answer(&client, shared);
                tokio::select! {
                    result = send_for_ever(&client, shared) => result.err(),
                    result = questions => result.err(),
                }
            }
            Err(error) => Some(error),
        };
        let error = error.map(|error| error.to_string()).unwrap_or_default();
        if error != told {
            tracing::warn!("the node daemon: {error}");
            told = error;
        }
        tokio::time::sleep(RECONNECT).await;
    }
}

async fn send_for_ever(client: &Client, shared: &Shared) -> Result<(), ClientError> {
    // The daemon may be another one.
    let found = found(client).await?;
    {
        let mut sent = shared.sent();
        *sent = Sent::default();
        sent.found(found);
    }
    loop {
        let desired = shared.desired().clone();
        let untold = desired.untold(&shared.sent());
        if let Some(request) = untold {
            client.tell(request).await?;
            shared.sent().told(&desired);
        }
        let unsent = desired.unsent(&shared.sent());
        if let Some(delta) = unsent {
            send(client, shared, delta).await?;
            shared.applied.notify_one();
            continue;
        }
        let keeps = shared.sent().keeps();
        tokio::select! {
            () = shared.changed.notified() => {}
            () = tokio::time::sleep(ASK_AGAIN), if keeps => shared.sent().ask_again(),
        }
    }
}

/// The policies that an earlier policy-sync, or an earlier connection, has brought.
async fn found(client: &Client) -> Result<Vec<PolicyKey>, ClientError> {
    let listed = client.list(api::ListRequest::new()).await?;
    let ours = listed
        .policies
        .into_iter()
        .filter(|policy| policy.source == SOURCE);
    Ok(ours
        .map(|policy| {
            let reference = policy.policy.unwrap_or_default();
            (reference.kind, reference.namespace, reference.name)
        })
        .collect())
}

async fn send(client: &Client, shared: &Shared, delta: PolicyDelta) -> Result<(), ClientError> {
    delete(client, shared, &delta.delete).await?;
    if !delta.apply.is_empty() {
        let objects: Vec<&Value> = delta
            .apply
            .iter()
            .map(|(_, wanted)| &*wanted.object)
            .collect();
        for batch in batches(&objects, MAX_REQUEST) {
            let mut request = api::ApplyRequest::new();
            SOURCE.clone_into(&mut request.source);
            request.objects = batch;
            note(shared, client.apply(request).await?.results);
        }
        shared.sent().applied(delta.apply);
    }
    if !delta.ask.is_empty() {
        let gone = shared.policies.gone(&delta.ask).await;
        let kept: Vec<PolicyKey> = delta
            .ask
            .into_iter()
            .filter(|key| !gone.contains(key))
            .collect();
        for (kind, namespace, name) in &kept {
            tracing::info!(
                "{kind} {namespace}/{name} has no profile, and stays in force as it was"
            );
        }
        shared.sent().keep(kept);
        delete(client, shared, &gone).await?;
    }
    Ok(())
}

async fn delete(client: &Client, shared: &Shared, keys: &[PolicyKey]) -> Result<(), ClientError> {
    if keys.is_empty() {
        return Ok(());
    }
    let mut request = api::DeleteRequest::new();
    SOURCE.clone_into(&mut request.source);
    request.policies = keys
        .iter()
        .map(|(kind, namespace, name)| api::PolicyRef::of(kind, namespace, name))
        .collect();
    note(shared, client.delete(request).await?.results);
    shared.sent().deleted(keys);
    let mut desired = shared.desired();
    for key in keys {
        desired.gone.remove(key);
    }
    Ok(())
}

/// JSON arrays of the objects, none longer than the limit but for a single object.
fn batches(objects: &[&Value], limit: usize) -> Vec<String> {
    let mut batches: Vec<String> = Vec::new();
    for object in objects {
        let text = object.to_string();
        match batches.last_mut() {
            Some(batch) if batch.len() + text.len() + 2 < limit => {
                batch.push(',');
                batch.push_str(&text);
            }
            _ => batches.push(format!("[{text}")),
        }
    }
    batches.iter_mut().for_each(|batch| batch.push(']'));
    batches
}

/// Keeps what the daemon refused, for the report.
fn note(shared: &Shared, results: Vec<api::ObjectResult>) {
    let mut refused = shared.refused();
    for result in results {
        let policy = result.policy.unwrap_or_default();
        let key = (policy.kind, policy.namespace, policy.name);
        if result.outcome == Outcome::REJECTED.into() {
            tracing::error!("{}", result.message);
            refused.insert(key, result.message);
        } else {
            tracing::info!(
                "{} {}/{}: {:?}",
                key.0,
                key.1,
                key.2,
                result.outcome.enum_value_or_default()
            );
            refused.remove(&key);
        }
    }
}

/// Answers the daemon's questions: a pod that the watch has not shown yet is asked for by name.
async fn answer(client: &Client, shared: &Arc<Shared>) -> Result<(), ClientError> {
    let mut questions = client.questions().await?;
    while let Some(question) = questions.next().await? {
        let shared = Arc::clone(shared);
        tokio::spawn(async move {
            if shared.desired().pods.contains_key(&question.uid) {
                shared.sent().ask(&question.uid);
                shared.changed.notify_one();
                return;
            }
            match shared
                .resolver
                .pod(&question.namespace, &question.pod)
                .await
            {
                Ok(Some(pod)) if watches::uid(&pod.metadata) == question.uid => {
                    watches::learn(&shared, &pod.metadata).await;
                }
                Ok(_) => {}
                Err(error) => tracing::warn!(
                    "pod {}/{} is asked for: {error}",
                    question.namespace,
                    question.pod
                ),
            }
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn long_lists_are_sent_in_parts() {
        let (a, b) = (json!({"a": 1}), json!({"b": "xxxxxxxxxxxxxxxxxxxxxxx"}));
        assert_eq!(batches(&[&a, &a], 100), [r#"[{"a":1},{"a":1}]"#]);
        assert_eq!(batches(&[&a, &b, &a], 12).len(), 3);
        assert!(batches(&[], 10).is_empty());
    }
}
