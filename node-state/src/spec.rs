// SPDX-License-Identifier: Apache-2.0
//! What of a container's OCI configuration (runtime-spec 1.2, config.md and config-linux.md) carries a policy. The daemon
//! changes containerd's copy, the runtime wrapper the bundle's. Everything else stays as the runtime wrote it, byte by byte.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;
use serde_json::value::{RawValue, to_raw_value};

type Fields = BTreeMap<String, Box<RawValue>>;

/// The configuration is not of the shape that the specification gives it.
#[derive(Debug, thiserror::Error)]
#[error("{field} of the container's OCI configuration must be {shape}: {source}")]
pub struct SpecError {
    /// Where, from the top; "the whole" for that.
    pub field: &'static str,
    /// What belongs there.
    pub shape: &'static str,
    /// What is there.
    pub source: serde_json::Error,
}

/// A container's configuration.
#[derive(Debug, Clone)]
pub struct Spec {
    /// All but the next two.
    others: Fields,
    /// Empty where the configuration has none, and then not written either; so is the next.
    process: Fields,
    linux: Fields,
}

impl Spec {
    /// Takes the JSON text apart.
    ///
    /// # Errors
    /// It, its `process` or its `linux` is no object. The last two may be missing, or null.
    pub fn parse(json: &[u8]) -> Result<Self, SpecError> {
        let object = |field| {
            move |source| SpecError {
                field,
                shape: "an object",
                source,
            }
        };
        let mut others: Fields = serde_json::from_slice(json).map_err(object("the whole"))?;
        let mut part = |name| -> Result<Fields, SpecError> {
            let Some(text) = others.remove(name) else {
                return Ok(Fields::new());
            };
            let fields: Option<Fields> = serde_json::from_str(text.get()).map_err(object(name))?;
            Ok(fields.unwrap_or_default())
        };
        Ok(Self {
            process: part("process")?,
            linux: part("linux")?,
            others,
        })
    }

    /// The JSON text.
    ///
    /// # Errors
    /// None that is known: what was read can be written.
    pub fn to_json(&self) -> serde_json::Result<Vec<u8>> {
        let mut fields: BTreeMap<&str, &RawValue> = self
            .others
            .iter()
            .map(|(name, value)| (name.as_str(), &**value))
            .collect();
        let process = to_raw_value(&self.process)?;
        if !self.process.is_empty() {
            fields.insert("process", &process);
        }
        let linux = to_raw_value(&self.linux)?;
        if !self.linux.is_empty() {
            fields.insert("linux", &linux);
        }
        serde_json::to_vec(&fields)
    }

    /// Sets `process.apparmorProfile`.
    pub fn set_apparmor(&mut self, profile: &str) {
        self.process
            .insert("apparmorProfile".to_owned(), raw(&Value::from(profile)));
    }

    /// `process.capabilities.bounding`; none where it says nothing.
    ///
    /// # Errors
    /// It is no list of names.
    pub fn bounding_capabilities(&self) -> Result<Vec<String>, SpecError> {
        #[derive(Deserialize)]
        struct Capabilities {
            #[serde(default)]
            bounding: Option<Vec<String>>,
        }
        let Some(text) = self.process.get("capabilities") else {
            return Ok(Vec::new());
        };
        let capabilities: Option<Capabilities> =
            serde_json::from_str(text.get()).map_err(|source| SpecError {
                field: "process.capabilities.bounding",
                shape: "a list of names",
                source,
            })?;
        Ok(capabilities
            .and_then(|capabilities| capabilities.bounding)
            .unwrap_or_default())
    }

    /// `linux.seccomp`, where there is one.
    ///
    /// # Errors
    /// A number that no number of ours holds.
    pub fn seccomp(&self) -> Result<Option<Value>, SpecError> {
        member(&self.linux, "seccomp", "linux.seccomp")
    }

    /// Sets `linux.seccomp`.
    pub fn set_seccomp(&mut self, filter: &Value) {
        self.linux.insert("seccomp".to_owned(), raw(filter));
    }

    /// `hooks`, where there are any.
    ///
    /// # Errors
    /// As [`Self::seccomp`].
    pub fn hooks(&self) -> Result<Option<Value>, SpecError> {
        member(&self.others, "hooks", "hooks")
    }

    /// Sets `hooks`.
    pub fn set_hooks(&mut self, hooks: &Value) {
        self.others.insert("hooks".to_owned(), raw(hooks));
    }
}

