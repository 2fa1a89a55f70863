// SPDX-License-Identifier: Apache-2.0
//! Does what a plan says.

use futures_util::StreamExt;
use k8s_openapi::api::core::v1::ObjectReference;
use kube::Client;
use kube::api::{
    Api, ApiResource, DeleteParams, DynamicObject, GroupVersionKind, Patch, PatchParams,
};
use kube::runtime::events::{Event, EventType};
use serde_json::{Value, json};
use varmor_policy::owner::WorkloadName;
use varmor_policy::types::API_VERSION;

use super::PolicyKey;
use super::plan::Action;
use super::resolve::Name;
use super::restart::Restart;
use crate::events::Events;
use crate::kinds;

/// Field manager of the profiles.
const MANAGER: &str = "policy-sync-controller";
/// Annotation of a pods' template, with the profile's name behind it: the version that the pods were restarted for.
const RESTARTED_FOR: &str = "restart.varmor.org";
/// Requests at a time.
const AT_ONCE: usize = 8;
/// Longest text of an Event that the API server takes, in bytes.
const MAX_NOTE: usize = 1000;

/// Sends requests.
pub struct Sender {
    client: Client,
    events: Events,
}

impl Sender {
    /// With this client.
    pub fn new(client: Client) -> Self {
        Self {
            events: Events::new(client.clone(), std::env::var("POD_NAME").ok()),
            client,
        }
    }

    /// Does all of it, stage by stage; returns what failed, and what must not be done without that.
    pub async fn send(&self, mut actions: Vec<Action>) -> Vec<Action> {
        let mut failed: Vec<Action> = Vec::new();
        actions.sort_by_key(Action::stage);
        for stage in actions.chunk_by(|a, b| a.stage() == b.stage()) {
            let (waits, ready): (Vec<Action>, Vec<Action>) = stage
                .iter()
                .cloned()
                .partition(|action| failed.iter().any(|one| needs(action, one)));
            failed.extend(waits);
            failed.extend(self.send_together(ready).await);
        }
        failed
    }

    async fn send_together(&self, actions: Vec<Action>) -> Vec<Action> {
        let results = futures_util::stream::iter(actions)
            .map(|action| async move {
                let result = self.send_one(&action).await;
                (action, result)
            })
            .buffer_unordered(AT_ONCE);
        let failed = results.filter_map(|(action, result)| async move {
            match result {
                Ok(()) => None,
                // It went in the meantime.
                Err(kube::Error::Api(error)) if error.code == 404 => None,
                Err(kube::Error::Api(error)) if error.code == 409 => {
                    tracing::info!(
                        "{}: conflict (409): somebody has changed it since it was read; planned anew",
                        what(&action)
                    );
                    Some(action)
                }
                Err(error) => {
                    tracing::warn!("{}: {error}", what(&action));
                    Some(action)
                }
            }
        });
        failed.collect().await
    }

