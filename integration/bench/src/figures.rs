// SPDX-License-Identifier: Apache-2.0
//! The table that `make bench` prints: what was measured, against what was asked for.

use std::fmt;

/// One line of the table. Every limit is an upper one.
#[derive(Debug, Clone, PartialEq)]
pub struct Figure {
    /// What was measured.
    pub name: String,
    /// The value, in `unit`.
    pub value: f64,
    /// Unit of the value and of its limits.
    pub unit: Unit,
    /// What must hold; a line without a target only informs.
    pub target: Option<f64>,
    /// What would be better still.
    pub aim: Option<f64>,
}

/// How a value is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// A quotient of two values of the same run.
    Ratio,
    /// A difference between two values of the same run, in hundredths of the smaller.
    Percent,
    /// Guest instructions.
    Instructions,
    /// Milliseconds.
    Milliseconds,
    /// 2^10 bytes.
    Kibibytes,
    /// 2^20 bytes.
    Mebibytes,
}

impl Figure {
    /// A line that only informs.
    pub fn new(name: impl Into<String>, value: f64, unit: Unit) -> Self {
        Self {
            name: name.into(),
            value,
            unit,
            target: None,
            aim: None,
        }
    }

    /// The value must not be above `limit`.
    #[must_use]
    pub fn target(mut self, limit: f64) -> Self {
        self.target = Some(limit);
        self
    }

    /// The value should not be above `limit`.
    #[must_use]
    pub fn aim(mut self, limit: f64) -> Self {
        self.aim = Some(limit);
        self
    }

    /// Whether the target, if there is one, was missed. A value that is not a number misses it.
    pub fn missed(&self) -> bool {
        self.target
            .is_some_and(|limit| self.value.is_nan() || self.value > limit)
    }

    fn verdict(&self) -> &'static str {
        match (self.target, self.aim) {
            (Some(_), _) if self.missed() => "MISSED",
            (Some(_), Some(aim)) if self.value > aim => "pass",
            (Some(_), Some(_)) => "pass, aim met",
            (Some(_), None) => "pass",
            (None, _) => "",
        }
    }
}

impl Unit {
    fn write(self, value: f64) -> String {
        match self {
            Self::Ratio => format!("{value:.2}"),
            Self::Percent => format!("{value:.1} %"),
            Self::Instructions => format!("{value:+.0}"),
            Self::Milliseconds => format!("{value:.2} ms"),
            Self::Kibibytes => format!("{value:.1} KiB"),
            Self::Mebibytes => format!("{value:.1} MiB"),
        }
    }
}

/// The figures of one subject and what has to be known to read them.
#[derive(Debug, Clone, PartialEq)]
pub struct Section {
    /// Heading.
    pub title: String,
    /// Circumstances: how it was measured and what was left out.
    pub notes: Vec<String>,
    /// The lines.
    pub figures: Vec<Figure>,
}

impl fmt::Display for Section {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(out, "\n{}", self.title)?;
        for note in &self.notes {
            writeln!(out, "  ({note})")?;
        }
        let limit = |unit: Unit, value: Option<f64>| {
            value.map_or(String::new(), |value| format!("<= {}", unit.write(value)))
        };
        let mut rows = vec![["", "measured", "target", "aim", ""].map(String::from)];
        rows.extend(self.figures.iter().map(|figure| {
            [
                figure.name.clone(),
                figure.unit.write(figure.value),
                limit(figure.unit, figure.target),
                limit(figure.unit, figure.aim),
                figure.verdict().to_owned(),
            ]
        }));
        let width = |column: usize| {
            rows.iter()
                .map(|row| row[column].chars().count())
                .max()
                .unwrap_or(0)
        };
        let widths = [width(0), width(1), width(2), width(3)];
        for [name, value, target, aim, verdict] in &rows {
            let line = format!(
                "  {name:<0$}  {value:>1$}  {target:>2$}  {aim:>3$}  {verdict}",
                widths[0], widths[1], widths[2], widths[3]
            );
            writeln!(out, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

/// The value in the middle, or the mean of the two in the middle.
///
/// # Panics
///
/// Panics when there is none.
pub fn median(mut values: Vec<f64>) -> f64 {
    assert!(!values.is_empty(), "the median of nothing");
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    if values.len() % 2 == 1 {
        values[middle]
    } else {
        (values[middle - 1] + values[middle]) / 2.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_at_its_target_passes_and_one_above_does_not() {
        let at = |value| Figure::new("x", value, Unit::Ratio).target(0.43).aim(0.25);
        assert_eq!(at(0.43).verdict(), "pass");
        assert_eq!(at(0.25).verdict(), "pass, aim met");
        assert_eq!(at(0.4301).verdict(), "MISSED");
        assert!(at(f64::NAN).missed());
        assert!(!Figure::new("x", 1e9, Unit::Ratio).missed());
    }

    #[test]
    fn the_median_of_an_even_number_of_values_lies_between_the_two_in_the_middle() {
        assert_eq!(median(vec![9.0, 1.0, 2.0, 3.0]), 2.5);
        assert_eq!(median(vec![9.0, 1.0, 2.0]), 2.0);
    }

    #[test]
    fn a_section_shows_limits_and_verdicts_in_columns() {
        let section = Section {
            title: "Open".into(),
            notes: vec!["counted".into()],
            figures: vec![
                Figure::new("nothing", 0.5, Unit::Ratio),
                Figure::new("outside", 11.04, Unit::Percent)
                    .target(10.0)
                    .aim(5.0),
            ],
        };
        let expected = "\nOpen\n  (counted)\n           measured     target       aim\n  nothing      0.50\n  outside    11.0 %  <= 10.0 %  <= 5.0 %  MISSED\n";
        assert_eq!(section.to_string(), expected);
    }
}
