// SPDX-License-Identifier: Apache-2.0
//! `varmor-nri status` and `varmor-nri wait`: questions to the daemon over its socket.

use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, bail};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};
use varmor_node_api::Client;
use varmor_node_api::api::{
    ContainerStatus, EnforcerState, ListRequest, ListResponse, PolicyRef, StatusRequest,
    StatusResponse,
};

use crate::wait::{Verdict, digests, judge};

/// How `status` prints.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Output {
    /// For people.
    Text,
    /// For programs.
    Json,
}

/// Options of `varmor-nri status`.
#[derive(Debug, clap::Args)]
pub struct StatusOptions {
    /// Socket of the node API
    #[arg(long, env = "VARMOR_NODE_SOCKET", default_value = varmor_node_api::DEFAULT_SOCKET)]
    node_socket: PathBuf,
    /// Form of the output
    #[arg(short, long, default_value = "text")]
    output: Output,
}

/// Options of `varmor-nri wait`.
#[derive(Debug, clap::Args)]
pub struct WaitOptions {
    /// Socket of the node API
    #[arg(long, env = "VARMOR_NODE_SOCKET", default_value = varmor_node_api::DEFAULT_SOCKET)]
    node_socket: PathBuf,
    /// The daemon's policy folder
    #[arg(
        long,
        env = "VARMOR_POLICIES_DIR",
        default_value = "/etc/varmor-nri/policies.d"
    )]
    policies_dir: PathBuf,
    /// Give up after this many seconds
    #[arg(long, default_value_t = 30)]
    timeout: u64,
    /// Also wait until the daemon is connected to the runtime
    #[arg(long)]
    runtime: bool,
}

fn block_on<T>(future: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?
        .block_on(future)
}

/// Prints what the node enforces.
pub fn status(options: &StatusOptions) -> anyhow::Result<()> {
    let (status, list) = block_on(async {
        let client = Client::connect(&options.node_socket).await?;
        let status = client
            .status(StatusRequest {
                containers: true,
                ..Default::default()
            })
            .await?;
        Ok((status, client.list(ListRequest::new()).await?))
    })?;
    let text = match options.output {
        Output::Json => serde_json::to_string_pretty(&as_json(&status, &list))? + "\n",
        Output::Text => as_text(&status, &list),
    };
    // A reader that closed the pipe has seen enough.
    let _ = std::io::stdout().write_all(text.as_bytes());
    Ok(())
}

/// Waits for the policy folder.
pub fn wait(options: &WaitOptions) -> anyhow::Result<()> {
    block_on(async {
        let deadline = Instant::now() + Duration::from_secs(options.timeout);
        loop {
            let verdict = ask(options)
                .await
                .unwrap_or_else(|error| Verdict::Pending(format!("{error:#}")));
            match verdict {
                Verdict::InForce => return Ok(()),
                Verdict::Failed(reason) => bail!("{reason}"),
                Verdict::Pending(reason) if Instant::now() > deadline => {
                    bail!("not in force after {} s: {reason}", options.timeout)
                }
                Verdict::Pending(_) => sleep(Duration::from_millis(50)).await,
            }
        }
    })
}

async fn ask(options: &WaitOptions) -> anyhow::Result<Verdict> {
    let folder = options.policies_dir.display();
    let files = digests(&options.policies_dir).with_context(|| format!("{folder}"))?;
    let client = Client::connect(&options.node_socket).await?;
    let list = client.list(ListRequest::new()).await?;
    let status = client.status(StatusRequest::new()).await?;
    if options.runtime && !status.runtime_connected {
        return Ok(Verdict::Pending(
            "the daemon is not connected to the runtime".to_owned(),
        ));
    }
    Ok(judge(&files, &list, status.settled))
}

/// `VarmorPolicy demo/name`; the generated `Display` is protobuf's text form.
fn title(policy: &PolicyRef) -> String {
    match policy.namespace.as_str() {
        "" => format!("{} {}", policy.kind, policy.name),
        namespace => format!("{} {namespace}/{}", policy.kind, policy.name),
    }
}

/// The policies that hold for a container.
fn holding(container: &ContainerStatus) -> String {
    match (container.policy.as_ref(), &container.policies[..]) {
        (None, _) => "no policy".to_owned(),
        (Some(policy), []) => title(policy),
        (Some(_), several) => titles(several),
    }
}

fn titles(policies: &[PolicyRef]) -> String {
    let titles: Vec<String> = policies.iter().map(title).collect();
    titles.join(" merged with ")
}

fn policy_name(policy: &PolicyRef) -> Value {
    json!({"kind": policy.kind, "namespace": policy.namespace, "name": policy.name})
}

