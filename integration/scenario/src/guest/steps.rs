// SPDX-License-Identifier: Apache-2.0
//! Doing what a step says.

use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use tokio::process::Command;

use super::cri::{Client, Output, Refused};
use super::node::{Containerd, Daemon, VIOLATIONS, in_force};
use super::pods::{CONTAINERS, Pods};
use super::policies::Policies;
use super::records::Records;
use super::report::Outcome;
use super::verdict::Got;
use crate::format::{
    Action, ContainerName, Pod, Policy, Scenario, Service, Signal, Step, Violations,
};

/// The node as a scenario sees it.
pub struct Node {
    containerd: Containerd,
    /// None in a baseline.
    daemon: Option<Daemon>,
    client: Client,
    pods: Pods,
    policies: Policies,
    records: Records,
    repeat: Option<u32>,
}

impl Node {
    /// With everything started and nothing applied.
    pub fn new(
        containerd: Containerd,
        daemon: Option<Daemon>,
        client: Client,
        repeat: Option<u32>,
    ) -> Self {
        let (pods, policies, records) = (
            Pods::new(client.clone()),
            Policies::default(),
            Records::new(VIOLATIONS),
        );
        Self {
            containerd,
            daemon,
            client,
            pods,
            policies,
            records,
            repeat,
        }
    }

    /// Everything before the first step: the daemon with its flags, the policies, the pods.
    pub async fn prepare(&mut self, scenario: &Scenario) -> Result<()> {
        if let Some(daemon) = &mut self.daemon {
            daemon.with_flags(&scenario.daemon_flags).await?;
        }
        for policy in &scenario.policies {
            if let Err(text) = self.apply(policy).await? {
                bail!("{} was refused: {text}", policy.reference());
            }
        }
        for pod in scenario.pods.iter().filter(|pod| pod.autostart) {
            if let Err(Refused(text)) = self.pods.start(pod, None).await? {
                bail!("pod {} did not start: {text}", pod.name);
            }
        }
        Ok(())
    }

    /// Everything away again, also what a scenario that broke off left behind.
    pub async fn clean(&mut self) -> Result<()> {
        if let Some(daemon) = &mut self.daemon
            && !daemon.answers()
        {
            // A daemon that is stopped would keep every call to the runtime waiting.
            let stopped = daemon.alive();
            daemon
                .signal(if stopped {
                    Signal::Continue
                } else {
                    Signal::Start
                })
                .await?;
        }
        let removed = self.pods.remove_all().await;
        self.policies.clear()?;
        if let Some(daemon) = &mut self.daemon {
            daemon.ready().await?;
            if let Err(text) = in_force().await? {
                bail!("the daemon does not take the empty folder: {text}");
            }
        }
        removed
    }

    /// One step.
    pub async fn step(&mut self, scenario: &Scenario, step: &Step) -> Result<Outcome> {
        if step.violations != Violations::Unchecked {
            self.records.skip()?;
        }
        let mut outcome = match &step.action {
            Action::Run {
                container: Some(name),
                line,
            } => self.run_in(name, line, step).await?,
            Action::Run {
                container: None,
                line,
            } => judged(on_node(line, step.timeout).await?),
            Action::Apply(policy) => Outcome::of(self.apply(policy).await?),
            Action::Delete(reference) => Outcome::of(self.delete(reference).await?),
            Action::Start {
                pod,
                exits,
                repeat,
                kill_daemon_after,
            } => {
                let pod = find(scenario, pod)?;
                let times = if *repeat > 1 {
                    self.repeat.unwrap_or(*repeat)
                } else {
                    1
                };
                self.start(pod, exits.as_deref(), times, *kill_daemon_after, step)
                    .await?
            }
            Action::Remove(pod) => Outcome::of(
                self.pods
                    .remove(pod)
                    .await
                    .map_err(|error| format!("{error:#}")),
            ),
            Action::Service(service, signal) => {
                self.service(*service, *signal).await?;
                Outcome::of(Ok(()))
            }
        };
        for (stream, text, wanted) in [
            ("stdout", &outcome.output.stdout, &step.stdout),
            ("stderr", &outcome.output.stderr, &step.stderr),
            ("the error", &outcome.output.stderr, &step.error),
        ] {
            if let Some(wanted) = wanted
                && !text.contains(wanted.as_str())
            {
                outcome
                    .complaints
                    .push(format!("{stream} does not say {wanted:?}"));
            }
        }
        Ok(outcome)
    }