fn member(fields: &Fields, name: &str, field: &'static str) -> Result<Option<Value>, SpecError> {
    let text = fields.get(name);
    text.map_or(Ok(None), |text| {
        serde_json::from_str(text.get()).map_err(|source| SpecError {
            field,
            shape: "JSON with numbers of 64 bits",
            source,
        })
    })
}

fn raw(value: &Value) -> Box<RawValue> {
    to_raw_value(value).expect("a value of JSON can be written as JSON")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nobody_changes_stays_as_it_was() {
        let spec = r#"{"annotations":{"z":"1","a":"\u0041"},"linux":{"resources":{"limit":18446744073709551615,"share":1.0}},"ociVersion":"1.2.1","process":{"args":["b","a"],"user":{"uid":0}}}"#;
        let parsed = Spec::parse(spec.as_bytes()).unwrap();
        assert_eq!(parsed.to_json().unwrap(), spec.as_bytes());
        assert_eq!(parsed.seccomp().unwrap(), None);
        assert_eq!(parsed.hooks().unwrap(), None);
        assert!(parsed.bounding_capabilities().unwrap().is_empty());
    }

    #[test]
    fn profile_filter_and_hooks_are_set_beside_the_rest() {
        let json = br#"{"process":{"apparmorProfile":"old","args":["a"],"capabilities":{"bounding":["CAP_KILL"]}},
            "linux":{"seccomp":{"defaultAction":"SCMP_ACT_ALLOW"},"cgroupsPath":"/x"},"hooks":{"prestart":[]}}"#;
        let mut spec = Spec::parse(json).unwrap();
        assert_eq!(spec.bounding_capabilities().unwrap(), ["CAP_KILL"]);
        let filter = spec.seccomp().unwrap().unwrap();
        assert_eq!(filter["defaultAction"], "SCMP_ACT_ALLOW");
        assert_eq!(
            spec.hooks().unwrap().unwrap(),
            serde_json::json!({"prestart": []})
        );
        spec.set_apparmor("va\"r");
        spec.set_seccomp(&serde_json::json!({"defaultAction": "SCMP_ACT_KILL"}));
        spec.set_hooks(&serde_json::json!({"poststop": []}));
        let changed: Value = serde_json::from_slice(&spec.to_json().unwrap()).unwrap();
        let expected = serde_json::json!({
            "process": {"apparmorProfile": "va\"r", "args": ["a"], "capabilities": {"bounding": ["CAP_KILL"]}},
            "linux": {"seccomp": {"defaultAction": "SCMP_ACT_KILL"}, "cgroupsPath": "/x"},
            "hooks": {"poststop": []},
        });
        assert_eq!(changed, expected);
    }

    #[test]
    fn null_and_missing_are_nothing_and_made_when_set() {
        for json in [
            r#"{"process":{"capabilities":null},"linux":{"seccomp":null},"hooks":null}"#,
            r#"{"process":{"capabilities":{"bounding":null}},"linux":{}}"#,
            r#"{"process":null,"linux":null}"#,
            "{}",
        ] {
            let mut spec = Spec::parse(json.as_bytes()).unwrap();
            assert_eq!(spec.seccomp().unwrap(), None, "{json}");
            assert_eq!(spec.hooks().unwrap(), None, "{json}");
            assert!(spec.bounding_capabilities().unwrap().is_empty(), "{json}");
            spec.set_apparmor("p");
            spec.set_seccomp(&serde_json::json!({}));
            let changed: Value = serde_json::from_slice(&spec.to_json().unwrap()).unwrap();
            assert_eq!(changed["process"]["apparmorProfile"], "p", "{json}");
            assert_eq!(changed["linux"]["seccomp"], serde_json::json!({}), "{json}");
        }
        let nothing = Spec::parse(b"{}").unwrap();
        assert_eq!(nothing.to_json().unwrap(), b"{}");
    }

    #[test]
    fn other_shapes_are_errors_that_name_the_field() {
        for (json, field) in [
            ("[]", "the whole"),
            ("{", "the whole"),
            (r#"{"process":[],"linux":{}}"#, "process"),
            (r#"{"process":{},"linux":7}"#, "linux"),
        ] {
            let error = Spec::parse(json.as_bytes()).unwrap_err();
            assert_eq!(error.field, field, "{json}: {error}");
        }
        let odd = Spec::parse(br#"{"process":{"capabilities":{"bounding":[1]}},"linux":{}}"#);
        let error = odd.unwrap().bounding_capabilities().unwrap_err();
        assert_eq!(error.field, "process.capabilities.bounding");
    }
}