fn container_json(container: &ContainerStatus) -> Value {
    json!({
        "id": container.id, "namespace": container.namespace, "pod": container.pod, "podUID": container.pod_uid,
        "name": container.name, "pid": container.pid, "state": container.state, "profile": container.profile,
        "policy": container.policy.as_ref().map(policy_name),
        "policies": container.policies.iter().map(policy_name).collect::<Vec<_>>(),
        "shortfalls": container.shortfalls,
    })
}

fn enforcers_json(enforcers: &[EnforcerState]) -> Vec<Value> {
    let states = enforcers.iter().map(
        |enforcer| json!({"enforcer": enforcer.enforcer, "inForce": enforcer.in_force, "reason": enforcer.reason}),
    );
    states.collect()
}

fn enforcers_text(enforcers: &[EnforcerState]) -> String {
    let states = enforcers.iter().map(|enforcer| match enforcer.in_force {
        true => enforcer.enforcer.clone(),
        false => format!("{} NOT IN FORCE ({})", enforcer.enforcer, enforcer.reason),
    });
    states.collect::<Vec<_>>().join(", ")
}

fn as_json(status: &StatusResponse, list: &ListResponse) -> Value {
    let counters = &status.counters;
    let errors = list.errors.iter().map(|error| {
        json!({"source": error.source, "message": error.message, "lastGoodInForce": error.last_good_in_force})
    });
    let policies = list.policies.iter().map(|policy| {
        json!({
            "policy": policy_name(&policy.policy), "source": policy.source, "profile": policy.profile,
            "mode": policy.mode, "digest": policy.digest, "enforcers": enforcers_json(&policy.enforcers),
            "containers": policy.containers.iter().map(|container| &container.id).collect::<Vec<_>>(),
        })
    });
    let compositions = list.compositions.iter().map(|composition| {
        json!({
            "profile": composition.profile, "enforcers": enforcers_json(&composition.enforcers),
            "policies": composition.policies.iter().map(policy_name).collect::<Vec<_>>(),
            "containers": composition.containers.iter().map(|container| &container.id).collect::<Vec<_>>(),
        })
    });
    json!({
        "node": status.node, "version": status.version, "versions": status.versions, "uptimeSeconds": status.uptime_s,
        "runtimeConnected": status.runtime_connected, "settled": status.settled,
        "failurePolicy": status.failure_policy, "optInLabel": status.opt_in_label,
        "enforcers": status.enforcers.iter().map(|enforcer| json!({
            "enforcer": enforcer.enforcer, "available": enforcer.available, "reason": enforcer.reason,
        })).collect::<Vec<_>>(),
        "missing": status.missing_hooks.iter().map(|missing| json!({
            "name": missing.name, "consequence": missing.consequence,
        })).collect::<Vec<_>>(),
        "files": list.files.iter().map(|file| json!({
            "path": file.path, "seen": file.seen, "inForce": file.in_force, "error": file.error,
        })).collect::<Vec<_>>(),
        "policies": policies.collect::<Vec<_>>(),
        "compositions": compositions.collect::<Vec<_>>(),
        "errors": errors.collect::<Vec<_>>(),
        "containers": status.containers.iter().map(container_json).collect::<Vec<_>>(),
        "troubles": status.troubles,
        "counters": {
            "denied": counters.denied, "audited": counters.audited, "lost": counters.lost,
            "droppedForSubscribers": counters.dropped_for_subscribers, "internalFailures": counters.internal_failures,
            "policies": counters.policies, "containers": counters.containers,
            "protectedContainers": counters.protected_containers, "refusedContainers": counters.refused_containers,
            "runtimeConnections": counters.runtime_connections,
        },
    })
}

