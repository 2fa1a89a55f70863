// SPDX-License-Identifier: Apache-2.0
//! Telling whether two seccomp filters are the same filter.
//!
//! A filter that goes through the runtime comes back changed in form: Go writes the fields of `specs.LinuxSeccomp`
//! (runtime-spec 1.2, config-linux.md "seccomp") in its own order, leaves out empty lists, zero `valueTwo` and nil numbers,
//! and drops fields that the specification does not have.

use serde::{Deserialize, Deserializer, Serialize};
use sha2::{Digest, Sha256};

/// The value is not an OCI `linux.seccomp` object.
#[derive(Debug, thiserror::Error)]
#[error("the seccomp filter is not an OCI linux.seccomp object: {0}")]
pub struct SeccompShapeError(#[from] serde_json::Error);

/// Fields in a fixed order. `defaultErrnoRet` is left out on purpose: containerd up to 2.3.4 drops it on its way from NRI,
/// and it only changes which error a refused call returns.
#[derive(Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
struct Filter {
    default_action: String,
    #[serde(default, deserialize_with = "null_is_empty")]
    architectures: Vec<String>,
    #[serde(default, deserialize_with = "null_is_empty")]
    flags: Vec<String>,
    #[serde(default, deserialize_with = "null_is_empty")]
    listener_path: String,
    #[serde(default, deserialize_with = "null_is_empty")]
    listener_metadata: String,
    #[serde(default, deserialize_with = "null_is_empty")]
    syscalls: Vec<Rule>,
}

#[derive(Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
struct Rule {
    #[serde(default, deserialize_with = "null_is_empty")]
    names: Vec<String>,
    action: String,
    errno_ret: Option<u32>,
    #[serde(default, deserialize_with = "null_is_empty")]
    args: Vec<Argument>,
}

#[derive(Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
struct Argument {
    #[serde(default, deserialize_with = "null_is_empty")]
    index: u32,
    #[serde(default, deserialize_with = "null_is_empty")]
    value: u64,
    #[serde(default, deserialize_with = "null_is_empty")]
    value_two: u64,
    op: String,
}

fn null_is_empty<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(
    deserializer: D,
) -> Result<T, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// SHA-256, in hex, of a filter's canonical form: equal for two OCI `linux.seccomp` objects that a runtime would turn into
/// the same filter, whatever Go or NRI did to their form. The order of the rules counts, that of architectures and flags
/// does not.
pub fn seccomp_digest(filter: &serde_json::Value) -> Result<String, SeccompShapeError> {
    let mut filter = Filter::deserialize(filter)?;
    filter.architectures.sort();
    filter.architectures.dedup();
    filter.flags.sort();
    filter.flags.dedup();
    for rule in &mut filter.syscalls {
        // The specification's default: an ERRNO rule without a number returns EPERM.
        if rule.action == "SCMP_ACT_ERRNO" && rule.errno_ret.is_none() {
            rule.errno_ret = Some(1);
        }
    }
    let digest = Sha256::digest(serde_json::to_vec(&filter)?);
    Ok(digest.iter().map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn ours() -> Value {
        json!({
            "defaultAction": "SCMP_ACT_ALLOW",
            "defaultErrnoRet": 1,
            "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86"],
            "flags": [],
            "listenerPath": "",
            "syscalls": [
                {"names": ["unshare"], "action": "SCMP_ACT_ERRNO", "errnoRet": 1,
                 "args": [{"index": 0, "value": 268435456u64, "valueTwo": 0, "op": "SCMP_CMP_MASKED_EQ"}]},
                {"names": ["ptrace", "mount"], "action": "SCMP_ACT_ERRNO", "errnoRet": null, "args": [], "comment": "x"},
            ],
        })
    }

    /// As Go writes it: other key order, empty things left out.
    fn after_go() -> Value {
        serde_json::from_str(
            r#"{"syscalls":[{"action":"SCMP_ACT_ERRNO","args":[{"op":"SCMP_CMP_MASKED_EQ","value":268435456,"index":0}],
            "names":["unshare"],"errnoRet":1},{"names":["ptrace","mount"],"action":"SCMP_ACT_ERRNO","errnoRet":1}],
            "architectures":["SCMP_ARCH_X86","SCMP_ARCH_X86_64"],"defaultAction":"SCMP_ACT_ALLOW"}"#,
        )
        .unwrap()
    }

    #[test]
    fn the_form_does_not_count() {
        let digest = seccomp_digest(&ours()).unwrap();
        assert_eq!(digest, seccomp_digest(&after_go()).unwrap());
        assert_eq!(digest.len(), 64);
        assert!(
            digest
                .bytes()
                .all(|b| b.is_ascii_hexdigit() && !b.is_ascii_uppercase())
        );
    }

    #[test]
    fn every_part_of_the_meaning_counts() {
        let base = seccomp_digest(&ours()).unwrap();
        let changes: [(&str, Value); 11] = [
            ("/defaultAction", json!("SCMP_ACT_ERRNO")),
            ("/architectures", json!(["SCMP_ARCH_X86_64"])),
            ("/flags", json!(["SECCOMP_FILTER_FLAG_LOG"])),
            ("/listenerPath", json!("/run/s")),
            ("/syscalls/0/names", json!(["unshare", "clone"])),
            ("/syscalls/0/action", json!("SCMP_ACT_LOG")),
            ("/syscalls/0/errnoRet", json!(13)),
            ("/syscalls/0/args", json!([])),
            ("/syscalls/0/args/0/value", json!(268435457u64)),
            ("/syscalls/0/args/0/valueTwo", json!(u64::MAX)),
            ("/syscalls", json!([])),
        ];
        for (pointer, value) in changes {
            let mut filter = ours();
            *filter.pointer_mut(pointer).unwrap() = value;
            assert_ne!(base, seccomp_digest(&filter).unwrap(), "{pointer}");
        }
        let mut swapped = ours();
        swapped["syscalls"].as_array_mut().unwrap().swap(0, 1);
        assert_ne!(
            base,
            seccomp_digest(&swapped).unwrap(),
            "the order of the rules"
        );
    }

    #[test]
    fn other_shapes_are_errors() {
        for bad in [
            json!(null),
            json!([]),
            json!("SCMP_ACT_ALLOW"),
            json!({}),
            json!({"defaultAction": 1}),
            json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["x"]}]}),
            json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": "x", "action": "SCMP_ACT_LOG"}]}),
            json!({"defaultAction": "SCMP_ACT_ALLOW",
                   "syscalls": [{"names": ["x"], "action": "SCMP_ACT_LOG", "args": [{"index": -1, "op": "SCMP_CMP_EQ"}]}]}),
        ] {
            assert!(seccomp_digest(&bad).is_err(), "{bad}");
        }
    }
}
