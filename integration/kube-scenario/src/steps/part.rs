// SPDX-License-Identifier: Apache-2.0
//! `part`: a part of the bed is killed, started, stopped, paused or continued: see integration/kube/part.

use std::collections::BTreeMap;

use anyhow::{Result, bail};
use serde_yaml::Value;

use super::{Kind, within};
use crate::bed::{Answer, Bed};
use crate::run::Context;

/// The leader among the controllers, whichever that is.
const LEADER: &str = "leader";
/// The node itself.
const NODE: &str = "node";
/// An emulated node boots within this, in seconds.
const BOOT: f32 = 240.0;
/// The controllers; those that do not run, to start them.
const CONTROLLERS: &str = "controllers";
/// The newer version of EndpointSlices: see integration/kube/discovery-v1.
const DISCOVERY_V1: &str = "discovery-v1";
/// A killed API server must be back before anything else makes sense.
const API_SERVER: &str = "kube-apiserver";
const IN_NODE: [&str; 3] = ["varmor-nri", "policy-sync", "kubelet"];

struct Part {
    action: String,
    name: String,
}

/// Reads the step: ACTION: NAME.
pub fn read(value: Value) -> Result<(Box<dyn Kind>, String)> {
    let mut actions: BTreeMap<String, String> = super::fields(value)?;
    let Some((action, name)) = actions.pop_first() else {
        bail!("write an action and a part, such as `kill: policy-sync`");
    };
    if !actions.is_empty() {
        bail!("one action a step");
    }
    if !["start", "stop", "kill", "pause", "continue"].contains(&action.as_str()) {
        bail!("{action}: write start, stop, kill, pause or continue");
    }
    let said = format!("{action} {name}");
    Ok((Box::new(Part { action, name }), said))
}

impl Kind for Part {
    fn run(&self, context: &mut Context) -> Result<String> {
        let Self { action, name } = self;
        let answer = match name.as_str() {
            "containerd" => context.bed.in_node(match action.as_str() {
                "kill" => "containerd-down KILL",
                "stop" => "containerd-down TERM",
                "start" => "BASE_SPEC=/run/base-spec.json containerd-up 2.1",
                _ => bail!("containerd can be killed, stopped and started"),
            }),
            name if IN_NODE.contains(&name) => context
                .bed
                .in_node(&format!("/share/service {action} {name}")),
            NODE => {
                if action != "kill" {
                    bail!("{NODE} can be killed, which is a power cut, and boots again");
                }
                reboot(context.bed)?
            }
            LEADER => {
                let lease =
                    context
                        .bed
                        .get(&["--namespace", "varmor", "lease", "varmor-policy-sync"])?;
                let Some(leader) = lease["spec"]["holderIdentity"]
                    .as_str()
                    .filter(|name| !name.is_empty())
                else {
                    bail!("nobody leads");
                };
                context.bed.part(action, leader)
            }
            CONTROLLERS if action == "start" => {
                // One of them runs already.
                let answers =
                    ["controller-a", "controller-b"].map(|name| context.bed.part(action, name));
                let [first, second] = answers;
                if first.status == 0 { first } else { second }
            }
            DISCOVERY_V1 => context.bed.discovery_v1(action),
            name => context.bed.part(action, name),
        };
        answer.output(&format!("{action} {name}"))?;
        if (action.as_str(), name.as_str()) == ("start", API_SERVER) {
            // Both servers: its own, and that of the CRDs behind it.
            within(60.0, || {
                context
                    .kubectl(&["get", "--raw", "/readyz"])
                    .output("the API server")?;
                context
                    .kubectl(&["get", "varmorpolicies"])
                    .output("the CRD server")
            })?;
        }
        Ok(String::new())
    }
}

/// Resets the node, whatever it is at, and waits until its programs are started.
fn reboot(bed: &Bed) -> Result<Answer> {
    bed.in_node("rm -f /share/ready; (sleep 0.5; echo b > /proc/sysrq-trigger) > /dev/null 2>&1 &")
        .output("the node's reset")?;
    within(BOOT, || {
        if !bed.path("share/ready").exists() {
            bail!("the node has not booted; see share/log");
        }
        Ok(())
    })?;
    Ok(Answer::default())
}
