// SPDX-License-Identifier: Apache-2.0
//! Policies and profiles as the controller keeps them. Of thousands, a spec is looked at when it changes: it is kept as a
//! text, which is an eighth as long in memory as the tree, with a digest that says whether two are the same.

use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::DynamicObject;
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use crate::kinds;

/// SHA-256 of a spec.
pub type Digest = [u8; 32];

/// A policy or a profile.
#[derive(Debug, Clone, PartialEq)]
pub struct Kept {
    /// Its metadata.
    pub metadata: ObjectMeta,
    /// Its status; null without one.
    pub status: Value,
    spec: Arc<str>,
    digest: Digest,
}

impl From<DynamicObject> for Kept {
    fn from(mut object: DynamicObject) -> Self {
        let mut take = |name: &str| object.data.get_mut(name).map(Value::take);
        let spec = take("spec").unwrap_or_default();
        let status = take("status").unwrap_or_default();
        let metadata = object.metadata;
        let text = spec.to_string();
        Self {
            metadata,
            status,
            digest: Sha256::digest(&text).into(),
            spec: text.into(),
        }
    }
}

/// The digest of a spec.
pub fn digest(spec: &Value) -> Digest {
    Sha256::digest(spec.to_string()).into()
}

impl Kept {
    /// Its spec.
    pub fn spec(&self) -> Value {
        serde_json::from_str(&self.spec).unwrap_or_default()
    }

    /// Its spec as a text, in which every object has its fields in the order of the alphabet.
    pub fn spec_text(&self) -> &str {
        &self.spec
    }

    /// The digest of its spec.
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// The names of the ArmorAddressSlices that it needs, as a profile.
    pub fn slices(&self) -> Vec<String> {
        let spec = self.spec();
        kinds::slices_of(&spec).map(str::to_owned).collect()
    }

    /// Another spec.
    #[cfg(test)]
    pub fn edit(&mut self, edit: impl FnOnce(&mut Value)) {
        let mut spec = self.spec();
        edit(&mut spec);
        self.digest = digest(&spec);
        self.spec = spec.to_string().into();
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn kept(spec: &Value) -> Kept {
        let object = json!({"apiVersion": "crd.varmor.org/v1beta1", "kind": "ArmorProfile",
            "metadata": {"name": "a"}, "spec": spec, "status": {"ready": true}});
        serde_json::from_value::<DynamicObject>(object)
            .unwrap()
            .into()
    }

    #[test]
    fn what_was_there_is_there() {
        let spec = json!({"b": [1, {"z": null, "a": "\u{e9}"}], "addresses": ["x-0", "x-1"]});
        let kept = kept(&spec);
        assert_eq!((kept.spec(), kept.digest()), (spec.clone(), digest(&spec)));
        assert_eq!(kept.status, json!({"ready": true}));
        assert_eq!(kept.slices(), ["x-0", "x-1"]);
    }

    #[test]
    fn the_order_of_fields_does_not_matter() {
        let one = serde_json::from_str(r#"{"a": 1, "b": {"c": 2, "d": 3}}"#).unwrap();
        let other = serde_json::from_str(r#"{"b": {"d": 3, "c": 2}, "a": 1}"#).unwrap();
        assert_eq!(kept(&one).digest(), kept(&other).digest());
    }
}
