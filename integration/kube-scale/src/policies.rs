// SPDX-License-Identifier: Apache-2.0
//! The policies as a user sees them: which version of which is Ready, and since when.

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use kube::Client;
use kube::api::{Api, DynamicObject};
use policy_sync::kinds;
use tokio::sync::Notify;

use crate::follow::follow;

/// What is known of one.
struct Seen {
    generation: i64,
    ready: bool,
    message: String,
    at: Instant,
}

/// The policies by namespace and name.
#[derive(Default)]
pub struct Policies {
    seen: Mutex<HashMap<(String, String), Seen>>,
    changed: Notify,
}

impl Policies {
    /// Follows the status of all policies for ever.
    pub async fn follow(&self, client: Client) {
        let [namespaced, _] = kinds::policies();
        let api: Api<DynamicObject> = Api::all_with(client, &namespaced);
        follow(api, "the policies", |policy| self.take(policy)).await;
    }

    fn take(&self, policy: &DynamicObject) {
        let status = &policy.data["status"];
        let conditions = status["conditions"].as_array();
        let ready = conditions.and_then(|all| all.iter().find(|one| one["type"] == "Ready"));
        let seen = Seen {
            generation: status["observedGeneration"].as_i64().unwrap_or_default(),
            ready: status["ready"] == true,
            message: ready
                .map(|one| one["message"].to_string())
                .unwrap_or_default(),
            at: Instant::now(),
        };
        let metadata = &policy.metadata;
        let name = (
            metadata.namespace.clone().unwrap_or_default(),
            metadata.name.clone().unwrap_or_default(),
        );
        let mut all = self.seen.lock().expect("no panic while it was held");
        all.insert(name, seen);
        drop(all);
        self.changed.notify_waiters();
    }

    /// How many are Ready.
    pub fn ready(&self) -> usize {
        let all = self.seen.lock().expect("no panic while it was held");
        all.values().filter(|seen| seen.ready).count()
    }

    /// When a version of one was Ready: waits for it, so long at most.
    pub async fn when_ready(
        &self,
        namespace: &str,
        name: &str,
        generation: i64,
        limit: Duration,
    ) -> Result<Instant> {
        let key = (namespace.to_owned(), name.to_owned());
        let until = Instant::now() + limit;
        loop {
            let mut last = String::new();
            {
                let all = self.seen.lock().expect("no panic while it was held");
                if let Some(seen) = all.get(&key) {
                    if seen.ready && seen.generation >= generation {
                        return Ok(seen.at);
                    }
                    last.clone_from(&seen.message);
                }
            }
            if Instant::now() >= until {
                bail!(
                    "{namespace}/{name} was not Ready within {} s: {last}",
                    limit.as_secs()
                );
            }
            let _ = tokio::time::timeout(Duration::from_millis(50), self.changed.notified()).await;
        }
    }
}
