// SPDX-License-Identifier: Apache-2.0
//! AppArmor and BPF: the workloads run all the time, and their policy changes from case to case.

use std::time::Instant;

use anyhow::Result;
use serde_json::{Value, json};
use varmor_scenario::format::Pod;

use super::containers::{Workload, Workloads};
use super::daemon::Policies;
use super::events::{Events, Reporter, Said};
use super::{NAMESPACE, object};
use crate::case::{Action, Case};
use crate::enforcer::Enforcer;
use crate::outcome::Outcome;

/// Runs the cases of one column.
pub async fn run(
    enforcer: Enforcer,
    cases: &[&Case],
    pods: &[Pod],
    kernel: &str,
) -> Result<Vec<Outcome>> {
    if cases.is_empty() {
        return Ok(Vec::new());
    }
    let policies = Policies::connect().await?;
    let used: Vec<&Pod> = pods
        .iter()
        .filter(|pod| cases.iter().any(|case| case.pod == pod.name))
        .collect();
    // A container gets its AppArmor profile when it is made; what is in the profile changes later.
    let at_first: Vec<Value> = match enforcer {
        Enforcer::AppArmor => used
            .iter()
            .map(|pod| {
                let policy = json!({"enforcer": enforcer.name(), "mode": "AlwaysAllow"});
                object(&pod.name, &pod.name, None, &policy)
            })
            .collect(),
        _ => Vec::new(),
    };
    policies.become_all(&at_first).await?;
    let began = Instant::now();
    let mut workloads = Workloads::new()?;
    for pod in used {
        workloads.start(pod).await?;
    }
    println!(
        "{enforcer}: workloads started in {:.0} s",
        began.elapsed().as_secs_f64()
    );

    let mut column = Column {
        enforcer,
        kernel,
        events: Events::collect()?,
    };
    let began = Instant::now();
    let mut outcomes = Vec::new();
    for case in cases {
        let mut outcome = Outcome::new(&case.name, enforcer);
        let workload = workloads.get(&case.pod, CONTAINER)?;
        column.without_policy(case, workload, &mut outcome)?;
        outcomes.push(outcome);
    }
    println!(
        "{enforcer}: everything tried without a policy in {:.0} s",
        began.elapsed().as_secs_f64()
    );
    for (case, outcome) in cases.iter().zip(&mut outcomes) {
        let began = Instant::now();
        let mut rounds = vec![(Said::Denied, case.policies[&enforcer].clone())];
        rounds.extend(
            case.observe_only(enforcer)
                .map(|policy| (Said::Audit, policy)),
        );
        for (said, policy) in rounds {
            let mut objects = vec![object(&case.pod, &case.pod, None, &policy)];
            for (index, beside) in case.beside.iter().enumerate() {
                let mut policy = beside.clone();
                policy["enforcer"] = enforcer.name().into();
                let name = format!("{}-{index}", case.pod);
                objects.push(object(&name, &case.pod, None, &policy));
            }
            // The other workloads keep what they had at first.
            objects.extend(
                at_first
                    .iter()
                    .filter(|object| object["metadata"]["name"] != case.pod)
                    .cloned(),
            );
            match (policies.become_all(&objects).await, &case.rejected) {
                (Ok(()), None) => {}
                (Ok(()), Some(text)) => {
                    let failure = format!("the policy must be refused with {text:?}");
                    outcome.failures.push(failure);
                    continue;
                }
                (Err(error), Some(text)) if format!("{error:#}").contains(text.as_str()) => {
                    outcome.rejected = true;
                    continue;
                }
                (Err(error), _) => {
                    outcome.failures.push(format!("{error:#}"));
                    continue;
                }
            }
            let workload = workloads.get(&case.pod, CONTAINER)?;
            column.round(case, said, workload, outcome)?;
        }
        report(outcome, began);
    }
    workloads.remove_all().await?;
    policies.become_all(&[]).await?;
    Ok(outcomes)
}

/// The container's name in every workload.
pub const CONTAINER: &str = "c1";

/// A line for the reader.
pub fn report(outcome: &Outcome, began: Instant) {
    println!(
        "{} {:<8} {}: {} refused, {} allowed, {} observed ({:.1} s)",
        if outcome.passed() { "  ok  " } else { "  FAIL" },
        outcome.enforcer,
        outcome.case,
        outcome.refused,
        outcome.allowed,
        outcome.observed,
        began.elapsed().as_secs_f64()
    );
    for failure in &outcome.failures {
        println!("         {failure}");
    }
}

