// SPDX-License-Identifier: Apache-2.0
//! What the reader sees: a line per step as it happens, and a table at the end.

use std::time::{Duration, Instant};

use serde_json::Value;

use super::cri::Output;
use super::verdict::Got;
use crate::format::{Expect, Scenario, Step, Violations};

/// What came of a step.
pub struct Outcome {
    /// The verdict, when there was one.
    pub got: Got,
    /// Exit status and text of what ran, or the runtime's error as standard error.
    pub output: Output,
    /// Records of the container that the step caused.
    pub records: Vec<Value>,
    /// Everything that is not as expected, beside the verdict.
    pub complaints: Vec<String>,
}

impl Outcome {
    /// Something other than a line in a shell: it worked, or it did not and this is why.
    pub fn of(result: Result<(), String>) -> Self {
        let (got, status, stderr) = match result {
            Ok(()) => (Got::Allowed, 0, String::new()),
            Err(text) => (Got::Denied, 1, text),
        };
        let output = Output {
            status,
            stdout: String::new(),
            stderr,
        };
        Self {
            got,
            output,
            records: Vec::new(),
            complaints: Vec::new(),
        }
    }

    /// Whether the step is as it should be.
    pub fn fits(&self, step: &Step) -> bool {
        self.got.is(step.expect) && self.complaints.is_empty()
    }
}

struct Row {
    name: String,
    passed: usize,
    failed: usize,
    left_out: Vec<String>,
    took: Duration,
}

/// Collects and prints.
pub struct Report {
    rows: Vec<Row>,
    started: Instant,
    baseline: bool,
}

impl Report {
    /// Of nothing yet. A baseline judges nothing.
    pub fn new(baseline: bool) -> Self {
        Self {
            rows: Vec::new(),
            started: Instant::now(),
            baseline,
        }
    }

    /// A scenario begins.
    pub fn scenario(&mut self, scenario: &Scenario, name: &str) {
        self.started = Instant::now();
        println!(
            "{name}: {}",
            scenario.description.lines().next().unwrap_or_default()
        );
        self.rows.push(Row {
            name: name.to_string(),
            passed: 0,
            failed: 0,
            left_out: Vec::new(),
            took: Duration::ZERO,
        });
    }

    fn row(&mut self) -> &mut Row {
        self.rows.last_mut().expect("a scenario was announced")
    }

    /// A step, or a whole scenario, is not tried here.
    pub fn left_out(&mut self, what: &str, why: &str) {
        println!("  --    {what}: {why}");
        self.row().left_out.push(format!("{what}: {why}"));
    }

    /// A step was done.
    pub fn step(&mut self, step: &Step, outcome: &Outcome, took: Duration) {
        let title = format!(
            "{:>3} {} ({:.1} s)",
            step.line,
            step.title(),
            took.as_secs_f64()
        );
        if self.baseline {
            let note = if outcome.got == Got::Denied && step.expect == Expect::Denied {
                "  <- refused anyway"
            } else {
                ""
            };
            println!(
                "  {:<8}{title}{note}",
                format!("{:?}", outcome.got).to_lowercase()
            );
            if outcome.got == Got::Failed || !note.is_empty() {
                print_text("stderr", &outcome.output.stderr);
            }
            return;
        }
        if outcome.fits(step) {
            println!("  ok    {title}");
            self.row().passed += 1;
            return;
        }
        println!("  FAIL  {title}");
        self.row().failed += 1;
        println!("        expected  {}", expectation(step));
        let status = outcome.output.status;
        println!(
            "        got       {} (exit status {status})",
            format!("{:?}", outcome.got).to_lowercase()
        );
        for complaint in &outcome.complaints {
            println!("        but       {complaint}");
        }
        print_text("stdout", &outcome.output.stdout);
        print_text("stderr", &outcome.output.stderr);
        for record in &outcome.records {
            println!("        record    {record}");
        }
    }

    /// Something broke off that is no verdict.
    pub fn broken(&mut self, what: &str, error: &anyhow::Error) {
        println!("  FAIL  {what}: {error:#}");
        self.row().failed += 1;
    }

    /// The scenario is over.
    pub fn end(&mut self) {
        let took = self.started.elapsed();
        self.row().took = took;
    }

    /// Prints the table; true when nothing failed.
    pub fn table(&self) -> bool {
        let width = self
            .rows
            .iter()
            .map(|row| row.name.len())
            .max()
            .unwrap_or(0)
            .max(8);
        println!(
            "\n{:<width$}  {:>6} {:>6} {:>8} {:>8}",
            "scenario", "ok", "failed", "left out", "seconds"
        );
        for row in &self.rows {
            println!(
                "{:<width$}  {:>6} {:>6} {:>8} {:>8.1}",
                row.name,
                row.passed,
                row.failed,
                row.left_out.len(),
                row.took.as_secs_f64()
            );
            for left_out in &row.left_out {
                println!("{:<width$}    {left_out}", "");
            }
        }
        let failed: usize = self.rows.iter().map(|row| row.failed).sum();
        let passed: usize = self.rows.iter().map(|row| row.passed).sum();
        println!(
            "{} scenarios, {passed} steps as expected, {failed} not",
            self.rows.len()
        );
        failed == 0
    }
}

fn expectation(step: &Step) -> String {
    let mut text = match step.expect {
        Expect::Denied => "denied".to_string(),
        Expect::Allowed => "allowed".to_string(),
    };
    for (name, wanted) in [
        ("error", &step.error),
        ("stdout", &step.stdout),
        ("stderr", &step.stderr),
    ] {
        if let Some(wanted) = wanted {
            text.push_str(&format!(", {name} with {wanted:?}"));
        }
    }
    match &step.violations {
        Violations::Unchecked => {}
        Violations::None => text.push_str(", no violation record"),
        Violations::Some(wanted) => text.push_str(&format!(", records {wanted:?}")),
    }
    text
}

fn print_text(name: &str, text: &str) {
    for (index, line) in text.lines().take(20).enumerate() {
        println!("        {:<9} {line}", if index == 0 { name } else { "" });
    }
}
