// SPDX-License-Identifier: Apache-2.0
//! containerd's own word that a container is in its store.
//!
//! It comes some milliseconds before NRI's PostCreateContainer, in which containerd writes down what it knows of the
//! container. What must be changed in the stored specification is changed in that time, and the start of the container
//! waits the less. Nothing depends on it: what was not begun here is done when NRI asks.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use containerd_client::events::ContainerCreate;
use containerd_client::services::v1::SubscribeRequest;
use containerd_client::services::v1::events_client::EventsClient;
use containerd_client::tonic::Request;
use containerd_client::types::Envelope;
use containerd_nri::Backoff;
use prost::Message;

use crate::node::Node;
use crate::spec_update::NAMESPACE;

/// After a containerd that is not there, or is another runtime, it is asked again after this long, ...
const FIRST_RETRY: Duration = Duration::from_millis(50);
/// ... and at last after this long: only some milliseconds depend on it.
const LAST_RETRY: Duration = Duration::from_secs(5);

/// Tells the node of containers in the store of the containerd that listens at `address`; for ever, also when that goes
/// away and comes back.
pub async fn follow(address: PathBuf, node: Arc<Node>) {
    let mut backoff = Backoff::new(FIRST_RETRY, LAST_RETRY);
    loop {
        if let Err(reason) = listen(&address, &node, &mut backoff).await {
            tracing::debug!("{} tells of no containers: {reason}", address.display());
        }
        tokio::time::sleep(backoff.next_delay()).await;
    }
}

/// Ends when containerd does.
async fn listen(address: &Path, node: &Arc<Node>, backoff: &mut Backoff) -> Result<(), String> {
    let channel = containerd_client::connect(address)
        .await
        .map_err(|error| format!("{error:?}"))?;
    // Containers of CRI that are new, their pods' sandboxes included (containerd's `pkg/filters`).
    let filter = format!("namespace=={NAMESPACE},topic==\"/containers/create\"");
    let request = Request::new(SubscribeRequest {
        filters: vec![filter],
    });
    let subscribed = EventsClient::new(channel).subscribe(request).await;
    let mut events = subscribed
        .map_err(|status| status.to_string())?
        .into_inner();
    backoff.reset();
    while let Some(event) = events
        .message()
        .await
        .map_err(|status| status.to_string())?
    {
        let Some(id) = container(&event) else {
            tracing::debug!("containerd tells of a container in an unknown way: {event:?}");
            continue;
        };
        let node = Arc::clone(node);
        // The next container does not wait for this one.
        tokio::spawn(async move { node.stored(&id).await });
    }
    Ok(())
}

/// The container's id.
fn container(event: &Envelope) -> Option<String> {
    let event = event.event.as_ref()?;
    let created = ContainerCreate::decode(&*event.value).ok()?;
    Some(created.id).filter(|id| !id.is_empty())
}

#[cfg(test)]
mod tests {
    use containerd_client::to_any;

    use super::*;

    #[test]
    fn an_event_names_its_container_or_is_passed_over() {
        let created = |id: &str| ContainerCreate {
            id: id.to_owned(),
            image: "registry.local/i:1".to_owned(),
            runtime: None,
        };
        let event = |created: &ContainerCreate| Envelope {
            event: Some(to_any(created)),
            ..Envelope::default()
        };
        assert_eq!(container(&event(&created("abc"))), Some("abc".to_owned()));
        assert_eq!(container(&event(&created(""))), None);
        assert_eq!(container(&Envelope::default()), None);
        let mut damaged = event(&created("abc"));
        if let Some(any) = &mut damaged.event {
            any.value = vec![0xff];
        }
        assert_eq!(container(&damaged), None);
    }
}
