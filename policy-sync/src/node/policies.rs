// SPDX-License-Identifier: Apache-2.0
//! Whether a policy is there. A profile says what a policy means; that it is missing says nothing: its controller may be
//! away, or about to make it.

use futures_util::StreamExt;
use kube::api::{Api, DynamicObject};
use kube::{Client, Error};

use super::desired::PolicyKey;
use crate::kinds;

/// Questions at a time.
const AT_ONCE: usize = 4;

/// Looks policies up.
pub struct Policies {
    client: Client,
}

impl Policies {
    /// With this client.
    pub fn new(client: Client) -> Self {
        Self { client }
    }

    /// Those of which the API server says that there is no such policy.
    pub async fn gone(&self, keys: &[PolicyKey]) -> Vec<PolicyKey> {
        futures_util::stream::iter(keys)
            .map(|key| async move { self.is_gone(key).await.then(|| key.clone()) })
            .buffer_unordered(AT_ONCE)
            .filter_map(async |gone| gone)
            .collect()
            .await
    }

    async fn is_gone(&self, key: &PolicyKey) -> bool {
        let (kind, namespace, name) = key;
        let Some(resource) = kinds::policies()
            .into_iter()
            .find(|resource| resource.kind == *kind)
        else {
            return true;
        };
        let client = self.client.clone();
        let api: Api<DynamicObject> = if namespace.is_empty() {
            Api::all_with(client, &resource)
        } else {
            Api::namespaced_with(client, namespace, &resource)
        };
        match api.get_metadata(name).await {
            // On its way: nothing holds it back.
            Ok(policy) => policy.metadata.deletion_timestamp.is_some(),
            Err(Error::Api(error)) if says_gone(error.code, &error.message, name) => true,
            Err(error) => {
                tracing::warn!("{kind} {namespace}/{name} is looked up: {error}");
                false
            }
        }
    }
}

/// Whether an answer is about the object: a server that does not know the kind yet says 404 as well.
fn says_gone(code: u16, message: &str, name: &str) -> bool {
    code == 404 && message.contains(&format!("\"{name}\" not found"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_that_does_not_know_the_kind_says_nothing_of_the_policy() {
        let found = |code, message| says_gone(code, message, "web");
        assert!(found(
            404,
            r#"varmorpolicies.crd.varmor.org "web" not found"#
        ));
        assert!(!found(
            404,
            "the server could not find the requested resource"
        ));
        assert!(!found(404, "404 page not found"));
        assert!(!found(
            403,
            r#"varmorpolicies.crd.varmor.org "web" not found"#
        ));
    }
}
