// SPDX-License-Identifier: Apache-2.0
//! Putting the hook into an OCI configuration.

use std::path::Path;

use serde_json::value::RawValue;
use serde_json::{Value, json};

/// File name by which a hook of ours is recognised, wherever it is installed.
pub const HOOK_NAME: &str = "varmor-oci-hook";

/// How long the runtime waits for the hook, in seconds: far beyond the few milliseconds that it takes.
const TIMEOUT: u32 = 10;

/// The `hooks` of a configuration are not of the shape that the OCI runtime specification 1.2 gives them.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("the OCI configuration's {field} must be {shape}")]
pub struct HooksShapeError {
    /// Where.
    pub field: &'static str,
    /// What belongs there.
    pub shape: &'static str,
}

/// The `hooks` of a configuration that runs `hook` at createRuntime and poststop, once each and after those that it has; a
/// hook of ours among these is replaced. `options` go before the word.
///
/// # Errors
/// Those that it has can't be kept, since they are no hooks.
pub fn with_hook(
    own: Option<Value>,
    hook: &Path,
    options: &[String],
) -> Result<Value, HooksShapeError> {
    let mut hooks = own
        .filter(|own| !own.is_null())
        .unwrap_or_else(|| json!({}));
    let points = hooks.as_object_mut().ok_or(HooksShapeError {
        field: "hooks",
        shape: "an object",
    })?;
    for (point, field) in [
        ("createRuntime", "hooks.createRuntime"),
        ("poststop", "hooks.poststop"),
    ] {
        let slot = points.entry(point).or_insert(Value::Null);
        if slot.is_null() {
            *slot = json!([]);
        }
        let list = slot.as_array_mut().ok_or(HooksShapeError {
            field,
            shape: "a list",
        })?;
        list.retain(|entry| !is_ours(entry));
        let mut arguments = vec![HOOK_NAME.to_owned()];
        arguments.extend_from_slice(options);
        arguments.push(point.to_owned());
        list.push(json!({"path": hook, "args": arguments, "timeout": TIMEOUT}));
    }
    Ok(hooks)
}

/// Whether `hooks` of a configuration has ours at createRuntime.
pub fn runs_hook(hooks: &RawValue) -> bool {
    let hooks: Value = serde_json::from_str(hooks.get()).unwrap_or_default();
    hooks
        .get("createRuntime")
        .and_then(Value::as_array)
        .is_some_and(|list| list.iter().any(is_ours))
}

fn is_ours(entry: &Value) -> bool {
    let path = entry.get("path").and_then(Value::as_str);
    path.and_then(|path| Path::new(path).file_name())
        .is_some_and(|name| name == HOOK_NAME)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOOK: &str = "/usr/libexec/varmor-nri/varmor-oci-hook";

    #[test]
    fn the_hook_is_added_once_and_after_the_others() {
        let own = json!({"createRuntime": [{"path": "/other"}], "prestart": [{"path": "/x"}]});
        let old = with_hook(Some(own), Path::new("/old/varmor-oci-hook"), &[]).unwrap();
        let options = ["--bpf-dir".to_owned(), "/b".to_owned()];
        let once = with_hook(Some(old), Path::new(HOOK), &options).unwrap();
        let twice = with_hook(Some(once.clone()), Path::new(HOOK), &options).unwrap();
        assert_eq!(once, twice);
        assert_eq!(
            once,
            json!({
                "prestart": [{"path": "/x"}],
                "createRuntime": [{"path": "/other"},
                    {"path": HOOK, "args": ["varmor-oci-hook", "--bpf-dir", "/b", "createRuntime"], "timeout": 10}],
                "poststop": [{"path": HOOK, "args": ["varmor-oci-hook", "--bpf-dir", "/b", "poststop"], "timeout": 10}],
            })
        );
    }

    #[test]
    fn a_hook_of_ours_is_recognised() {
        let runs = |json: &str| runs_hook(&RawValue::from_string(json.to_owned()).unwrap());
        assert!(runs(
            r#"{"createRuntime": [{"path": "/x"}, {"path": "/any/varmor-oci-hook"}]}"#
        ));
        for json in [
            "[]",
            "{}",
            r#"{"createRuntime": {}}"#,
            r#"{"createRuntime": [{"path": "/varmor-oci-hook/x", "args": ["varmor-oci-hook"]}, {}, 7]}"#,
            r#"{"poststop": [{"path": "/varmor-oci-hook"}]}"#,
        ] {
            assert!(!runs(json), "{json}");
        }
    }

    #[test]
    fn missing_and_null_parts_are_made() {
        for own in [
            None,
            Some(Value::Null),
            Some(json!({"createRuntime": null})),
        ] {
            let hooks = with_hook(own, Path::new(HOOK), &[]).unwrap();
            assert_eq!(hooks["createRuntime"].as_array().unwrap().len(), 1);
            assert_eq!(hooks["poststop"].as_array().unwrap().len(), 1);
        }
    }

    #[test]
    fn other_shapes_are_errors_that_name_the_field() {
        for (own, field) in [
            (json!([]), "hooks"),
            (json!({"poststop": {}}), "hooks.poststop"),
        ] {
            let error = with_hook(Some(own), Path::new(HOOK), &[]).unwrap_err();
            assert_eq!(error.field, field);
        }
    }
}
