//! What the person sees: a line per action as it happens, and a table of all of them at the end.

/// A verdict that was expected, and what came.
struct Row {
    when: &'static str,
    action: String,
    expected: String,
    seen: String,
}

/// Collects and prints.
#[derive(Default)]
pub struct Report {
    when: &'static str,
    rows: Vec<Row>,
}

/// No line is longer.
const WIDTH: usize = 96;

impl Report {
    /// A part of the story begins; `when` is what the table calls it.
    pub fn part(&mut self, when: &'static str, title: &str) {
        self.when = when;
        println!("\n== {title}");
    }

    /// An action that was done.
    pub fn action(&mut self, title: &str, line: &str, expected: String, seen: String) {
        println!(
            "  {:<20} {line:<52} {seen}{}",
            title,
            doubt(&expected, &seen)
        );
        self.row(title.to_owned(), expected, seen);
    }

    /// A fact that was looked up.
    pub fn fact(&mut self, what: &str, expected: String, seen: String) {
        println!("  {what}: {seen}{}", doubt(&expected, &seen));
        self.row(what.to_owned(), expected, seen);
    }

    fn row(&mut self, action: String, expected: String, seen: String) {
        self.rows.push(Row {
            when: self.when,
            action,
            expected,
            seen,
        });
    }

    /// Prints the table; true when everything was as expected.
    pub fn table(&self) -> bool {
        let bar = |row: &Row| [row.when.len(), row.action.len(), row.expected.len()];
        let mut widths = ["WHEN".len(), "ACTION".len(), "EXPECTED".len()];
        for row in &self.rows {
            for (width, length) in widths.iter_mut().zip(bar(row)) {
                *width = (*width).max(length);
            }
        }
        let [a, b, c] = widths;
        println!("\n== What was seen");
        println!(
            "     {:<a$}  {:<b$}  {:<c$}  SEEN",
            "WHEN", "ACTION", "EXPECTED"
        );
        for row in &self.rows {
            let mark = if row.expected == row.seen { "ok" } else { "NO" };
            println!(
                "  {mark} {:<a$}  {:<b$}  {:<c$}  {}",
                row.when, row.action, row.expected, row.seen
            );
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

fn doubt(expected: &str, seen: &str) -> String {
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
        report.fact("a", "x".into(), "x".into());
        assert!(report.table());
        report.fact("b", "x".into(), "y".into());
        assert!(!report.table());
    }
}
