// SPDX-License-Identifier: Apache-2.0
//! Between NRI's messages and the daemon's types.

use containerd_nri::adjust::{seccomp_filter, seccomp_rule};
use containerd_nri::api::{self, ContainerState, LinuxSeccomp, PodSandbox};
use containerd_nri::protobuf::MessageField;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::containers::{Pod, Stage};
use crate::node::Existing;

/// containerd's annotation of an application container with its image.
const IMAGE_ANNOTATION: &str = "io.kubernetes.cri.image-name";

pub(super) fn pod(pod: PodSandbox) -> Pod {
    Pod {
        id: pod.id,
        namespace: pod.namespace,
        name: pod.name,
        uid: pod.uid,
        labels: pod.labels.into_iter().collect(),
        annotations: pod.annotations.into_iter().collect(),
        addresses: pod
            .ips
            .iter()
            .filter_map(|address| address.parse().ok())
            .collect(),
    }
}

pub(super) fn image(container: &api::Container) -> String {
    container
        .annotations
        .get(IMAGE_ANNOTATION)
        .cloned()
        .unwrap_or_default()
}

pub(super) fn existing(container: api::Container) -> Existing {
    let stage = match container.state.enum_value_or_default() {
        ContainerState::CONTAINER_RUNNING | ContainerState::CONTAINER_PAUSED => Stage::Running,
        ContainerState::CONTAINER_STOPPED => Stage::Stopped,
        // An unknown state with a process is one that runs.
        _ if container.pid != 0 && container.started_at != 0 => Stage::Running,
        _ => Stage::Created,
    };
    Existing {
        image: image(&container),
        pod: container.pod_sandbox_id,
        id: container.id,
        name: container.name,
        stage,
        pid: container.pid,
    }
}

/// A filter as `linux.seccomp` of the OCI specification.
pub(super) fn filter_to_oci(filter: &LinuxSeccomp) -> Value {
    let number =
        |value: &MessageField<api::OptionalUInt32>| value.as_ref().map(|value| value.value);
    let rule = |rule: &api::LinuxSyscall| {
        let args: Vec<Value> = rule
            .args
            .iter()
            .map(|arg| json!({"index": arg.index, "value": arg.value, "valueTwo": arg.value_two, "op": arg.op}))
            .collect();
        let mut value = json!({"names": rule.names, "action": rule.action});
        if let Some(errno) = number(&rule.errno_ret) {
            value["errnoRet"] = errno.into();
        }
        if !args.is_empty() {
            value["args"] = args.into();
        }
        value
    };
    let mut value = json!({
        "defaultAction": filter.default_action,
        "architectures": filter.architectures,
        "flags": filter.flags,
        "syscalls": filter.syscalls.iter().map(rule).collect::<Vec<_>>(),
    });
    if let Some(errno) = number(&filter.default_errno) {
        value["defaultErrnoRet"] = errno.into();
    }
    for (field, text) in [
        ("listenerPath", &filter.listener_path),
        ("listenerMetadata", &filter.listener_metadata),
    ] {
        if !text.is_empty() {
            value[field] = text.as_str().into();
        }
    }
    value
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Filter {
    default_action: String,
    default_errno_ret: Option<u32>,
    #[serde(default)]
    architectures: Vec<String>,
    #[serde(default)]
    flags: Vec<String>,
    #[serde(default)]
    listener_path: String,
    #[serde(default)]
    listener_metadata: String,
    #[serde(default)]
    syscalls: Vec<Rule>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Rule {
    names: Vec<String>,
    action: String,
    errno_ret: Option<u32>,
    #[serde(default)]
    args: Vec<Argument>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Argument {
    index: u32,
    value: u64,
    #[serde(default)]
    value_two: u64,
    op: String,
}

/// An OCI `linux.seccomp` as NRI's message.
pub(super) fn filter_from_oci(filter: &Value) -> Result<LinuxSeccomp, String> {
    let filter = Filter::deserialize(filter)
        .map_err(|error| format!("the merged seccomp filter: {error}"))?;
    let mut message = seccomp_filter(filter.default_action, filter.architectures);
    if let Some(errno) = filter.default_errno_ret {
        message.default_errno.mut_or_insert_default().value = errno;
    }
    message.flags = filter.flags;
    message.listener_path = filter.listener_path;
    message.listener_metadata = filter.listener_metadata;
    for rule in filter.syscalls {
        let mut fresh = seccomp_rule(rule.names, rule.action, rule.errno_ret);
        for argument in rule.args {
            let mut arg = api::LinuxSeccompArg::new();
            arg.index = argument.index;
            arg.value = argument.value;
            arg.value_two = argument.value_two;
            arg.op = argument.op;
            fresh.args.push(arg);
        }
        message.syscalls.push(fresh);
    }
    Ok(message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use varmor_node_state::seccomp_digest;

    #[test]
    fn a_filter_comes_back_as_it_was() {
        let filter = json!({
            "defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 38,
            "architectures": ["SCMP_ARCH_X86_64"], "flags": ["SECCOMP_FILTER_FLAG_LOG"],
            "listenerPath": "/run/l", "listenerMetadata": "m",
            "syscalls": [
                {"names": ["read", "write"], "action": "SCMP_ACT_ALLOW"},
                {"names": ["unshare"], "action": "SCMP_ACT_ERRNO", "errnoRet": 1,
                 "args": [{"index": 0, "value": 0x1000_0000, "valueTwo": 0x1000_0000, "op": "SCMP_CMP_MASKED_EQ"}]},
            ],
        });
        let message = filter_from_oci(&filter).unwrap();
        assert_eq!(filter_to_oci(&message), filter);
        assert_eq!(
            seccomp_digest(&filter_to_oci(&message)).unwrap(),
            seccomp_digest(&filter).unwrap()
        );
        assert!(filter_from_oci(&json!({"syscalls": []})).is_err());
    }

    #[test]
    fn stages() {
        let stage = |state: ContainerState, pid, started_at| {
            let mut container = api::Container::new();
            container.state = state.into();
            container.pid = pid;
            container.started_at = started_at;
            existing(container).stage
        };
        assert_eq!(
            stage(ContainerState::CONTAINER_CREATED, 7, 0),
            Stage::Created
        );
        assert_eq!(
            stage(ContainerState::CONTAINER_RUNNING, 7, 1),
            Stage::Running
        );
        assert_eq!(
            stage(ContainerState::CONTAINER_PAUSED, 7, 1),
            Stage::Running
        );
        assert_eq!(
            stage(ContainerState::CONTAINER_STOPPED, 0, 1),
            Stage::Stopped
        );
        assert_eq!(
            stage(ContainerState::CONTAINER_UNKNOWN, 7, 1),
            Stage::Running
        );
        assert_eq!(
            stage(ContainerState::CONTAINER_UNKNOWN, 0, 0),
            Stage::Created
        );
    }
}