    async fn run_in(&mut self, name: &ContainerName, line: &str, step: &Step) -> Result<Outcome> {
        let id = self.pods.id(name)?;
        let outcome = judged(self.pods.exec(name, line, step.timeout).await?);
        self.with_records(outcome, &id, step).await
    }

    async fn with_records(
        &mut self,
        mut outcome: Outcome,
        id: &str,
        step: &Step,
    ) -> Result<Outcome> {
        if self.daemon.is_some() {
            let (records, complaint) = self.records.judge(id, &step.violations).await?;
            outcome.records = records;
            outcome.complaints.extend(complaint);
        }
        Ok(outcome)
    }

    async fn start(
        &mut self,
        pod: &Pod,
        exits: Option<&str>,
        times: u32,
        kill_daemon_after: Option<Duration>,
        step: &Step,
    ) -> Result<Outcome> {
        let mut outcome = Outcome::of(Ok(()));
        for time in 1..=times {
            let (pods, daemon) = (&mut self.pods, &mut self.daemon);
            let started = pods.start(pod, exits);
            let started = match (kill_daemon_after, daemon) {
                (Some(after), Some(daemon)) => {
                    let killed = async {
                        tokio::time::sleep(after).await;
                        daemon.kill()
                    };
                    let (started, killed) = tokio::join!(started, killed);
                    killed?;
                    started?
                }
                _ => started.await?,
            };
            outcome = match (started, exits) {
                (Ok(()), Some(container)) => {
                    let output = self.pods.wait(&pod.name, container, step.timeout).await?;
                    let name = ContainerName {
                        namespace: pod.namespace.clone(),
                        pod: pod.name.clone(),
                        container: container.to_string(),
                    };
                    let id = self.pods.id(&name)?;
                    self.with_records(judged(output), &id, step).await?
                }
                (started, _) => Outcome::of(started.map_err(|Refused(text)| text)),
            };
            if !outcome.fits(step) {
                if times > 1 {
                    outcome
                        .complaints
                        .push(format!("that was start {time} of {times}"));
                }
                break;
            }
        }
        Ok(outcome)
    }

    async fn service(&mut self, service: Service, signal: Signal) -> Result<()> {
        match (service, &mut self.daemon) {
            (Service::Containerd, daemon) => {
                self.containerd.signal(signal)?;
                if matches!(signal, Signal::Restart | Signal::Start | Signal::Continue) {
                    let ready = self.client.ready().await;
                    ready.map_err(|Refused(text)| anyhow!("containerd does not answer: {text}"))?;
                }
                match daemon {
                    Some(daemon) if daemon.answers() && signal != Signal::Kill => {
                        daemon.ready().await
                    }
                    _ => Ok(()),
                }
            }
            (Service::Daemon, Some(daemon)) => daemon.signal(signal).await,
            (Service::Daemon, None) => Ok(()),
        }
    }

    /// Without a daemon that could answer, the folder is left for the next one.
    async fn in_force(&self) -> Result<Result<(), String>> {
        match &self.daemon {
            Some(daemon) if daemon.answers() => in_force().await,
            _ => Ok(Ok(())),
        }
    }

    async fn apply(&mut self, policy: &Policy) -> Result<Result<(), String>> {
        if self.daemon.is_none() {
            return Ok(Ok(()));
        }
        self.policies.write(policy)?;
        self.in_force().await
    }

    async fn delete(&mut self, reference: &str) -> Result<Result<(), String>> {
        if self.daemon.is_none() {
            return Ok(Ok(()));
        }
        self.policies.delete(reference)?;
        self.in_force().await
    }
}

fn find<'a>(scenario: &'a Scenario, name: &str) -> Result<&'a Pod> {
    scenario
        .pods
        .iter()
        .find(|pod| pod.name == name)
        .ok_or_else(|| anyhow!("no pod {name:?}"))
}

fn judged(output: Output) -> Outcome {
    Outcome {
        got: Got::of(&output),
        output,
        records: Vec::new(),
        complaints: Vec::new(),
    }
}

/// A line for the node's shell.
async fn on_node(line: &str, timeout: Duration) -> Result<Output> {
    let child = Command::new("/bin/sh")
        .args(["-c", line])
        .env("CONTAINERS", CONTAINERS)
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = tokio::time::timeout(timeout, child)
        .await
        .map_err(|_| anyhow!("the line did not end within {} s", timeout.as_secs()))?
        .context("the node's shell")?;
    Ok(Output {
        status: output.status.code().unwrap_or(128),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    })
}
