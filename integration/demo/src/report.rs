// SPDX-License-Identifier: Apache-2.0
//! What the person sees: a line per action as it happens, and a table of all of them at the end.

use crate::evidence::Enforcer;

/// How an action, or a look at something, came out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// `allowed`, `refused`, or another word for what was found.
    pub what: String,
    /// Who refuses, or confines.
    pub by: Option<Enforcer>,
}

impl Verdict {
    /// Nobody was involved.
    pub fn plain(what: impl Into<String>) -> Self {
        Self {
            what: what.into(),
            by: None,
        }
    }

    /// Refused, by this enforcer.
    pub fn refused(by: Enforcer) -> Self {
        Self {
            what: "refused".into(),
            by: Some(by),
        }
    }

    /// The process is in this enforcer's hands, or not.
    pub fn confined(by: Enforcer, is: bool) -> Self {
        Self {
            what: if is { "confined" } else { "not confined" }.into(),
            by: is.then_some(by),
        }
    }

    fn by(&self) -> &'static str {
        self.by.map_or("", Enforcer::name)
    }
}

impl std::fmt::Display for Verdict {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.by {
            Some(by) => write!(f, "{} by {}", self.what, by.name()),
            None => f.write_str(&self.what),
        }
    }
}

/// A verdict that was expected, and what came.
struct Row {
    when: &'static str,
    action: String,
    expected: Verdict,
    seen: Verdict,
}

/// Collects and prints.
#[derive(Default)]
pub struct Report {
    when: &'static str,
    rows: Vec<Row>,
}

/// No line of JSON is longer.
const WIDTH: usize = 96;

impl Report {
    /// A part of the story begins; `when` is what the table calls it.
    pub fn part(&mut self, when: &'static str, title: &str) {
        self.when = when;
        println!("\n== {title}");
    }

    /// What the table calls what follows.
    pub fn when(&mut self, when: &'static str) {
        self.when = when;
    }

    /// An action that was done, and what the verdict rests on.
    pub fn action(
        &mut self,
        title: &str,
        line: &str,
        expected: Verdict,
        seen: Verdict,
        why: Option<String>,
    ) {
        println!("  {title:<18} {line:<51} {seen}{}", doubt(&expected, &seen));
        if let Some(why) = why {
            println!("      {why}");
        }
        self.row(title, expected, seen);
    }

    /// Something that was looked up, and what was found there.
    pub fn fact(&mut self, title: &str, found: &str, expected: Verdict, seen: Verdict) {
        println!("  {found}{}", doubt(&expected, &seen));
        self.row(title, expected, seen);
    }

    fn row(&mut self, action: &str, expected: Verdict, seen: Verdict) {
        self.rows.push(Row {
            when: self.when,
            action: action.to_owned(),
            expected,
            seen,
        });
    }

    /// Prints the table; true when everything was as expected.
    pub fn table(&self) -> bool {
        println!("\n== What was seen");
        let mut lines = vec![["", "WHEN", "ACTION", "EXPECTED", "SEEN", "BY"].map(str::to_owned)];
        lines.extend(self.rows.iter().map(|row| {
            [
                if row.expected == row.seen { "ok" } else { "NO" }.to_owned(),
                row.when.to_owned(),
                row.action.clone(),
                row.expected.to_string(),
                row.seen.what.clone(),
                row.seen.by().to_owned(),
            ]
        }));
        let width = |column: usize| {
            lines
                .iter()
                .map(|line| line[column].len())
                .max()
                .unwrap_or(0)
        };
        let widths: Vec<_> = (0..6).map(width).collect();
        for line in &lines {
            let cells = line
                .iter()
                .zip(&widths)
                .map(|(cell, width)| format!("{cell:<width$}"));
            println!("  {}", cells.collect::<Vec<_>>().join("  ").trim_end());
        }
        let wrong = self
            .rows
            .iter()
            .filter(|row| row.expected != row.seen)
            .count();
        match wrong {
            0 => println!("\nAll {} verdicts were the expected ones.", self.rows.len()),
            _ => println!(
                "\n{wrong} of {} verdicts were NOT the expected ones.",
                self.rows.len()
            ),
        }
        wrong == 0
    }
}

fn doubt(expected: &Verdict, seen: &Verdict) -> String {
    match expected == seen {
        true => String::new(),
        false => format!("  <-- expected: {expected}"),
    }
}

/// A line of JSON over several lines, broken between fields only.
pub fn fold(json: &str, indent: &str) -> String {
    let mut lines = vec![String::new()];
    let mut parts = json.split(",\"").peekable();
    let mut first = true;
    while let Some(part) = parts.next() {
        let quote = if std::mem::take(&mut first) { "" } else { "\"" };
        let comma = if parts.peek().is_some() { "," } else { "" };
        let part = format!("{quote}{part}{comma}");
        let last = lines.last_mut().expect("there is one from the start");
        if !last.is_empty() && indent.len() + last.len() + part.len() > WIDTH {
            // A space ahead, so that a reader sees where a record begins.
            lines.push(format!(" {part}"));
        } else {
            last.push_str(&part);
        }
    }
    lines
        .iter()
        .map(|line| format!("{indent}{line}"))
        .collect::<Vec<_>>()
        .join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folded_json_is_the_same_json() {
        let json = serde_json::json!({"a": "x".repeat(60), "b": {"c": ["d", "e"], "f": 1}, "g": "y".repeat(60)}).to_string();
        let folded = fold(&json, "    ");
        assert!(folded.lines().count() > 1);
        assert!(folded.lines().all(|line| line.len() <= WIDTH), "{folded}");
        assert_eq!(
            serde_json::from_str::<serde_json::Value>(&folded)
                .unwrap()
                .to_string(),
            json
        );
    }

    #[test]
    fn one_wrong_verdict_is_enough() {
        let mut report = Report::default();
        let plain = |what: &str| Verdict::plain(what);
        report.fact("a", "b", plain("x"), plain("x"));
        assert!(report.table());
        report.fact("a", "b", plain("x"), plain("y"));
        assert!(!report.table());
    }

    #[test]
    fn a_refusal_by_another_enforcer_is_a_wrong_verdict() {
        let mut report = Report::default();
        let by = Verdict::refused;
        report.action("a", "b", by(Enforcer::Bpf), by(Enforcer::Bpf), None);
        assert!(report.table());
        report.action("a", "b", by(Enforcer::Bpf), by(Enforcer::AppArmor), None);
        assert!(!report.table());
    }
}
