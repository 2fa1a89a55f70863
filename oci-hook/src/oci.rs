// SPDX-License-Identifier: Apache-2.0
//! What the hook reads of the OCI runtime specification 1.2: the container's state (runtime.md "State") and a few fields of
//! its bundle's config.json. Everything else is left alone, whatever it holds.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::value::RawValue;
use varmor_node_state::{BadId, ContainerId};

use crate::input::read_file;

/// Kubernetes allows 256 KiB of annotations, which JSON may escape sixfold; a true state is a few KiB.
pub const STATE_LIMIT: usize = 4 << 20;
/// A config.json holds what a pod says of its container, at most etcd's 1.5 MiB, and the seccomp profile.
pub const CONFIG_LIMIT: usize = 16 << 20;

/// What the runtime said can't be used.
#[derive(Debug, thiserror::Error)]
pub enum OciError {
    /// The state on standard input.
    #[error("the OCI state on standard input is unusable: {0}")]
    State(#[from] serde_json::Error),
    /// The state's id.
    #[error("the OCI state on standard input is unusable: {0}")]
    Id(#[from] BadId),
    /// The state's bundle.
    #[error(
        "the OCI state on standard input is unusable: its bundle {0:?} is not an absolute path"
    )]
    Bundle(PathBuf),
    /// The bundle's config.json.
    #[error("cannot read {path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// The bundle's config.json.
    #[error("{path} is not an OCI configuration: {source}")]
    Config {
        /// The file.
        path: PathBuf,
        /// Where and why.
        source: serde_json::Error,
    },
}

/// The container's state, as a hook gets it on its standard input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct State {
    /// The container.
    pub id: ContainerId,
    /// The init process, in the runtime's pid namespace; none once it is gone (poststop).
    pub pid: Option<u32>,
    /// The bundle's directory.
    pub bundle: PathBuf,
}

impl State {
    /// Parses the JSON that the runtime sends.
    pub fn parse(json: &[u8]) -> Result<Self, OciError> {
        #[derive(Deserialize)]
        struct Wire {
            id: String,
            #[serde(default)]
            pid: u32,
            bundle: PathBuf,
        }
        let wire: Wire = serde_json::from_slice(json)?;
        let id = ContainerId::new(wire.id)?;
        if !wire.bundle.is_absolute() {
            return Err(OciError::Bundle(wire.bundle));
        }
        Ok(Self {
            id,
            pid: Some(wire.pid).filter(|pid| *pid != 0),
            bundle: wire.bundle,
        })
    }
}

/// The fields of config.json that decide.
#[derive(Debug, Default)]
pub struct Config {
    /// `annotations`.
    pub annotations: BTreeMap<String, String>,
    /// `process.apparmorProfile`; an empty one is none.
    pub apparmor: Option<String>,
    /// `linux.seccomp`, not yet parsed; null is none.
    pub seccomp: Option<Box<RawValue>>,
    /// `hooks`, not yet parsed; null is none.
    pub hooks: Option<Box<RawValue>>,
}

#[derive(Deserialize)]
struct WireConfig {
    hooks: Option<Box<RawValue>>,
    annotations: Option<BTreeMap<String, String>>,
    process: Option<WireProcess>,
    linux: Option<WireLinux>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireProcess {
    apparmor_profile: Option<String>,
}

#[derive(Deserialize)]
struct WireLinux {
    seccomp: Option<Box<RawValue>>,
}

impl Config {
    /// Reads a bundle's config.json.
    pub fn load(bundle: &Path) -> Result<Self, OciError> {
        let path = bundle.join("config.json");
        match read_file(&path, CONFIG_LIMIT) {
            Ok(json) => Self::parse(&json).map_err(|source| OciError::Config { path, source }),
            Err(source) => Err(OciError::Read { path, source }),
        }
    }

