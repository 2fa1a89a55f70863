// SPDX-License-Identifier: Apache-2.0
//! Runs one scenario.

use std::collections::BTreeMap;
use std::time::Instant;

use crate::bed::Bed;
use crate::scenario::Scenario;

/// What a scenario's steps share.
pub struct Context<'a> {
    /// The bed.
    pub bed: &'a Bed,
    /// The scenario's namespace.
    pub namespace: &'a str,
    /// Cluster policies that it has made, to be deleted in the end.
    pub cluster_policies: Vec<String>,
    /// Containers that were looked at, by what they were asked for.
    pub remembered: BTreeMap<String, Vec<String>>,
}

impl Context<'_> {
    /// kubectl in the scenario's namespace.
    pub fn kubectl(&self, arguments: &[&str]) -> crate::bed::Answer {
        let mut all = vec!["--namespace", self.namespace];
        all.extend(arguments);
        self.bed.kubectl(&all)
    }

    /// Objects in the scenario's namespace.
    pub fn get(&self, arguments: &[&str]) -> anyhow::Result<serde_json::Value> {
        let mut all = vec!["--namespace", self.namespace];
        all.extend(arguments);
        self.bed.get(&all)
    }
}

/// What a scenario came to.
#[derive(Default)]
pub struct Tally {
    /// Steps that were as expected.
    pub passed: usize,
    /// The others.
    pub failures: Vec<String>,
}

/// Runs a scenario in a namespace that it has for itself.
pub fn run(bed: &Bed, scenario: &Scenario, keep: bool) -> Tally {
    println!("\n== {}: {}", scenario.name, scenario.description);
    let mut tally = Tally::default();
    let mut context = Context {
        bed,
        namespace: &scenario.name,
        cluster_policies: Vec::new(),
        remembered: BTreeMap::new(),
    };
    let created = bed.kubectl(&["create", "namespace", &scenario.name]);
    if let Err(error) = created.output("the scenario's namespace") {
        tally.failures.push(format!("{error:#}"));
        println!("FAILED        {error:#}");
        return tally;
    }
    for step in &scenario.steps {
        let began = Instant::now();
        let result = step.kind.run(&mut context);
        let took = began.elapsed().as_secs_f32();
        match result {
            Ok(note) => {
                tally.passed += 1;
                let note = if note.is_empty() {
                    note
                } else {
                    format!(" ({note})")
                };
                println!("ok      {took:4.1} s  {}{note}", step.name);
            }
            Err(error) => {
                println!("FAILED  {took:4.1} s  {}: {error:#}", step.name);
                tally.failures.push(format!("{}: {error:#}", step.name));
                // What comes after a step that prepares something would say nothing.
                if step.kind.is_needed() {
                    break;
                }
            }
        }
    }
    if !keep || tally.failures.is_empty() {
        for policy in &context.cluster_policies {
            bed.kubectl(&[
                "delete",
                "varmorclusterpolicy",
                policy,
                "--ignore-not-found",
                "--wait=false",
            ]);
        }
        // Gone when the next scenario begins: its pods would make that one slower.
        let gone = bed.kubectl(&["delete", "namespace", &scenario.name, "--timeout=90s"]);
        if let Err(error) = gone.output("the namespace's end") {
            println!("FAILED        {error:#}");
            tally.failures.push(format!("{error:#}"));
        }
    }
    tally
}
