// SPDX-License-Identifier: Apache-2.0
//! The matrix, for a terminal and as docs/conformance.md. The document has no times and no machine in it: the same verdicts give
//! the same text.

use std::collections::BTreeMap;
use std::fmt::Write;

use crate::case::{Case, Subject};
use crate::enforcer::Enforcer;
use crate::outcome::Outcome;

/// Everything that was run.
pub struct Tables<'a> {
    cases: &'a [Case],
    /// By kernel, in the order in which they ran.
    kernels: Vec<Table>,
}

/// One kernel.
struct Table {
    kernel: String,
    core: bool,
    cells: BTreeMap<(String, Enforcer), Outcome>,
}

impl<'a> Tables<'a> {
    /// Nothing yet.
    pub fn new(cases: &'a [Case]) -> Self {
        Self {
            cases,
            kernels: Vec::new(),
        }
    }

    /// Adds the outcomes of a boot.
    pub fn add(&mut self, kernel: &str, core: bool, outcomes: Vec<Outcome>) {
        let table = match self.kernels.iter_mut().find(|table| table.kernel == kernel) {
            Some(table) => {
                table.core |= core;
                table
            }
            None => {
                self.kernels.push(Table {
                    kernel: kernel.into(),
                    core,
                    cells: BTreeMap::new(),
                });
                self.kernels.last_mut().expect("one was pushed")
            }
        };
        for outcome in outcomes {
            table
                .cells
                .insert((outcome.case.clone(), outcome.enforcer), outcome);
        }
    }

    /// Whether nothing failed, and something was run.
    pub fn passed(&self) -> bool {
        let mut cells = self.kernels.iter().flat_map(|table| table.cells.values());
        self.kernels.iter().any(|table| !table.cells.is_empty()) && cells.all(Outcome::passed)
    }

    /// The table that has the most in it: the one to show in full.
    fn fullest(&self) -> Option<&Table> {
        self.kernels
            .iter()
            .filter(|table| !table.core)
            .max_by_key(|table| (table.kernel == "6.12", table.cells.len()))
    }
}

impl Table {
    fn cell(&self, case: &Case, enforcer: Enforcer) -> Option<&Outcome> {
        self.cells.get(&(case.name.clone(), enforcer))
    }

    /// Run as they should, run otherwise, and not run.
    fn counts(&self, enforcer: Enforcer) -> (usize, usize, usize) {
        let mut counts = (0, 0, 0);
        for cell in self.cells.values().filter(|cell| cell.enforcer == enforcer) {
            match (&cell.left_out, cell.passed()) {
                (Some(_), _) => counts.2 += 1,
                (None, true) => counts.0 += 1,
                (None, false) => counts.1 += 1,
            }
        }
        counts
    }
}

/// `4·2·4` are refused, allowed and observed.
fn figures(outcome: &Outcome) -> String {
    match (&outcome.left_out, outcome.passed()) {
        (Some(_), _) => "not here".into(),
        (None, false) => "FAILED".into(),
        (None, true) if outcome.rejected => "refused".into(),
        (None, true) => format!(
            "{}·{}·{}",
            outcome.refused, outcome.allowed, outcome.observed
        ),
    }
}

/// The matrix of every kernel, and what failed.
pub fn for_terminal(tables: &Tables<'_>) -> String {
    let mut text = String::new();
    for table in &tables.kernels {
        let width = tables
            .cases
            .iter()
            .map(|case| case.name.chars().count())
            .max()
            .unwrap_or(0);
        let _ = writeln!(
            text,
            "\nkernel {} ({}): refused·allowed·observed",
            table.kernel,
            if table.core { "core" } else { "everything" }
        );
        for case in tables.cases {
            let cells: Vec<_> = Enforcer::ALL
                .into_iter()
                .map(|enforcer| table.cell(case, enforcer).map_or(String::new(), figures))
                .collect();
            if cells.iter().any(|cell| !cell.is_empty()) {
                let _ = writeln!(
                    text,
                    "{:<width$}  {:>9} {:>9} {:>9}",
                    case.name, cells[0], cells[1], cells[2]
                );
            }
        }
    }
    for table in &tables.kernels {
        for outcome in table.cells.values().filter(|outcome| !outcome.passed()) {
            for failure in &outcome.failures {
                let _ = writeln!(
                    text,
                    "FAILED {} {} {}: {failure}",
                    table.kernel, outcome.enforcer, outcome.case
                );
            }
        }
        for enforcer in Enforcer::ALL {
            let (passed, failed, left_out) = table.counts(enforcer);
            let _ = writeln!(
                text,
                "kernel {} {enforcer:<8} {passed} as they should be, {failed} not, {left_out} not tried",
                table.kernel
            );
        }
    }
    text
}

const INTRODUCTION: &str = "\
# Conformance

