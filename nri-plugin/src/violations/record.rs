// SPDX-License-Identifier: Apache-2.0
//! One violation, in the JSON that users of vArmor's violations.log know.

use serde::Serialize;
use serde_json::Value;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use varmor_policy::plan::PolicyRef;

/// One line of the log. Field names and their order are vArmor's.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Record {
    /// `warn` for what was refused, `debug` for what was only reported.
    pub level: &'static str,
    /// This node.
    pub node_name: String,
    /// The pod, empty when the container is not known any more.
    #[serde(rename = "podUID")]
    pub pod_uid: String,
    /// The pod's name.
    pub pod_name: String,
    /// The pod's namespace.
    pub pod_namespace: String,
    /// The container's id.
    #[serde(rename = "containerID")]
    pub container_id: String,
    /// The container's name in its pod.
    pub container_name: String,
    /// The container's image, where the runtime said it.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub image: String,
    /// The process, in the host's pid namespace.
    pub pid: u32,
    /// Inode number of the process's mount namespace.
    #[serde(rename = "mntNsID")]
    pub mnt_ns_id: u32,
    /// Unix time in seconds.
    pub event_timestamp: i64,
    /// Where the event comes from; same as `enforcer`, under the name that vArmor's releases up to 0.8 gave it.
    pub event_type: &'static str,
    /// Which enforcer judged.
    pub enforcer: &'static str,
    /// `DENIED` or `AUDIT`.
    pub action: &'static str,
    /// The profile that the container is under.
    pub profile_name: String,
    /// `VarmorPolicy` or `VarmorClusterPolicy`; of several policies that hold together, the first one's.
    pub policy_kind: String,
    /// The policy's namespace; empty for a cluster policy.
    pub policy_namespace: String,
    /// The policy's name.
    pub policy_name: String,
    /// Not in vArmor: all the policies that hold together, when there are several. The profile is of all of them, so that
    /// which one refused or asked for the report is not known.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub policies: Vec<PolicyRef>,
    /// What happened.
    pub event: Value,
    /// RFC 3339.
    pub time: String,
    /// `violation event`.
    pub message: &'static str,
}

/// Written instead of the violations that were lost.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Loss {
    /// `warn`.
    pub level: &'static str,
    /// This node.
    pub node_name: String,
    /// How many events since the last such line.
    pub lost: u64,
    /// Where they were lost.
    pub lost_in: &'static str,
    /// RFC 3339.
    pub time: String,
    /// `violation events lost`.
    pub message: &'static str,
}

/// What a sink is given.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Entry {
    /// A violation.
    Violation(Box<Record>),
    /// Violations that nobody will see.
    Loss(Loss),
}

impl Entry {
    /// Events that were lost.
    pub fn loss(node: &str, lost: u64, lost_in: &'static str) -> Self {
        Self::Loss(Loss {
            level: "warn",
            node_name: node.to_owned(),
            lost,
            lost_in,
            time: rfc3339(OffsetDateTime::now_utc()),
            message: "violation events lost",
        })
    }

    /// The entry as one line of JSON, with its newline.
    pub fn line(&self) -> Vec<u8> {
        let mut line = serde_json::to_vec(self).expect("strings and numbers always serialize");
        line.push(b'\n');
        line
    }
}

/// A time as the log writes it, in whole seconds.
pub fn rfc3339(time: OffsetDateTime) -> String {
    time.replace_nanosecond(0)
        .unwrap_or(time)
        .format(&Rfc3339)
        .unwrap_or_default()
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use serde_json::json;

    /// A refused open.
    pub fn record() -> Record {
        Record {
            level: "warn",
            node_name: "n1".into(),
            pod_uid: "u1".into(),
            pod_name: "p1".into(),
            pod_namespace: "demo".into(),
            container_id: "c1d".into(),
            container_name: "c1".into(),
            image: String::new(),
            pid: 7,
            mnt_ns_id: 4026532637,
            event_timestamp: 1740381264,
            event_type: "BPF",
            enforcer: "BPF",
            action: "DENIED",
            profile_name: "varmor-demo-demo-2".into(),
            policy_kind: "VarmorPolicy".into(),
            policy_namespace: "demo".into(),
            policy_name: "demo-2".into(),
            policies: Vec::new(),
            event: json!({"operation": "File", "permissions": ["read"], "path": "/etc/shadow\n\u{1b}"}),
            time: rfc3339(OffsetDateTime::from_unix_timestamp(1740381264).unwrap()),
            message: "violation event",
        }
    }

    #[test]
    fn policies_that_hold_together_are_all_named() {
        let policy = |kind: &str, namespace: &str, name: &str| PolicyRef {
            kind: kind.into(),
            namespace: namespace.into(),
            name: name.into(),
        };
        let record = Record {
            policies: vec![
                policy("VarmorClusterPolicy", "", "all"),
                policy("VarmorPolicy", "demo", "p"),
            ],
            ..record()
        };
        let line = Entry::Violation(Box::new(record)).line();
        assert_eq!(
            serde_json::from_slice::<Value>(&line).unwrap()["policies"],
            json!([{"kind": "VarmorClusterPolicy", "namespace": "", "name": "all"},
                   {"kind": "VarmorPolicy", "namespace": "demo", "name": "p"}])
        );
    }

    #[test]
    fn the_line_has_the_fields_of_varmor() {
        let line = String::from_utf8(Entry::Violation(Box::new(record())).line()).unwrap();
        assert_eq!(
            line.matches('\n').count(),
            1,
            "one line, whatever a file name has in it"
        );
        assert_eq!(
            serde_json::from_str::<Value>(&line).unwrap(),
            json!({
                "level": "warn", "nodeName": "n1", "podUID": "u1", "podName": "p1", "podNamespace": "demo",
                "containerID": "c1d", "containerName": "c1", "pid": 7, "mntNsID": 4026532637u32,
                "eventTimestamp": 1740381264, "eventType": "BPF", "enforcer": "BPF", "action": "DENIED",
                "profileName": "varmor-demo-demo-2", "policyKind": "VarmorPolicy", "policyNamespace": "demo",
                "policyName": "demo-2",
                "event": {"operation": "File", "permissions": ["read"], "path": "/etc/shadow\n\u{1b}"},
                "time": "2025-02-24T07:14:24Z", "message": "violation event",
            })
        );
    }
}
