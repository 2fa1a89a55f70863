// SPDX-License-Identifier: Apache-2.0
//! The watches of a node, of which only the bytes are looked at.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use futures_util::AsyncBufReadExt;
use kube::Client;
use kube::api::{ListParams, WatchParams};
use kube::core::Request;
use policy_sync::kinds;
use tokio::sync::Notify;

/// What a node watches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// ArmorProfiles.
    Profiles,
    /// ArmorAddressSlices.
    AddressSlices,
    /// Deployments, StatefulSets and DaemonSets that have opted in: metadata only.
    Workloads(&'static str),
    /// The node's pods: metadata only.
    Pods,
    /// Not a node's but the leader's: the reports.
    Reports,
}

/// A node's watches: policy-sync/src/node/watches.rs.
pub const OF_A_NODE: [Kind; 6] = [
    Kind::Profiles,
    Kind::AddressSlices,
    Kind::Workloads("deployments"),
    Kind::Workloads("statefulsets"),
    Kind::Workloads("daemonsets"),
    Kind::Pods,
];

/// Bytes of bodies, as the API server sends them (policy-sync asks for no compression).
#[derive(Debug, Default)]
pub struct Bytes {
    /// Of events of ArmorProfiles, or of reports for the leader's watch.
    pub profiles: AtomicU64,
    /// Of events of workloads and pods.
    pub others: AtomicU64,
    /// Watches that the server ended, and that went on.
    pub resumed: AtomicU64,
    /// Watches that had to begin with a list.
    pub broken: AtomicU64,
}

impl Bytes {
    /// Bytes of ArmorProfiles and of the rest up to now.
    pub fn events(&self) -> (u64, u64) {
        (
            self.profiles.load(Ordering::Relaxed),
            self.others.load(Ordering::Relaxed),
        )
    }
}

impl Kind {
    fn path(self) -> String {
        match self {
            Self::Profiles => format!("/apis/{}/armorprofiles", kinds::profiles().api_version),
            Self::AddressSlices => {
                let version = kinds::address_slices().api_version;
                format!("/apis/{version}/armoraddressslices")
            }
            Self::Reports => format!("/apis/{}/armornodes", kinds::nodes().api_version),
            Self::Workloads(plural) => format!("/apis/apps/v1/{plural}"),
            Self::Pods => "/api/v1/pods".to_owned(),
        }
    }

    fn labels(self) -> Option<String> {
        matches!(self, Self::Workloads(_)).then(|| "sandbox.varmor.org/enable=true".to_owned())
    }

    fn fields(self, node: &str) -> Option<String> {
        (self == Self::Pods).then(|| format!("spec.nodeName={node}"))
    }

    fn is_metadata(self) -> bool {
        matches!(self, Self::Pods | Self::Workloads(_))
    }
}

/// The list with which a watch begins, in pages of 500 as `policy-sync node` asks for it: its version and its bytes.
pub async fn list(client: &Client, kind: Kind, node: &str) -> Result<(String, u64)> {
    let mut bytes = 0;
    let mut next = None;
    loop {
        let parameters = ListParams {
            label_selector: kind.labels(),
            field_selector: kind.fields(node),
            limit: Some(500),
            continue_token: next,
            ..ListParams::default()
        };
        let request = Request::new(kind.path());
        let request = if kind.is_metadata() {
            request.list_metadata(&parameters)
        } else {
            request.list(&parameters)
        };
        let request = request?;
        // A server that has too much to do says so: it is asked again, as policy-sync does.
        let mut tries = 5;
        let text = loop {
            match client.request_text(request.clone()).await {
                Err(kube::Error::Api(error)) if tries > 0 && matches!(error.code, 429 | 500..) => {
                    eprintln!("a list, {kind:?}: {error}");
                    tries -= 1;
                    tokio::time::sleep(Duration::from_secs(5)).await;
                }
                result => break result?,
            }
        };
        bytes += text.len() as u64;
        let field = |name: &str| outside_items(&text, name);
        next = field("continue").filter(|token| !token.is_empty());
        if next.is_none() {
            let version = field("resourceVersion").context("a list without a resourceVersion")?;
            return Ok((version, bytes));
        }
    }
}

/// A field of a list's own metadata, without reading the items: whole lists would be most of this program's work. The
/// metadata is in front of the items, or behind them where custom resources are listed.
fn outside_items(list: &str, name: &str) -> Option<String> {
    let name = format!("\"{name}\":\"");
    let (front, _) = list.split_once("\"items\":")?;
    let rest = match front.find(&name) {
        Some(at) => &front[at..],
        None => &list[list.rfind("\"metadata\":{")?..],
    };
    let (_, value) = rest.split_once(&name)?;
    value.split_once('"').map(|(value, _)| value.to_owned())
}

