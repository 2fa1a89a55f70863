// SPDX-License-Identifier: Apache-2.0
//! Steps: what is done, and what is expected of it.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use super::{Pod, Policy};

/// A step as serde sees it: every field of every kind of step.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Raw {
    name: Option<String>,
    r#in: Option<String>,
    run: Option<String>,
    apply: Option<serde_yaml::Value>,
    delete: Option<String>,
    start: Option<String>,
    remove: Option<String>,
    restart: Option<Service>,
    kill: Option<Service>,
    stop: Option<Service>,
    r#continue: Option<Service>,
    expect: Option<Expect>,
    error: Option<String>,
    stdout: Option<String>,
    stderr: Option<String>,
    violation: Option<serde_yaml::Value>,
    exits: Option<String>,
    repeat: Option<u32>,
    kill_daemon_after: Option<f64>,
    timeout: Option<u64>,
    kernels: Option<Vec<String>>,
    except_kernels: Option<Vec<String>>,
    containerd: Option<Vec<String>>,
    reason: Option<String>,
}

/// `kernels`, `except_kernels`, `containerd` and `reason` as they are written.
#[derive(Debug, Clone, Default)]
pub struct RawConditions {
    /// Only there.
    pub kernels: Option<Vec<String>>,
    /// Everywhere else.
    pub except_kernels: Option<Vec<String>>,
    /// Only with these.
    pub containerd: Option<Vec<String>>,
    /// Why.
    pub reason: Option<String>,
}

/// Where something is tried.
#[derive(Debug, Clone, Default)]
pub struct Conditions {
    kernels: Option<Vec<String>>,
    except_kernels: Vec<String>,
    containerd: Option<Vec<String>>,
    reason: String,
}

/// The kernels that there is a test VM for.
pub const KERNELS: &[&str] = &["5.10", "6.1", "6.12", "7.2"];
const CONTAINERDS: &[&str] = &["1.7", "2.1"];

impl Conditions {
    /// Checks the names, and that a reason is given.
    pub fn read(raw: RawConditions) -> Result<Self> {
        let known = |names: &Option<Vec<String>>, known: &[&str], field: &str| match names {
            Some(names) => match names.iter().find(|name| !known.contains(&name.as_str())) {
                Some(name) => bail!("{field}: unknown {name:?}; there are {}", known.join(", ")),
                None => Ok(()),
            },
            None => Ok(()),
        };
        known(&raw.kernels, KERNELS, "kernels")?;
        known(&raw.except_kernels, KERNELS, "except_kernels")?;
        known(&raw.containerd, CONTAINERDS, "containerd")?;
        if raw.kernels.is_some() && raw.except_kernels.is_some() {
            bail!("kernels and except_kernels can't both be given");
        }
        let limited =
            raw.kernels.is_some() || raw.except_kernels.is_some() || raw.containerd.is_some();
        match (limited, raw.reason) {
            (true, None) => bail!("what is not tried everywhere needs a `reason`"),
            (false, Some(_)) => bail!("`reason` belongs to kernels, except_kernels or containerd"),
            (_, reason) => Ok(Self {
                kernels: raw.kernels,
                except_kernels: raw.except_kernels.unwrap_or_default(),
                containerd: raw.containerd,
                reason: reason.unwrap_or_default(),
            }),
        }
    }

    /// Why this is not tried here; `None` when it is.
    pub fn why_not(&self, kernel: &str, containerd: &str) -> Option<String> {
        let is = |name: &String| name == kernel;
        if self
            .kernels
            .as_ref()
            .is_some_and(|names| !names.iter().any(is))
            || self.except_kernels.iter().any(is)
        {
            return Some(format!("not on this kernel: {}", self.reason));
        }
        if self
            .containerd
            .as_ref()
            .is_some_and(|names| !names.iter().any(|name| name == containerd))
        {
            return Some(format!("not with this containerd: {}", self.reason));
        }
        None
    }
}

/// The two verdicts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Expect {
    /// It failed, with EPERM or EACCES.
    Denied,
    /// It succeeded.
    Allowed,
}

/// A program of the node that steps handle.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Service {
    /// varmor-nri.
    Daemon,
    /// containerd.
    Containerd,
}

/// What a service gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// Asked to end, then started again.
    Restart,
    /// SIGKILL; stays away until a `start`.
    Kill,
    /// SIGSTOP.
    Stop,
    /// SIGCONT.
    Continue,
    /// Started, when it is not there.
    Start,
}

/// `namespace/pod/container`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ContainerName {
    /// The pod's namespace.
    pub namespace: String,
    /// The pod.
    pub pod: String,
    /// The container.
    pub container: String,
}

