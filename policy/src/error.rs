// SPDX-License-Identifier: Apache-2.0
//! Errors that name the object, the field and the fix.

use crate::plan::PolicyRef;
use std::fmt;

/// Something in a policy object that cannot be enforced as written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{object}: {field}: {}", self.full_message())]
pub struct PolicyError {
    /// The policy object.
    pub object: PolicyRef,
    /// Path of the field, such as `spec.policy.enhanceProtect.hardeningRules[2]`.
    pub field: String,
    /// 1-based line within the field's text, where that is a text of several lines.
    pub text_line: Option<usize>,
    /// What is wrong and how to put it right.
    pub message: String,
}

impl PolicyError {
    /// The message, with the line within the field's text where there is one.
    pub fn full_message(&self) -> String {
        match self.text_line {
            Some(line) => format!("line {line}: {}", self.message),
            None => self.message.clone(),
        }
    }
}

/// A YAML document that is not a policy object, or one that cannot be enforced as written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct DocumentError {
    /// 1-based line in the file, where the parser knows it.
    pub line: Option<usize>,
    /// 1-based column in the line.
    pub column: Option<usize>,
    /// The object, as far as the document names one.
    pub object: Option<PolicyRef>,
    /// Path of the field; empty when the error is about the whole document.
    pub field: String,
    /// What is wrong and how to put it right.
    pub message: String,
}

impl fmt::Display for DocumentError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(line) = self.line {
            write!(f, "line {line}")?;
            if let Some(column) = self.column {
                write!(f, ", column {column}")?;
            }
            f.write_str(": ")?;
        }
        if let Some(object) = &self.object {
            write!(f, "{object}: ")?;
        }
        if !self.field.is_empty() {
            write!(f, "{}: ", self.field)?;
        }
        f.write_str(&self.message)
    }
}

/// Most errors that are reported of one object.
const MAX_FINDINGS: usize = 64;

/// Collects the errors of one object, so that a user sees all of them at once.
#[derive(Debug)]
pub(crate) struct Findings {
    object: PolicyRef,
    errors: Vec<PolicyError>,
}

impl Findings {
    pub(crate) fn new(object: PolicyRef) -> Self {
        Self {
            object,
            errors: Vec::new(),
        }
    }

    /// Whether enough has been found. Looking for more would let a hostile policy choose how long it takes.
    pub(crate) fn is_full(&self) -> bool {
        self.errors.len() >= MAX_FINDINGS
    }

    pub(crate) fn add(&mut self, field: impl Into<String>, message: impl Into<String>) {
        self.push(field.into(), None, message.into());
    }

    /// Adds an error about one line of a field's text.
    pub(crate) fn add_at_line(
        &mut self,
        field: impl Into<String>,
        line: usize,
        message: impl Into<String>,
    ) {
        self.push(field.into(), Some(line), message.into());
    }

    fn push(&mut self, field: String, text_line: Option<usize>, message: String) {
        if !self.is_full() {
            self.errors.push(PolicyError {
                object: self.object.clone(),
                field,
                text_line,
                message,
            });
        }
    }

    /// The value, unless there are errors.
    pub(crate) fn finish<T>(self, value: T) -> Result<T, Vec<PolicyError>> {
        if self.errors.is_empty() {
            Ok(value)
        } else {
            Err(self.errors)
        }
    }
}

/// The candidate nearest to `word`, when it is near enough to be a likely slip of the pen.
pub(crate) fn nearest<'a>(
    word: &str,
    candidates: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    // A quadratic distance over a hostile megabyte would be a denial of service; no right name is that long.
    if word.len() > 128 {
        return None;
    }
    let limit = (word.len() / 3).max(2);
    candidates
        .into_iter()
        .map(|c| (distance(word, c), c))
        .filter(|(d, _)| *d <= limit)
        .min()
        .map(|(_, c)| c)
}

/// Levenshtein distance over bytes.
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.bytes().enumerate() {
            let substituted = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(row[j] + 1).min(row[j + 1] + 1);
        }
    }
    row[b.len()]
}

/// "; did you mean `x`?" or nothing.
pub(crate) fn suggestion<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> String {
    nearest(word, candidates).map_or_else(String::new, |c| format!("; did you mean `{c}`?"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_name_is_suggested() {
        let names = [
            "disable-write-etc",
            "disable-cap-net-raw",
            "mitigate-sa-leak",
        ];
        assert_eq!(
            nearest("disable-wirte-etc", names),
            Some("disable-write-etc")
        );
        assert_eq!(
            nearest("mitigate-sa-leaks", names),
            Some("mitigate-sa-leak")
        );
        assert_eq!(nearest("quite-another-thing", names), None);
        assert_eq!(nearest(&"x".repeat(1 << 20), names), None);
    }
}