/// Watches from a version on, for ever; tells of everything that comes.
pub async fn watch(
    client: Client,
    kind: Kind,
    node: String,
    mut version: String,
    bytes: Arc<Bytes>,
    came: Arc<Notify>,
) {
    loop {
        let Err(error) = follow(&client, kind, &node, &mut version, &bytes, &came).await else {
            continue;
        };
        tokio::time::sleep(Duration::from_secs(1)).await;
        // The server may end a watch at any time: it goes on where it was, as that of policy-sync does.
        if error.is::<Ended>() {
            bytes.resumed.fetch_add(1, Ordering::Relaxed);
            continue;
        }
        if bytes.broken.fetch_add(1, Ordering::Relaxed) < 5 {
            eprintln!("a watch broke: {kind:?}: {error:#}");
        }
        if let Ok((listed, _)) = list(&client, kind, &node).await {
            version = listed;
            came.notify_one();
        }
    }
}

/// The server has ended a watch in good order.
#[derive(Debug)]
struct Ended;

impl std::fmt::Display for Ended {
    fn fmt(&self, text: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        text.write_str("the server ended it")
    }
}

impl std::error::Error for Ended {}

/// The version of the last object in a piece of a stream of events.
fn last_version(piece: &[u8]) -> Option<String> {
    const FIELD: &[u8] = b"\"resourceVersion\":\"";
    let mut starts = piece
        .windows(FIELD.len())
        .enumerate()
        .rev()
        .filter(|(_, window)| *window == FIELD);
    starts.find_map(|(at, _)| {
        let rest = &piece[at + FIELD.len()..];
        // One that goes on in the next piece does not count.
        let end = rest.iter().position(|byte| *byte == b'"')?;
        String::from_utf8(rest[..end].to_vec()).ok()
    })
}

async fn follow(
    client: &Client,
    kind: Kind,
    node: &str,
    version: &mut String,
    bytes: &Bytes,
    came: &Notify,
) -> Result<()> {
    let parameters = WatchParams {
        label_selector: kind.labels(),
        field_selector: kind.fields(node),
        // Longer than the 290 s of policy-sync, whose watches go on where they ended: here that would need the version
        // of the last event.
        timeout: None,
        bookmarks: true,
        send_initial_events: false,
    };
    let request = Request::new(kind.path());
    let request = if kind.is_metadata() {
        request.watch_metadata(&parameters, version)
    } else {
        request.watch(&parameters, version)
    };
    let mut request = request?;
    // The most that the library lets through is 294 s; the server takes any.
    let uri = request
        .uri()
        .to_string()
        .replace("timeoutSeconds=290", "timeoutSeconds=7200");
    *request.uri_mut() = uri.parse()?;
    let mut stream = Box::pin(client.request_stream(request).await?);
    loop {
        let piece = stream.fill_buf().await?;
        let length = piece.len();
        if length == 0 {
            return Err(Ended.into());
        }
        // Too old is the version of no event.
        anyhow::ensure!(
            !piece.starts_with(b"{\"type\":\"ERROR\""),
            "{}",
            String::from_utf8_lossy(&piece[..length.min(300)])
        );
        if let Some(last) = last_version(piece) {
            *version = last;
        }
        stream.consume_unpin(length);
        let counter = match kind {
            Kind::Profiles | Kind::AddressSlices | Kind::Reports => &bytes.profiles,
            Kind::Pods | Kind::Workloads(_) => &bytes.others,
        };
        counter.fetch_add(length as u64, Ordering::Relaxed);
        if kind == Kind::Profiles {
            came.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{last_version, outside_items};

    #[test]
    fn the_last_version_of_a_piece_counts() {
        let piece = br#"..."resourceVersion":"5"}}{"object":{"metadata":{"resourceVersion":"7","x":1}}}{"resourceVersion":"#;
        assert_eq!(
            last_version(piece).as_deref(),
            Some("7"),
            "a part of one does not count"
        );
        assert_eq!(last_version(b"{}"), None);
    }

    #[test]
    fn metadata_of_a_list_is_found_on_both_sides() {
        let front = r#"{"kind":"PodList","metadata":{"resourceVersion":"7","continue":"x"},"items":[{"metadata":{"resourceVersion":"1"}}]}"#;
        let behind = r#"{"items":[{"metadata":{"resourceVersion":"1"}}],"kind":"L","metadata":{"continue":"","resourceVersion":"7"}}"#;
        for list in [front, behind] {
            assert_eq!(outside_items(list, "resourceVersion").as_deref(), Some("7"));
        }
        assert_eq!(outside_items(front, "continue").as_deref(), Some("x"));
        assert_eq!(outside_items(behind, "continue").as_deref(), Some(""));
    }
}