impl std::fmt::Display for ContainerName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}/{}", self.namespace, self.pod, self.container)
    }
}

impl ContainerName {
    fn read(text: &str, pods: &[Pod]) -> Result<Self> {
        let parts: Vec<_> = text.split('/').collect();
        let [namespace, pod, container] = parts[..] else {
            bail!("in: {text:?} is neither `host` nor namespace/pod/container");
        };
        let found = pods.iter().any(|candidate| {
            candidate.name == pod
                && candidate.namespace == namespace
                && candidate
                    .all_containers()
                    .any(|candidate| candidate.name == container)
        });
        if !found {
            bail!("in: the scenario has no container {text:?}");
        }
        Ok(Self {
            namespace: namespace.into(),
            pod: pod.into(),
            container: container.into(),
        })
    }
}

/// Fields that a violation record must have. `enforcer` is its eventType, `path` its event.path (AppArmor: event.name); any
/// other key is looked up in the event, then in the record.
pub type Wanted = BTreeMap<String, String>;

/// What is expected in the violation log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Violations {
    /// Nothing is looked at.
    Unchecked,
    /// No record of that container.
    None,
    /// For each of these at least one record.
    Some(Vec<Wanted>),
}

impl Violations {
    fn read(value: Option<serde_yaml::Value>) -> Result<Self> {
        use serde_yaml::Value;
        let wanted = |value: Value| -> Result<Wanted> {
            let Value::Mapping(fields) = value else {
                bail!("violation: `none`, or fields and their values")
            };
            if fields.is_empty() {
                bail!("violation: needs a field at least");
            }
            fields
                .into_iter()
                .map(|(key, value)| Ok((scalar(&key)?, scalar(&value)?)))
                .collect::<Result<_>>()
        };
        Ok(match value {
            None => Self::Unchecked,
            Some(Value::String(word)) if word == "none" => Self::None,
            Some(Value::Sequence(list)) => {
                Self::Some(list.into_iter().map(wanted).collect::<Result<_>>()?)
            }
            Some(value) => Self::Some(vec![wanted(value)?]),
        })
    }
}

fn scalar(value: &serde_yaml::Value) -> Result<String> {
    use serde_yaml::Value;
    Ok(match value {
        Value::String(text) => text.clone(),
        Value::Number(number) => number.to_string(),
        Value::Bool(flag) => flag.to_string(),
        _ => bail!("violation: a key or value must be a word or a number"),
    })
}

/// What a step does.
#[derive(Debug)]
pub enum Action {
    /// A line for a container's shell, or the node's when there is no container.
    Run {
        /// Where; the node when absent.
        container: Option<ContainerName>,
        /// For `sh -c`.
        line: String,
    },
    /// A policy is written to the folder.
    Apply(Box<Policy>),
    /// A policy is taken away.
    Delete(String),
    /// A pod is started, in the place of one of that name that runs.
    Start {
        /// Its name.
        pod: String,
        /// Wait for this container's end, and judge its status and output instead of the start's.
        exits: Option<String>,
        /// So many times, each with the same verdict.
        repeat: u32,
        /// SIGKILL for the daemon so long after the start was asked for.
        kill_daemon_after: Option<Duration>,
    },
    /// A pod is removed.
    Remove(String),
    /// The daemon or containerd.
    Service(Service, Signal),
}

/// One step.
#[derive(Debug)]
pub struct Step {
    /// Where it stands in the file, from 1.
    pub line: usize,
    /// A text for the reader, instead of the action's own.
    pub name: Option<String>,
    /// What is done.
    pub action: Action,
    /// The verdict.
    pub expect: Expect,
    /// A text that the error of a refused start or policy must have in it.
    pub error: Option<String>,
    /// A text that standard output must have in it.
    pub stdout: Option<String>,
    /// A text that standard error must have in it.
    pub stderr: Option<String>,
    /// The records.
    pub violations: Violations,
    /// How long a `run` may take.
    pub timeout: Duration,
    /// Where it is tried.
    pub conditions: Conditions,
}