/// One column at work.
pub struct Column<'a> {
    /// Whose.
    pub enforcer: Enforcer,
    /// Of the VM.
    pub kernel: &'a str,
    /// Of all enforcers.
    pub events: Events,
}

impl Column<'_> {
    fn tried<'c>(&self, actions: impl Iterator<Item = &'c Action>) -> Vec<&'c Action> {
        actions
            .filter(|action| action.conditions.why_not(self.kernel, "2.1").is_none())
            .collect()
    }

    /// Every action must work when nothing forbids it: else its refusal proves nothing.
    pub fn without_policy(
        &mut self,
        case: &Case,
        workload: &mut Workload,
        outcome: &mut Outcome,
    ) -> Result<()> {
        if let Err(error) = workload.prepare(&case.prepare) {
            outcome.failures.push(format!("{error:#}"));
        }
        for action in self.tried(case.actions()) {
            let output = workload.driver.run(&action.run)?;
            if let Some(complaint) = action.not_working(&output) {
                outcome.failures.push(format!(
                    "{}: fails without a policy: {complaint}",
                    action.run
                ));
            }
        }
        Ok(())
    }

    /// One policy: with `Denied` the actions that it is about must be refused, with `Audit` let through.
    pub fn round(
        &mut self,
        case: &Case,
        said: Said,
        workload: &mut Workload,
        outcome: &mut Outcome,
    ) -> Result<()> {
        if let Err(error) = workload.prepare(&case.prepare) {
            outcome.failures.push(format!("{error:#}"));
            return Ok(());
        }
        self.events.forget()?;
        let (refused, allowed): (Vec<_>, Vec<_>) = self
            .tried(case.refused.iter().chain(&case.allowed))
            .into_iter()
            .partition(|action| action.is_refused(self.enforcer, self.kernel));
        // Neighbours first: a report of one of them then comes before the first one that is due.
        if said == Said::Denied {
            for action in allowed {
                let output = workload.driver.run(&action.run)?;
                match action.not_working(&output) {
                    None => outcome.allowed += 1,
                    Some(complaint) => outcome
                        .failures
                        .push(format!("{}: must be allowed: {complaint}", action.run)),
                }
            }
        }
        let due: Vec<(&Action, Said)> = match said {
            Said::Denied => refused
                .into_iter()
                .map(|action| (action, Said::Denied))
                .chain(
                    self.tried(case.observed.iter())
                        .into_iter()
                        .map(|action| (action, Said::Audit)),
                )
                .collect(),
            Said::Audit => refused
                .into_iter()
                .map(|action| (action, Said::Audit))
                .collect(),
        };
        let mut first = true;
        for (action, expected) in due {
            let output = workload.driver.run(&action.run)?;
            let complaint = match expected {
                Said::Denied => action.not_refused(&output, self.enforcer, self.kernel),
                Said::Audit => action
                    .not_working(&output)
                    .map(|ending| format!("must be let through: {ending}")),
            };
            match (complaint, expected) {
                (Some(complaint), _) => {
                    let failure = format!("{}: {complaint}", action.run);
                    outcome.failures.push(failure);
                    continue;
                }
                (None, Said::Denied) => outcome.refused += 1,
                (None, Said::Audit) => outcome.observed += 1,
            }
            self.expect(action, expected, workload, first, case, outcome)?;
            first = false;
        }
        Ok(())
    }

    fn expect(
        &mut self,
        action: &Action,
        expected: Said,
        workload: &Workload,
        first: bool,
        case: &Case,
        outcome: &mut Outcome,
    ) -> Result<()> {
        // A filter that refuses reports nothing.
        if self.enforcer == Enforcer::Seccomp && expected == Said::Denied {
            return Ok(());
        }
        let profile = format!("varmor-{NAMESPACE}-{}", case.pod);
        let reporter = Reporter {
            enforcer: self.enforcer,
            container: &workload.id,
            profile: &profile,
        };
        let event = action.event(self.enforcer, self.kernel);
        let (complaint, stray) = self.events.expect(&reporter, expected, event)?;
        match complaint {
            Some(complaint) => outcome
                .failures
                .push(format!("{}: {complaint}", action.run)),
            None => outcome.reported += usize::from(!matches!(event, crate::case::Event::None)),
        }
        if first && !stray.is_empty() {
            outcome
                .failures
                .push(format!("reports of what is allowed: {}", stray.join(" / ")));
        }
        Ok(())
    }
}
