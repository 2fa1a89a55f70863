// SPDX-License-Identifier: Apache-2.0
//! Putting the hook into an OCI configuration.

use std::path::Path;

use serde_json::value::RawValue;
use serde_json::{Map, Value, json};

/// File name by which a hook of ours is recognised, wherever it is installed.
pub const HOOK_NAME: &str = "varmor-oci-hook";

/// How long the runtime waits for the hook, in seconds: far beyond the few milliseconds that it takes.
const TIMEOUT: u32 = 10;

/// The configuration is not of the shape that the OCI runtime specification 1.2 gives it.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("the OCI configuration's {field} must be {shape}")]
pub struct SpecShapeError {
    /// Where.
    pub field: &'static str,
    /// What belongs there.
    pub shape: &'static str,
}

/// Makes the configuration run `hook` at createRuntime and poststop, once each and after the hooks that it has; a hook of
/// ours that it has already is replaced. `options` go before the word.
pub fn add_hooks(spec: &mut Value, hook: &Path, options: &[String]) -> Result<(), SpecShapeError> {
    let root = spec.as_object_mut().ok_or(SpecShapeError {
        field: "top",
        shape: "an object",
    })?;
    let hooks = object(root, "hooks")?;
    for (point, field) in [
        ("createRuntime", "hooks.createRuntime"),
        ("poststop", "hooks.poststop"),
    ] {
        let slot = hooks.entry(point).or_insert(Value::Null);
        if slot.is_null() {
            *slot = json!([]);
        }
        let list = slot.as_array_mut().ok_or(SpecShapeError {
            field,
            shape: "a list",
        })?;
        list.retain(|entry| !is_ours(entry));
        let mut arguments = vec![HOOK_NAME.to_owned()];
        arguments.extend_from_slice(options);
        arguments.push(point.to_owned());
        list.push(json!({"path": hook, "args": arguments, "timeout": TIMEOUT}));
    }
    Ok(())
}

/// Whether `hooks` of a configuration has ours at createRuntime.
pub fn runs_hook(hooks: &RawValue) -> bool {
    let hooks: Value = serde_json::from_str(hooks.get()).unwrap_or_default();
    hooks
        .get("createRuntime")
        .and_then(Value::as_array)
        .is_some_and(|list| list.iter().any(is_ours))
}

/// The member `name`, made when it is missing or null.
///
/// # Errors
/// When it is something other than an object.
pub fn object<'a>(
    parent: &'a mut Map<String, Value>,
    name: &'static str,
) -> Result<&'a mut Map<String, Value>, SpecShapeError> {
    let member = parent.entry(name).or_insert(Value::Null);
    if member.is_null() {
        *member = json!({});
    }
    member.as_object_mut().ok_or(SpecShapeError {
        field: name,
        shape: "an object",
    })
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
    fn hooks_are_added_once_and_after_the_others() {
        let mut spec = json!({"hooks": {"createRuntime": [{"path": "/other"}], "prestart": [{"path": "/x"}]}, "root": {}});
        add_hooks(&mut spec, Path::new("/old/varmor-oci-hook"), &[]).unwrap();
        add_hooks(
            &mut spec,
            Path::new(HOOK),
            &["--bpf-dir".into(), "/b".into()],
        )
        .unwrap();
        let once = spec.clone();
        add_hooks(
            &mut spec,
            Path::new(HOOK),
            &["--bpf-dir".into(), "/b".into()],
        )
        .unwrap();
        assert_eq!(spec, once);
        assert_eq!(
            spec,
            json!({"root": {}, "hooks": {
                "prestart": [{"path": "/x"}],
                "createRuntime": [{"path": "/other"},
                    {"path": HOOK, "args": ["varmor-oci-hook", "--bpf-dir", "/b", "createRuntime"], "timeout": 10}],
                "poststop": [{"path": HOOK, "args": ["varmor-oci-hook", "--bpf-dir", "/b", "poststop"], "timeout": 10}],
            }})
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
        for mut spec in [
            json!({}),
            json!({"hooks": null}),
            json!({"hooks": {"createRuntime": null}}),
        ] {
            add_hooks(&mut spec, Path::new(HOOK), &[]).unwrap();
            assert_eq!(spec["hooks"]["createRuntime"].as_array().unwrap().len(), 1);
            assert_eq!(spec["hooks"]["poststop"].as_array().unwrap().len(), 1);
        }
    }

    #[test]
    fn other_shapes_are_errors_that_name_the_field() {
        for (mut spec, field) in [
            (json!([]), "top"),
            (json!({"hooks": []}), "hooks"),
            (json!({"hooks": {"poststop": {}}}), "hooks.poststop"),
        ] {
            assert_eq!(
                add_hooks(&mut spec, Path::new(HOOK), &[])
                    .unwrap_err()
                    .field,
                field
            );
        }
    }
}