Written by `make conformance`; edits are lost. Every built-in rule and every feature of custom rules is tried on a real kernel with
a real containerd: actions that must be refused, neighbours of them that must not be, and the reports. Each action is first seen to
work without a policy, so that its refusal is the policy's. The actions of a line are the same for all enforcers; where one of them
does otherwise, [the list below](#differences) says so.

`4·2·3` reads: 4 actions refused and, where the enforcer can report a refusal, reported; 2 neighbours not refused and not reported;
3 actions let through and reported, under `allowViolations` with `auditViolations` for a built-in rule, by the qualifier `audit` for
a custom one. `refused`: without an API server the policy is, with an error that says so. An empty cell: the enforcer does not claim
the rule.
";

/// docs/conformance.md.
pub fn document(tables: &Tables<'_>) -> String {
    let mut text = INTRODUCTION.to_string();
    if let Some(table) = tables.fullest() {
        let rules = |case: &&Case| matches!(case.subject, Subject::Rule(_));
        let _ = writeln!(text, "\n## Built-in rules, kernel {}\n", table.kernel);
        rows(&mut text, table, tables.cases.iter().filter(rules));
        let _ = writeln!(
            text,
            "\n## Custom rules and modes, kernel {}\n",
            table.kernel
        );
        rows(
            &mut text,
            table,
            tables.cases.iter().filter(|case| !rules(case)),
        );
    }
    kernels(&mut text, tables);
    text + &of_cases(tables.cases)
}

/// What the cases say without having been run: the end of the document.
pub fn of_cases(cases: &[Case]) -> String {
    let mut text = String::new();
    differences(&mut text, cases);
    unreachable(&mut text, cases);
    text
}

/// The document of an earlier run, with what the cases say now.
pub fn with_cases(document: &str, cases: &[Case]) -> String {
    let tables = document
        .find(DIFFERENCES)
        .map_or(document, |at| &document[..at]);
    format!("{tables}{}", of_cases(cases))
}

const DIFFERENCES: &str = "\n## Differences\n\n";

fn rows<'c>(text: &mut String, table: &Table, cases: impl Iterator<Item = &'c Case>) {
    text.push_str("| | AppArmor | BPF | seccomp |\n|---|---|---|---|\n");
    for case in cases {
        let _ = write!(text, "| {}", cell_text(&case.name));
        for enforcer in Enforcer::ALL {
            let _ = write!(
                text,
                " | {}",
                table.cell(case, enforcer).map_or(String::new(), figures)
            );
        }
        text.push_str(" |\n");
    }
}

/// A `|` would end the cell, and a `*` begin something bold.
fn cell_text(text: &str) -> String {
    text.replace('|', "\\|").replace('*', "\\*")
}

fn kernels(text: &mut String, tables: &Tables<'_>) {
    text.push_str(
        "\n## Kernels\n\nCases that were as they should be, of those that were tried.\n\n",
    );
    text.push_str("| kernel | cases | AppArmor | BPF | seccomp |\n|---|---|---|---|---|\n");
    for table in &tables.kernels {
        let _ = write!(
            text,
            "| {} | {}",
            table.kernel,
            if table.core { "the core" } else { "all" }
        );
        for enforcer in Enforcer::ALL {
            let (passed, failed, _) = table.counts(enforcer);
            let _ = write!(text, " | {passed} of {}", passed + failed);
        }
        text.push_str(" |\n");
    }
    let mut reasons = Vec::new();
    for table in &tables.kernels {
        for outcome in table.cells.values() {
            if let Some(why) = &outcome.left_out {
                reasons.push(format!("- {} on {}: {why}", outcome.case, table.kernel));
            }
        }
        let only_some = tables
            .cases
            .iter()
            .filter(|case| !table.core || case.core)
            .flat_map(|case| {
                case.actions().filter_map(|action| {
                    let why = action.conditions.why_not(&table.kernel, "2.1")?;
                    Some(format!(
                        "- {}, `{}` on {}: {why}",
                        cell_text(&case.name),
                        action.run,
                        table.kernel
                    ))
                })
            });
        reasons.extend(only_some);
    }
    reasons.dedup();
    if !reasons.is_empty() {
        let _ = writeln!(text, "\nNot tried:\n\n{}", reasons.join("\n"));
    }
}

/// As many actions are shown with a difference; of more their number.
const MOST_NAMED: usize = 5;

fn differences(text: &mut String, cases: &[Case]) {
    text.push_str(DIFFERENCES);
    let before = text.len();
    for case in cases {
        // What several actions have in common is said once.
        let mut lines: Vec<(String, Vec<&str>)> = Vec::new();
        for action in case.actions() {
            for (enforcer, difference) in &action.differs {
                if !case.policies.contains_key(enforcer) {
                    continue;
                }
                let mut what = Vec::new();
                match difference.refuses {
                    Some(true) => what.push("refuses".to_string()),
                    Some(false) => what.push("does not refuse".to_string()),
                    None => {}
                }
                what.extend(
                    difference
                        .errno
                        .iter()
                        .map(|errno| format!("answers {errno}")),
                );
                if difference.event.is_some() {
                    what.push("reports otherwise".into());
                }
                let on = match difference.kernels.is_empty() {
                    true => String::new(),
                    false => format!(" on {}", difference.kernels.join(", ")),
                };
                let line = format!(
                    "{enforcer} {}{on}. {}",
                    what.join(" and "),
                    difference.reason.trim()
                );
                match lines.iter_mut().find(|(known, _)| *known == line) {
                    Some((_, actions)) => actions.push(&action.run),
                    None => lines.push((line, vec![&action.run])),
                }
            }
        }
        for (line, actions) in lines {
            let name = cell_text(&case.name);
            let actions = if actions.len() > MOST_NAMED {
                format!("{} actions", actions.len())
            } else {
                format!("`{}`", actions.join("`, `"))
            };
            let _ = writeln!(text, "- {name}, {actions}: {line}");
        }
    }
    if text.len() == before {
        text.push_str("None.\n");
    }
}

fn unreachable(text: &mut String, cases: &[Case]) {
    let lines: Vec<_> = cases
        .iter()
        .flat_map(|case| {
            case.unreachable.iter().map(move |(enforcer, why)| {
                format!("- {} on {enforcer}: {}", case.name, why.trim())
            })
        })
        .collect();
    if !lines.is_empty() {
        let _ = writeln!(text, "\n## Not shown\n\n{}", lines.join("\n"));
    }
}
