// SPDX-License-Identifier: Apache-2.0
//! What the daemon reads and changes of a container's OCI configuration (runtime-spec 1.2, config.md and config-linux.md).
//! Everything else stays as the runtime wrote it, byte by byte.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;
use serde_json::value::{RawValue, to_raw_value};

type Fields = BTreeMap<String, Box<RawValue>>;

/// A container's configuration.
#[derive(Debug, Clone)]
pub struct Spec {
    /// All but the next two.
    others: Fields,
    process: Fields,
    linux: Fields,
}

impl Spec {
    /// Takes the JSON text apart.
    ///
    /// # Errors
    /// It is no object, or lacks what every container on Linux has.
    pub fn parse(json: &[u8]) -> Result<Self, String> {
        let mut others: Fields = serde_json::from_slice(json)
            .map_err(|error| format!("the container's specification is no JSON object: {error}"))?;
        let mut part = |name: &str| -> Result<Fields, String> {
            let text = others
                .remove(name)
                .ok_or_else(|| format!("the container's specification has no {name}"))?;
            serde_json::from_str(text.get()).map_err(|error| {
                format!("{name} of the container's specification is no object: {error}")
            })
        };
        Ok(Self {
            process: part("process")?,
            linux: part("linux")?,
            others,
        })
    }

    /// The JSON text.
    pub fn to_json(&self) -> serde_json::Result<Vec<u8>> {
        let process = to_raw_value(&self.process)?;
        let linux = to_raw_value(&self.linux)?;
        let mut fields: BTreeMap<&str, &RawValue> = self
            .others
            .iter()
            .map(|(name, value)| (name.as_str(), &**value))
            .collect();
        fields.insert("process", &process);
        fields.insert("linux", &linux);
        serde_json::to_vec(&fields)
    }

    /// Sets `process.apparmorProfile`.
    pub fn set_apparmor(&mut self, profile: &str) -> serde_json::Result<()> {
        let text = to_raw_value(profile)?;
        self.process.insert("apparmorProfile".to_owned(), text);
        Ok(())
    }

    /// `process.capabilities.bounding`; none where it says nothing.
    ///
    /// # Errors
    /// It is no list of names.
    pub fn bounding_capabilities(&self) -> serde_json::Result<Vec<String>> {
        #[derive(Deserialize)]
        struct Capabilities {
            #[serde(default)]
            bounding: Option<Vec<String>>,
        }
        let Some(text) = self.process.get("capabilities") else {
            return Ok(Vec::new());
        };
        let capabilities: Option<Capabilities> = serde_json::from_str(text.get())?;
        Ok(capabilities
            .and_then(|capabilities| capabilities.bounding)
            .unwrap_or_default())
    }

    /// `linux.seccomp`, where there is one.
    ///
    /// # Errors
    /// Numbers that no number of ours holds.
    pub fn seccomp(&self) -> serde_json::Result<Option<Value>> {
        let filter = self.linux.get("seccomp");
        filter.map_or(Ok(None), |text| serde_json::from_str(text.get()))
    }

    /// Sets `linux.seccomp`.
    pub fn set_seccomp(&mut self, filter: &Value) -> serde_json::Result<()> {
        self.linux
            .insert("seccomp".to_owned(), to_raw_value(filter)?);
        Ok(())
    }
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
        assert!(parsed.bounding_capabilities().unwrap().is_empty());
    }

    #[test]
    fn profile_and_filter_are_set_beside_the_rest() {
        let json = br#"{"process":{"apparmorProfile":"old","args":["a"],"capabilities":{"bounding":["CAP_KILL"]}},
            "linux":{"seccomp":{"defaultAction":"SCMP_ACT_ALLOW"},"cgroupsPath":"/x"}}"#;
        let mut spec = Spec::parse(json).unwrap();
        assert_eq!(spec.bounding_capabilities().unwrap(), ["CAP_KILL"]);
        let filter = spec.seccomp().unwrap().unwrap();
        assert_eq!(filter["defaultAction"], "SCMP_ACT_ALLOW");
        spec.set_apparmor("va\"r").unwrap();
        spec.set_seccomp(&serde_json::json!({"defaultAction": "SCMP_ACT_KILL"}))
            .unwrap();
        let changed: Value = serde_json::from_slice(&spec.to_json().unwrap()).unwrap();
        let expected = serde_json::json!({
            "process": {"apparmorProfile": "va\"r", "args": ["a"], "capabilities": {"bounding": ["CAP_KILL"]}},
            "linux": {"seccomp": {"defaultAction": "SCMP_ACT_KILL"}, "cgroupsPath": "/x"},
        });
        assert_eq!(changed, expected);
    }

    #[test]
    fn null_is_nothing() {
        let json = br#"{"process":{"capabilities":null},"linux":{"seccomp":null}}"#;
        let spec = Spec::parse(json).unwrap();
        assert_eq!(spec.seccomp().unwrap(), None);
        assert!(spec.bounding_capabilities().unwrap().is_empty());
        let json = br#"{"process":{"capabilities":{"bounding":null}},"linux":{}}"#;
        let spec = Spec::parse(json).unwrap();
        assert!(spec.bounding_capabilities().unwrap().is_empty());
    }

    #[test]
    fn what_is_no_container_on_linux_is_an_error_that_says_so() {
        for (json, reason) in [
            ("[]", "no JSON object"),
            ("{", "no JSON object"),
            (r#"{"linux":{}}"#, "has no process"),
            (r#"{"process":{}}"#, "has no linux"),
            (
                r#"{"process":null,"linux":{}}"#,
                "process of the container's",
            ),
            (r#"{"process":{},"linux":[]}"#, "linux of the container's"),
        ] {
            let error = Spec::parse(json.as_bytes()).unwrap_err();
            assert!(error.contains(reason), "{json}: {error}");
        }
        let odd = Spec::parse(br#"{"process":{"capabilities":{"bounding":[1]}},"linux":{}}"#);
        assert!(odd.unwrap().bounding_capabilities().is_err());
    }
}