    /// Parses a config.json.
    pub fn parse(json: &[u8]) -> Result<Self, serde_json::Error> {
        let wire: WireConfig = serde_json::from_slice(json)?;
        Ok(Self {
            annotations: wire.annotations.unwrap_or_default(),
            apparmor: wire
                .process
                .and_then(|process| process.apparmor_profile)
                .filter(|name| !name.is_empty()),
            seccomp: wire.linux.and_then(|linux| linux.seccomp),
            hooks: wire.hooks,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_of_runc_is_understood() {
        let json = br#"{"ociVersion":"1.2.0","id":"abc","status":"creating","pid":42,"bundle":"/b","annotations":{"a":"b"}}"#;
        let state = State::parse(json).unwrap();
        assert_eq!(
            (state.id.as_str(), state.pid, state.bundle.as_path()),
            ("abc", Some(42), Path::new("/b"))
        );
        assert_eq!(
            State::parse(br#"{"id":"abc","pid":0,"bundle":"/b"}"#)
                .unwrap()
                .pid,
            None
        );
        assert_eq!(
            State::parse(br#"{"id":"abc","bundle":"/b"}"#).unwrap().pid,
            None
        );
    }

    #[test]
    fn hostile_states_are_errors() {
        let deep = "[".repeat(100_000);
        let nested = format!(r#"{{"id":"abc","bundle":"/b","annotations":{deep}"#);
        for bad in [
            "",
            "null",
            "[]",
            "{}",
            "\0\0\0",
            r#"{"id":"abc"}"#,
            r#"{"id":"","bundle":"/b"}"#,
            r#"{"id":"../../etc/passwd","bundle":"/b"}"#,
            r#"{"id":"a\u0000b","bundle":"/b"}"#,
            r#"{"id":7,"bundle":"/b"}"#,
            r#"{"id":"abc","id":"abd","bundle":"/b"}"#,
            r#"{"id":"abc","bundle":"b"}"#,
            r#"{"id":"abc","bundle":""}"#,
            r#"{"id":"abc","pid":-1,"bundle":"/b"}"#,
            r#"{"id":"abc","pid":4294967296,"bundle":"/b"}"#,
            r#"{"id":"abc","bundle":"/b"} {"#,
            &deep,
            &nested,
        ] {
            assert!(State::parse(bad.as_bytes()).is_err(), "{bad:.60}");
        }
        assert!(State::parse(b"{\"id\":\"a\xff\",\"bundle\":\"/b\"}").is_err());
    }

    #[test]
    fn a_config_may_lack_everything() {
        for json in [
            "{}",
            r#"{"annotations":null,"process":null,"linux":null}"#,
            r#"{"annotations":{},"process":{},"linux":{}}"#,
            r#"{"process":{"apparmorProfile":""},"linux":{"seccomp":null}}"#,
            r#"{"process":{"apparmorProfile":null}}"#,
        ] {
            let config = Config::parse(json.as_bytes()).unwrap();
            assert!(
                config.annotations.is_empty()
                    && config.apparmor.is_none()
                    && config.seccomp.is_none(),
                "{json}"
            );
        }
    }

    #[test]
    fn a_config_says_what_it_carries() {
        let json = r#"{"process":{"args":["sh"],"apparmorProfile":"p","env":[{}]},"annotations":{"a":"b"},
            "linux":{"namespaces":7,"seccomp":{"defaultAction":"SCMP_ACT_ALLOW"}},"hooks":[]}"#;
        let config = Config::parse(json.as_bytes()).unwrap();
        assert_eq!(config.annotations["a"], "b");
        assert_eq!(config.apparmor.as_deref(), Some("p"));
        assert_eq!(
            config.seccomp.unwrap().get(),
            r#"{"defaultAction":"SCMP_ACT_ALLOW"}"#
        );
    }

    #[test]
    fn hostile_configs_are_errors() {
        let deep = format!(r#"{{"linux":{{"seccomp":{}"#, "[".repeat(100_000));
        for bad in [
            "",
            "null",
            "{",
            r#"{"annotations":[]}"#,
            r#"{"annotations":{"a":1}}"#,
            r#"{"process":"x"}"#,
            r#"{"process":{"apparmorProfile":1}}"#,
            r#"{"process":{},"process":{"apparmorProfile":"x"}}"#,
            r#"{"process":{"apparmorProfile":"x","apparmorProfile":"y"}}"#,
            r#"{"linux":{"seccomp":{}},"linux":{}}"#,
            &deep,
        ] {
            assert!(Config::parse(bad.as_bytes()).is_err(), "{bad:.60}");
        }
    }

    #[test]
    fn a_bundle_without_a_config_is_an_error_that_names_the_file() {
        let directory = tempfile::tempdir().unwrap();
        let error = Config::load(directory.path()).unwrap_err().to_string();
        assert!(
            error.contains("config.json") && error.contains("No such file"),
            "{error}"
        );
    }
}