    async fn send_one(&self, action: &Action) -> Result<(), kube::Error> {
        match action {
            Action::Apply { profile, object } => {
                let parameters = PatchParams::apply(MANAGER).force();
                let api = self.profiles(profile);
                api.patch(&profile.1, &parameters, &Patch::Apply(object))
                    .await?;
                tracing::info!("ArmorProfile {}/{} is written", profile.0, profile.1);
            }
            Action::ApplySlice { slice, object, .. } => {
                let parameters = PatchParams::apply(MANAGER).force();
                let api = self.slices(slice);
                api.patch(&slice.1, &parameters, &Patch::Apply(object))
                    .await?;
            }
            Action::DeleteSlice(slice) => {
                let api = self.slices(slice);
                api.delete(&slice.1, &DeleteParams::default()).await?;
            }
            Action::Mark { profile, policy } => {
                let patch = json!({"metadata": {"annotations": {kinds::POLICY_GONE: policy}}});
                self.merge(&self.profiles(profile), &profile.1, &patch)
                    .await?;
            }
            Action::Delete(profile) => {
                let api = self.profiles(profile);
                api.delete(&profile.1, &DeleteParams::default()).await?;
                tracing::info!("ArmorProfile {}/{} is deleted", profile.0, profile.1);
            }
            Action::Release(profile) => {
                let patch = json!({"metadata": {"finalizers": null}});
                self.merge(&self.profiles(profile), &profile.1, &patch)
                    .await?;
            }
            Action::PolicyStatus {
                policy,
                status,
                event,
                uid,
                ..
            } => {
                if let Some((reason, note)) = event {
                    self.tell(policy, uid, EventType::Warning, reason, note)
                        .await;
                }
                let Some(api) = self.policies(policy) else {
                    return Ok(());
                };
                let patch = json!({"status": status});
                let parameters = PatchParams::default();
                api.patch_status(&policy.2, &parameters, &Patch::Merge(&patch))
                    .await?;
            }
            Action::Restart(restart) => self.restart(restart).await?,
            Action::ProfileStatus {
                profile, status, ..
            } => {
                let patch = json!({"status": status});
                let parameters = PatchParams::default();
                let api = self.profiles(profile);
                api.patch_status(&profile.1, &parameters, &Patch::Merge(&patch))
                    .await?;
            }
        }
        Ok(())
    }

    /// A new annotation of the pods' template: the workload's own controller does the rest, as its strategy says.
    async fn restart(&self, restart: &Restart) -> Result<(), kube::Error> {
        let WorkloadName {
            kind,
            namespace,
            name,
        } = &restart.workload;
        let gvk = GroupVersionKind::gvk("apps", "v1", kind);
        let plural = format!("{}s", kind.to_ascii_lowercase());
        let resource = ApiResource::from_gvk_with_plural(&gvk, &plural);
        let api: Api<DynamicObject> =
            Api::namespaced_with(self.client.clone(), namespace, &resource);
        let annotation = format!("{RESTARTED_FOR}/{}", restart.profile);
        let patch = json!({"spec": {"template": {"metadata": {"annotations": {annotation: restart.version}}}}});
        let result = self.merge(&api, name, &patch).await;
        let (type_, reason, note) = match &result {
            Ok(()) => (
                EventType::Normal,
                "Restarted",
                format!(
                    "{kind} {namespace}/{name}: its containers take a part of the policy when they are created anew"
                ),
            ),
            Err(error) => {
                let why = match error {
                    kube::Error::Api(status) => status.message.clone(),
                    error => error.to_string(),
                };
                (
                    EventType::Warning,
                    "RestartFailed",
                    format!("{kind} {namespace}/{name} can't be restarted: {why}"),
                )
            }
        };
        self.tell(&restart.policy, &restart.uid, type_, reason, &note)
            .await;
        result
    }

    async fn merge(
        &self,
        api: &Api<DynamicObject>,
        name: &str,
        patch: &Value,
    ) -> Result<(), kube::Error> {
        api.patch(name, &PatchParams::default(), &Patch::Merge(patch))
            .await?;
        Ok(())
    }

    /// An Event on a policy. It is only a note: what counts is the status.
    async fn tell(
        &self,
        policy: &PolicyKey,
        uid: &str,
        type_: EventType,
        reason: &str,
        note: &str,
    ) {
        // Events of objects without a namespace are in `default`: servers before 1.25 take no other, and a reference without
        // one would be sent to kube-system.
        let namespace = match policy.1.as_str() {
            "" => Some("default".to_owned()),
            namespace => Some(namespace.to_owned()),
        };
        let reference = ObjectReference {
            api_version: Some(API_VERSION.to_owned()),
            kind: Some(policy.0.clone()),
            namespace,
            name: Some(policy.2.clone()),
            uid: Some(uid.to_owned()),
            ..ObjectReference::default()
        };
        let event = Event {
            type_,
            reason: reason.to_owned(),
            note: Some(shortened(note, MAX_NOTE)),
            action: "Enforce".to_owned(),
            secondary: None,
        };
        if let Err(error) = self.events.publish(&event, &reference).await {
            tracing::warn!("an Event can't be written: {error}");
        }
    }

