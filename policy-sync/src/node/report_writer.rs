// SPDX-License-Identifier: Apache-2.0
//! Writing a node's report into its object.

use kube::api::{Api, DynamicObject, Patch, PatchParams};
use serde_json::{Value, json};
use varmor_policy::types::API_VERSION;

use crate::kinds;

/// Field manager of the reports.
const MANAGER: &str = "policy-sync-node";

/// Writes the reports of a node: the first of a process as the whole object, the first that knows the Node too, and now and
/// then again, since others may have written into it; the others as a change of it. What is applied the API server reads as
/// YAML, which was a fifth of all that it did for a report of a thousand policies.
#[derive(Debug, Default)]
pub struct Writer {
    /// The Node's UID in the object that is there, if one is. A node may report before its kubelet has registered it.
    there_for: Option<Option<String>>,
}

impl Writer {
    /// The next report is the whole object again.
    pub fn forget(&mut self) {
        self.there_for = None;
    }

    /// Writes a report.
    ///
    /// # Errors
    /// The API server does not take it.
    pub async fn write(
        &mut self,
        api: &Api<DynamicObject>,
        node: &str,
        uid: Option<&str>,
        report: &Value,
    ) -> Result<(), kube::Error> {
        if self
            .there_for
            .as_ref()
            .is_some_and(|there| there.as_deref() == uid)
        {
            let parameters = PatchParams {
                field_manager: Some(MANAGER.to_owned()),
                ..PatchParams::default()
            };
            let change = json!({"report": report});
            // The answer is not looked at: it need not be the whole object.
            let result = api
                .patch_metadata(node, &parameters, &Patch::Merge(&change))
                .await;
            match result {
                Err(kube::Error::Api(error)) if error.code == 404 => self.forget(),
                result => return result.map(drop),
            }
        }
        let object = object(node, uid, report);
        let parameters = PatchParams::apply(MANAGER).force();
        api.patch_metadata(node, &parameters, &Patch::Apply(&object))
            .await?;
        self.there_for = Some(uid.map(str::to_owned));
        Ok(())
    }
}

/// The object of a node's report. It goes with the Node of this UID.
fn object(node: &str, uid: Option<&str>, report: &Value) -> Value {
    let owners =
        uid.map(|uid| json!([{"apiVersion": "v1", "kind": "Node", "name": node, "uid": uid}]));
    json!({
        "apiVersion": API_VERSION,
        "kind": kinds::KIND_NODE,
        "metadata": {"name": node, "ownerReferences": owners.unwrap_or_else(|| json!([]))},
        "report": report,
    })
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use http::{Request, Response, StatusCode};
    use kube::Client;
    use kube::client::Body;

    use super::*;

    /// What an API server was asked: how it is to patch, and with what.
    type Asked = Arc<Mutex<Vec<(String, Value)>>>;

    /// An API server that has the object, unless `gone` says that somebody has deleted it.
    fn server(asked: &Asked, gone: &Arc<Mutex<bool>>) -> Api<DynamicObject> {
        let (asked, gone) = (Arc::clone(asked), Arc::clone(gone));
        let service = tower::service_fn(move |request: Request<Body>| {
            let (asked, gone) = (Arc::clone(&asked), Arc::clone(&gone));
            async move {
                let kind = request.headers()["content-type"].to_str().unwrap();
                let kind = kind.trim_start_matches("application/").to_owned();
                let body = request.into_body().collect_bytes().await.unwrap();
                let body = serde_json::from_slice(&body).unwrap();
                let is_gone = *gone.lock().unwrap() && kind == "merge-patch+json";
                asked.lock().unwrap().push((kind, body));
                let (status, answer) = if is_gone {
                    let status = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure",
                        "reason": "NotFound", "message": "not found", "code": 404});
                    (StatusCode::NOT_FOUND, status)
                } else {
                    let there = json!({"apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadata",
                        "metadata": {"name": "n"}});
                    (StatusCode::OK, there)
                };
                let response = Response::builder().status(status);
                Ok::<_, std::convert::Infallible>(
                    response
                        .body(Body::from(answer.to_string().into_bytes()))
                        .unwrap(),
                )
            }
        });
        Api::all_with(Client::new(service, "default"), &kinds::nodes())
    }

    #[tokio::test]
    async fn the_whole_object_is_written_when_it_is_new_known_by_its_node_gone_or_long_ago() {
        let (asked, gone) = (Asked::default(), Arc::default());
        let api = server(&asked, &gone);
        let mut writer = Writer::default();
        let write = async |writer: &mut Writer, uid, number: u8| {
            let report = json!({ "number": number });
            writer.write(&api, "n", uid, &report).await.unwrap();
            std::mem::take(&mut *asked.lock().unwrap())
        };
        let owner = |asked: &[(String, Value)]| {
            let [(kind, body)] = asked else {
                panic!("one request, not {asked:?}");
            };
            assert_eq!(kind, "apply-patch+yaml");
            body["metadata"]["ownerReferences"].clone()
        };
        let change = |number: u8| {
            let body = json!({"report": {"number": number}});
            vec![("merge-patch+json".to_owned(), body)]
        };

        // Before the kubelet has registered the Node.
        assert_eq!(owner(&write(&mut writer, None, 1).await), json!([]));
        assert_eq!(write(&mut writer, None, 2).await, change(2));
        let owned = json!([{"apiVersion": "v1", "kind": "Node", "name": "n", "uid": "u"}]);
        assert_eq!(owner(&write(&mut writer, Some("u"), 3).await), owned);
        assert_eq!(write(&mut writer, Some("u"), 4).await, change(4));
        // A Node of the same name is another one.
        let other = owner(&write(&mut writer, Some("v"), 5).await);
        assert_eq!(other[0]["uid"], "v");

        // Somebody has deleted it.
        *gone.lock().unwrap() = true;
        let both = write(&mut writer, Some("v"), 6).await;
        assert_eq!(both[0], change(6)[0]);
        assert_eq!(owner(&both[1..])[0]["uid"], "v");

        *gone.lock().unwrap() = false;
        writer.forget();
        let repeated = write(&mut writer, Some("v"), 7).await;
        assert_eq!(repeated[0].1["report"], json!({"number": 7}));
        owner(&repeated);
    }
}
