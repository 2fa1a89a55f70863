// SPDX-License-Identifier: Apache-2.0
//! What a container's stored specification must carry and NRI can't put there: the AppArmor profile, and before NRI 0.10
//! the seccomp filter.

use serde_json::Value;
use tokio::time::timeout;
use varmor_node_state::{Marker, SpecError, seccomp_digest};
use varmor_policy::index::FailurePolicy;
use varmor_policy::plan::Seccomp;

use super::Node;
use crate::config::ANSWER_WITHIN;
use crate::containers::Container;

/// Stands in a marker for the digest of a filter that is not in the specification yet: no filter has it, so that the hook
/// refuses a container whose specification was never updated.
pub(super) const NOT_SET_YET: &str = "not set yet";

impl Node {
    /// A container is in the runtime's store, of which the runtime will ask with [`Self::created`] when it has done more:
    /// what that waits for begins now. What fails is tried again then.
    pub async fn stored(&self, id: &str) {
        let Some(container) = self.state().containers.get(id).cloned() else {
            return;
        };
        if let Err(reason) = self.settle_spec(&container).await {
            tracing::debug!("{}: {reason}", container.title());
        }
    }

    /// The runtime is about to make a container from its stored specification, which has from now on what it needs.
    ///
    /// # Errors
    /// The runtime only logs it; the hook refuses the container.
    pub async fn created(&self, id: &str) -> Result<(), String> {
        let Some(container) = self.state().containers.get(id).cloned() else {
            return Ok(());
        };
        let Err(reason) = self.settle_spec(&container).await else {
            return Ok(());
        };
        if self.settings.failure_policy == FailurePolicy::Fail {
            return Err(format!(
                "the specification of {} can't be updated: {reason}",
                container.title()
            ));
        }
        tracing::warn!(
            "{} starts without AppArmor and seccomp: {reason}",
            container.title()
        );
        self.change_marker(id, |marker| {
            marker.apparmor = None;
            marker.seccomp.take_if(|digest| digest == NOT_SET_YET);
        })
    }

    /// The specification has what it needs when this is done, and it is done once.
    async fn settle_spec(&self, container: &Container) -> Result<(), String> {
        let settled = container
            .in_spec
            .get_or_try_init(|| self.put_in_spec(container));
        timeout(ANSWER_WITHIN, settled)
            .await
            .unwrap_or_else(|_| {
                Err(format!(
                    "containerd did not answer within {ANSWER_WITHIN:?}"
                ))
            })
            .copied()
    }

    async fn put_in_spec(&self, container: &Container) -> Result<(), String> {
        let needs_filter = container.marker.seccomp.as_deref() == Some(NOT_SET_YET);
        if container.marker.apparmor.is_none() && !needs_filter {
            return Ok(());
        }
        let id = container.id.as_str();
        let mut spec = self.adapters.specs.spec(id).await?;
        let mut changed = false;
        if let Some(profile) = &container.marker.apparmor {
            spec.set_apparmor(profile);
            changed = true;
        }
        let mut digest = None;
        if needs_filter {
            let unusable = |error: SpecError| error.to_string();
            let asked = container
                .created_under
                .as_ref()
                .and_then(|profile| profile.seccomp.as_ref())
                .ok_or("its policy's seccomp rules are not known, since the node daemon was restarted meanwhile; delete it, and it is created anew")?;
            let own = spec.seccomp().map_err(unusable)?;
            let capabilities = spec.bounding_capabilities().map_err(unusable)?;
            if let Some((merged, its_digest)) = self.join(own.as_ref(), asked, &capabilities)? {
                digest = Some(its_digest);
                if own.as_ref() != Some(&merged) {
                    spec.set_seccomp(&merged);
                    changed = true;
                }
            }
        }
        if changed {
            self.adapters.specs.replace(id, &spec).await?;
        }
        if needs_filter {
            self.change_marker(id, |marker| marker.seccomp = digest)?;
        }
        Ok(())
    }

    /// Changes a container's marker, as it is by now: a policy may have changed meanwhile.
    fn change_marker(&self, id: &str, change: impl FnOnce(&mut Marker)) -> Result<(), String> {
        let mut state = self.state();
        let Some(container) = state.containers.get_mut(id) else {
            return Ok(());
        };
        let mut marker = container.marker.clone();
        change(&mut marker);
        self.adapters
            .files
            .save_marker(&marker)
            .map_err(|error| error.to_string())?;
        container.marker = marker;
        Ok(())
    }

    /// The filter of both and its digest, if there is to be one.
    pub(super) fn join(
        &self,
        own: Option<&Value>,
        asked: &Seccomp,
        capabilities: &[String],
    ) -> Result<Option<(Value, String)>, String> {
        let Some(merged) = (self.adapters.merge)(own, asked, capabilities)? else {
            return Ok(None);
        };
        let digest = seccomp_digest(&merged).map_err(|error| error.to_string())?;
        Ok(Some((merged, digest)))
    }
}