fn as_text(status: &StatusResponse, list: &ListResponse) -> String {
    let yes = |yes: bool| if yes { "yes" } else { "no" };
    let mut lines = vec![format!(
        "node {}, varmor-nri {}; runtime connected: {}; settled: {}; failure policy {}",
        status.node,
        status.version,
        yes(status.runtime_connected),
        yes(status.settled),
        status.failure_policy
    )];
    for enforcer in &status.enforcers {
        let state = if enforcer.available {
            "available"
        } else {
            &enforcer.reason
        };
        lines.push(format!("enforcer {}: {state}", enforcer.enforcer));
    }
    for missing in &status.missing_hooks {
        lines.push(format!(
            "not on this kernel: {} ({})",
            missing.consequence, missing.name
        ));
    }
    for policy in &list.policies {
        lines.push(format!(
            "policy {} from {}: {} as {}, {} containers",
            title(&policy.policy),
            policy.source,
            enforcers_text(&policy.enforcers),
            policy.profile,
            policy.containers.len()
        ));
    }
    for composition in &list.compositions {
        lines.push(format!(
            "together {}: {} as {}, {} containers",
            titles(&composition.policies),
            enforcers_text(&composition.enforcers),
            composition.profile,
            composition.containers.len()
        ));
    }
    for container in &status.containers {
        let policy = holding(container);
        let name = format!(
            "{}/{}/{}",
            container.namespace, container.pod, container.name
        );
        lines.push(format!(
            "container {name} ({:.12}, {}): {policy}",
            container.id, container.state
        ));
        lines.extend(
            container
                .shortfalls
                .iter()
                .map(|shortfall| format!("  {shortfall}")),
        );
    }
    for error in &list.errors {
        lines.push(format!("error: {}: {}", error.source, error.message));
    }
    lines.extend(
        status
            .troubles
            .iter()
            .map(|trouble| format!("error: {trouble}")),
    );
    lines.push(format!(
        "violations: {} denied, {} audited, {} lost; {} containers refused",
        status.counters.denied,
        status.counters.audited,
        status.counters.lost,
        status.counters.refused_containers
    ));
    lines.join("\n") + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;
    use varmor_node_api::api::{CompositionStatus, PolicyStatus};

    #[test]
    fn policies_that_hold_together_are_shown_together() {
        let reference = |kind: &str, namespace: &str, name: &str| PolicyRef {
            kind: kind.into(),
            namespace: namespace.into(),
            name: name.into(),
            ..Default::default()
        };
        let policies = vec![
            reference("VarmorClusterPolicy", "", "all"),
            reference("VarmorPolicy", "demo", "p"),
        ];
        let mut bpf = EnforcerState::new();
        (bpf.enforcer, bpf.in_force) = ("BPF".into(), true);
        let mut container = ContainerStatus::new();
        (container.id, container.namespace) = ("abc".into(), "demo".into());
        container.policy = Some(policies[0].clone()).into();
        container.policies.clone_from(&policies);
        let mut composition = CompositionStatus::new();
        composition.profile = "varmor-merged-0123456789abcdef".into();
        composition.policies = policies;
        composition.enforcers.push(bpf);
        composition.containers.push(container.clone());
        let status = StatusResponse {
            containers: vec![container],
            ..Default::default()
        };
        let list = ListResponse {
            compositions: vec![composition],
            ..Default::default()
        };
        let text = as_text(&status, &list);
        for line in [
            "together VarmorClusterPolicy all merged with VarmorPolicy demo/p: BPF as varmor-merged-0123456789abcdef, 1 containers",
            "): VarmorClusterPolicy all merged with VarmorPolicy demo/p\n",
        ] {
            assert!(text.contains(line), "{text}");
        }
        let json = as_json(&status, &list);
        assert_eq!(json["compositions"][0]["policies"][1]["name"], "p");
        assert_eq!(json["compositions"][0]["containers"][0], "abc");
        assert_eq!(json["containers"][0]["policies"][0]["name"], "all");
    }

    #[test]
    fn people_read_names_and_reasons() {
        let mut reference = PolicyRef::new();
        (reference.kind, reference.namespace, reference.name) =
            ("VarmorPolicy".into(), "demo".into(), "p".into());
        let mut bpf = EnforcerState::new();
        (bpf.enforcer, bpf.reason) = ("BPF".into(), "no BPF LSM".into());
        let mut policy = PolicyStatus::new();
        policy.policy = Some(reference.clone()).into();
        (policy.source, policy.profile) = ("/d/p.yaml".into(), "varmor-demo-p".into());
        policy.enforcers.push(bpf);
        let mut container = ContainerStatus::new();
        (container.namespace, container.pod, container.name) =
            ("demo".into(), "web".into(), "c1".into());
        container.policy = Some(reference).into();
        container.shortfalls.push("BPF: no BPF LSM".into());
        let status = StatusResponse {
            containers: vec![container],
            ..Default::default()
        };
        let list = ListResponse {
            policies: vec![policy],
            ..Default::default()
        };
        let text = as_text(&status, &list);
        for line in [
            "policy VarmorPolicy demo/p from /d/p.yaml: BPF NOT IN FORCE (no BPF LSM) as varmor-demo-p, 0 containers",
            ": VarmorPolicy demo/p\n  BPF: no BPF LSM\n",
        ] {
            assert!(text.contains(line), "{text}");
        }
        assert_eq!(
            as_json(&status, &list)["policies"][0]["enforcers"][0]["reason"],
            "no BPF LSM"
        );
    }
}
