// SPDX-License-Identifier: Apache-2.0
//! One of several replicas works: who holds the Lease. Clocks of replicas are never compared: a holder is gone when its
//! Lease has not changed for a while on our own clock.

use std::time::{Duration, Instant};

use kube::Client;
use kube::api::{
    Api, ApiResource, DynamicObject, GroupVersionKind, Patch, PatchParams, PostParams,
};
use serde_json::{Value, json};
use time::OffsetDateTime;
use time::macros::format_description;

/// Name of the Lease.
const NAME: &str = "varmor-policy-sync";
/// A holder that says nothing for so long has lost it.
pub const DURATION: Duration = Duration::from_secs(15);
/// How often the holder renews it.
pub const RENEW: Duration = Duration::from_secs(5);
/// How often others look.
const LOOK: Duration = Duration::from_secs(2);

/// What a look at the Lease tells.
#[derive(Debug, PartialEq, Eq)]
enum Step {
    /// It is ours to take, or to renew.
    Take,
    /// Another one holds it.
    Wait,
}

/// The Lease as it was seen last, and since when it has not changed.
#[derive(Debug, Default)]
struct Seen {
    version: Option<(String, Instant)>,
}

impl Seen {
    /// What to do about a holder and the version of the Lease.
    fn step(&mut self, me: &str, holder: &str, version: &str, now: Instant) -> Step {
        let since = match &self.version {
            Some((seen, since)) if seen == version => *since,
            _ => {
                self.version = Some((version.to_owned(), now));
                now
            }
        };
        let is_silent = now.duration_since(since) >= DURATION;
        if holder.is_empty() || holder == me || is_silent {
            Step::Take
        } else {
            Step::Wait
        }
    }
}

/// A replica's view of the Lease.
pub struct Lease {
    api: Api<DynamicObject>,
    me: String,
    seen: Seen,
    is_ours: bool,
}

impl Lease {
    /// The Lease in this namespace, for the replica of this name.
    pub fn new(client: Client, namespace: &str, me: &str) -> Self {
        let gvk = GroupVersionKind::gvk("coordination.k8s.io", "v1", "Lease");
        let resource = ApiResource::from_gvk_with_plural(&gvk, "leases");
        Self {
            api: Api::namespaced_with(client, namespace, &resource),
            me: me.to_owned(),
            seen: Seen::default(),
            is_ours: false,
        }
    }

    /// Waits until this replica holds the Lease.
    pub async fn acquire(&mut self) {
        loop {
            match self.attempt().await {
                Ok(true) => {
                    self.is_ours = true;
                    return;
                }
                Ok(false) => {}
                Err(error) => tracing::warn!("the Lease: {error}"),
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Keeps the Lease; returns when it is lost.
    pub async fn keep(&mut self) {
        self.renew_for_ever().await;
        self.is_ours = false;
    }

    async fn renew_for_ever(&mut self) {
        let mut renewed = Instant::now();
        loop {
            tokio::time::sleep(RENEW).await;
            // An answer that comes too late is none: another one may hold it by then.
            let left = DURATION.saturating_sub(renewed.elapsed());
            let began = Instant::now();
            match tokio::time::timeout(left, self.attempt()).await {
                Ok(Ok(true)) => renewed = began,
                Ok(Ok(false)) => return,
                Ok(Err(error)) => tracing::warn!("the Lease can't be renewed: {error}"),
                Err(_) => {}
            }
            if renewed.elapsed() + RENEW >= DURATION {
                return;
            }
        }
    }

    /// Gives the Lease back if it is held, so that another replica need not wait.
    pub async fn release(&self) {
        if !self.is_ours {
            return;
        }
        let patch = json!({"spec": {"holderIdentity": ""}});
        let parameters = PatchParams::default();
        let patch = Patch::Merge(&patch);
        if let Err(error) = self.api.patch(NAME, &parameters, &patch).await {
            tracing::warn!("the Lease can't be given back: {error}");
        }
    }

    /// Takes or renews the Lease, if that is possible.
    async fn attempt(&mut self) -> Result<bool, kube::Error> {
        let Some(mut lease) = self.api.get_opt(NAME).await? else {
            let lease = json!({
                "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
                "metadata": {"name": NAME}, "spec": self.spec(&Value::Null),
            });
            let lease = serde_json::from_value(lease).map_err(kube::Error::SerdeError)?;
            return lost_to_none(self.api.create(&PostParams::default(), &lease).await);
        };
        let holder = lease.data["spec"]["holderIdentity"]
            .as_str()
            .unwrap_or_default();
        let version = lease.metadata.resource_version.clone().unwrap_or_default();
        if self.seen.step(&self.me, holder, &version, Instant::now()) == Step::Wait {
            return Ok(false);
        }
        lease.data["spec"] = self.spec(&lease.data["spec"]);
        // With the version that was read: of two, one gets a conflict.
        lost_to_none(self.api.replace(NAME, &PostParams::default(), &lease).await)
    }

    fn spec(&self, before: &Value) -> Value {
        let mine = before["holderIdentity"] == *self.me;
        let now = now();
        let changes = before["leaseTransitions"].as_i64().unwrap_or(-1);
        json!({
            "holderIdentity": self.me,
            "leaseDurationSeconds": DURATION.as_secs(),
            "acquireTime": if mine { before["acquireTime"].clone() } else { json!(now) },
            "renewTime": now,
            "leaseTransitions": if mine { changes } else { changes + 1 },
        })
    }
}

/// Whether it worked; a conflict means that another one was faster.
fn lost_to_none<T>(result: Result<T, kube::Error>) -> Result<bool, kube::Error> {
    match result {
        Ok(_) => Ok(true),
        Err(kube::Error::Api(error)) if error.code == 409 => {
            tracing::info!("the Lease: conflict (409): another one was faster");
            Ok(false)
        }
        Err(error) => Err(error),
    }
}

/// The time as a MicroTime of the API.
fn now() -> String {
    let format =
        format_description!("[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:6]Z");
    OffsetDateTime::now_utc()
        .format(&format)
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_holder_is_gone_when_its_lease_stands_still() {
        let mut seen = Seen::default();
        let began = Instant::now();
        let at = |seconds| began + Duration::from_secs(seconds);
        assert_eq!(seen.step("a", "", "1", at(0)), Step::Take);
        assert_eq!(seen.step("a", "a", "2", at(1)), Step::Take);
        assert_eq!(seen.step("a", "b", "3", at(2)), Step::Wait);
        assert_eq!(seen.step("a", "b", "3", at(16)), Step::Wait);
        assert_eq!(seen.step("a", "b", "4", at(16)), Step::Wait);
        assert_eq!(seen.step("a", "b", "4", at(30)), Step::Wait);
        assert_eq!(seen.step("a", "b", "4", at(31)), Step::Take);
    }
}