impl Step {
    /// Turns the fields into a step, when they make one.
    pub fn read(raw: Raw, line: usize, pods: &[Pod]) -> Result<Self> {
        let pod = |name: &str, field: &str| {
            if pods.iter().any(|pod| pod.name == name) {
                Ok(name.to_string())
            } else {
                bail!("{field}: the scenario has no pod {name:?}")
            }
        };
        let mut actions = Vec::new();
        if raw.run.is_some() || raw.r#in.is_some() {
            let (Some(place), Some(line)) = (&raw.r#in, raw.run) else {
                bail!("`in` and `run` go together")
            };
            let container = if place == "host" {
                None
            } else {
                Some(ContainerName::read(place, pods)?)
            };
            if raw.expect.is_none() {
                bail!("`run` needs `expect`: denied or allowed");
            }
            actions.push(Action::Run { container, line });
        }
        if let Some(object) = raw.apply {
            actions.push(Action::Apply(Box::new(
                Policy::read(object).context("apply")?,
            )));
        }
        if let Some(reference) = raw.delete {
            actions.push(Action::Delete(check_reference(reference)?));
        }
        let is_start = raw.start.is_some();
        match raw.start.as_deref() {
            Some("daemon") => actions.push(Action::Service(Service::Daemon, Signal::Start)),
            Some("containerd") => actions.push(Action::Service(Service::Containerd, Signal::Start)),
            Some(name) => actions.push(Action::Start {
                pod: pod(name, "start")?,
                exits: raw.exits.clone(),
                repeat: raw.repeat.unwrap_or(1),
                kill_daemon_after: match raw.kill_daemon_after {
                    Some(seconds) => {
                        Some(Duration::try_from_secs_f64(seconds).context("kill_daemon_after")?)
                    }
                    None => None,
                },
            }),
            None => {}
        }
        if let Some(name) = raw.remove {
            actions.push(Action::Remove(pod(&name, "remove")?));
        }
        let services = [
            (raw.restart, Signal::Restart),
            (raw.kill, Signal::Kill),
            (raw.stop, Signal::Stop),
            (raw.r#continue, Signal::Continue),
        ];
        for (service, signal) in services {
            if let Some(service) = service {
                actions.push(Action::Service(service, signal));
            }
        }
        let mut actions = actions.into_iter();
        let (Some(action), None) = (actions.next(), actions.next()) else {
            bail!(
                "a step does one of: run, apply, delete, start, remove, restart, kill, stop, continue"
            );
        };
        if let Action::Start {
            exits: Some(container),
            pod,
            ..
        } = &action
        {
            let known = pods.iter().find(|candidate| &candidate.name == pod);
            if !known.is_some_and(|pod| {
                pod.all_containers()
                    .any(|candidate| &candidate.name == container)
            }) {
                bail!("exits: pod {pod:?} has no container {container:?}");
            }
        }
        if !is_start
            && (raw.exits.is_some() || raw.repeat.is_some() || raw.kill_daemon_after.is_some())
        {
            bail!("exits, repeat and kill_daemon_after belong to `start`");
        }
        let violations = Violations::read(raw.violation)?;
        if violations != Violations::Unchecked {
            let judged = matches!(
                &action,
                Action::Run {
                    container: Some(_),
                    ..
                } | Action::Start { exits: Some(_), .. }
            );
            if !judged {
                bail!("violation: only for `run` in a container and for `start` with `exits`");
            }
        }
        Ok(Self {
            line,
            name: raw.name,
            action,
            expect: raw.expect.unwrap_or(Expect::Allowed),
            error: raw.error,
            stdout: raw.stdout,
            stderr: raw.stderr,
            violations,
            timeout: Duration::from_secs(raw.timeout.unwrap_or(30)),
            conditions: Conditions::read(RawConditions {
                kernels: raw.kernels,
                except_kernels: raw.except_kernels,
                containerd: raw.containerd,
                reason: raw.reason,
            })?,
        })
    }

    /// What the step is called in the report.
    pub fn title(&self) -> String {
        if let Some(name) = &self.name {
            return name.clone();
        }
        match &self.action {
            Action::Run {
                container: Some(container),
                line,
            } => format!("{container}: {line}"),
            Action::Run {
                container: None,
                line,
            } => format!("host: {line}"),
            Action::Apply(policy) => format!("apply {}", policy.reference()),
            Action::Delete(reference) => format!("delete {reference}"),
            Action::Start {
                pod,
                exits: Some(container),
                ..
            } => format!("start {pod}, the end of {container}"),
            Action::Start { pod, .. } => format!("start {pod}"),
            Action::Remove(pod) => format!("remove {pod}"),
            Action::Service(service, signal) => format!("{signal:?} {service:?}").to_lowercase(),
        }
    }
}

fn check_reference(reference: String) -> Result<String> {
    let parts: Vec<_> = reference.split('/').collect();
    match parts[..] {
        ["VarmorPolicy", _, _] | ["VarmorClusterPolicy", _] => Ok(reference),
        _ => bail!(
            "delete: {reference:?} is neither VarmorPolicy/namespace/name nor VarmorClusterPolicy/name"
        ),
    }
}