    fn profiles(&self, profile: &Name) -> Api<DynamicObject> {
        Api::namespaced_with(self.client.clone(), &profile.0, &kinds::profiles())
    }

    fn slices(&self, slice: &Name) -> Api<DynamicObject> {
        Api::namespaced_with(self.client.clone(), &slice.0, &kinds::address_slices())
    }

    fn policies(&self, policy: &PolicyKey) -> Option<Api<DynamicObject>> {
        let is_its = |resource: &ApiResource| resource.kind == policy.0;
        let resource = kinds::policies().into_iter().find(is_its)?;
        let client = self.client.clone();
        Some(if policy.1.is_empty() {
            Api::all_with(client, &resource)
        } else {
            Api::namespaced_with(client, &policy.1, &resource)
        })
    }
}

/// Whether an action must wait because another one failed: nodes keep what they have until they have all slices that a
/// profile names, and no address goes before those are there that come in its place.
fn needs(action: &Action, failed: &Action) -> bool {
    let of = |action: &Action| match action {
        Action::Apply { profile, .. } | Action::ApplySlice { profile, .. } => Some(profile.clone()),
        _ => None,
    };
    of(action).is_some_and(|profile| of(failed) == Some(profile))
}

fn what(action: &Action) -> String {
    match action {
        Action::Apply { profile, .. }
        | Action::Mark { profile, .. }
        | Action::Delete(profile)
        | Action::Release(profile)
        | Action::ProfileStatus { profile, .. } => {
            format!("ArmorProfile {}/{}", profile.0, profile.1)
        }
        Action::ApplySlice { slice, .. } | Action::DeleteSlice(slice) => {
            format!("ArmorAddressSlice {}/{}", slice.0, slice.1)
        }
        Action::Restart(restart) => {
            let workload = &restart.workload;
            format!(
                "the restart of {} {}/{}",
                workload.kind, workload.namespace, workload.name
            )
        }
        Action::PolicyStatus { policy, .. } => {
            format!("the status of {} {}/{}", policy.0, policy.1, policy.2)
        }
    }
}

/// At most so many bytes of a text.
fn shortened(text: &str, most: usize) -> String {
    if text.len() <= most {
        return text.to_owned();
    }
    let room = most - '…'.len_utf8();
    let starts = text.char_indices().map(|(start, _)| start);
    let end = starts.take_while(|start| *start <= room).last();
    format!("{}…", &text[..end.unwrap_or_default()])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_profile_waits_for_its_slices_and_what_goes_for_it() {
        let name = |name: &str| ("demo".to_owned(), name.to_owned());
        let slice = |profile: &str, adds| Action::ApplySlice {
            slice: name("s"),
            profile: name(profile),
            object: Value::Null,
            adds,
        };
        let profile = Action::Apply {
            profile: name("a"),
            object: Value::Null,
        };
        assert!(slice("a", true).stage() < profile.stage());
        assert!(profile.stage() < slice("a", false).stage());
        assert!(profile.stage() < Action::DeleteSlice(name("s")).stage());
        assert!(needs(&profile, &slice("a", true)) && needs(&slice("a", false), &profile));
        assert!(needs(&slice("a", false), &slice("a", true)));
        assert!(!needs(&profile, &slice("b", true)));
        assert!(!needs(&profile, &Action::Release(name("a"))));
    }

    #[test]
    fn long_notes_are_cut_between_characters() {
        assert_eq!(shortened("abc", 3), "abc");
        assert_eq!(shortened("abcdef", 5), "ab…");
        assert_eq!(shortened("äöüäöü", 6), "ä…");
    }
}
