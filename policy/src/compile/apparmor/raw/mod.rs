// SPDX-License-Identifier: Apache-2.0
//! Raw AppArmor rules of a tenant, who must not write anything but rules.
//!
//! The text is taken apart into words, each rule is checked against the grammar of its kind (apparmor.d(5)), and is
//! written anew, on one line and without comments. What is not known is refused: blocks, includes in any spelling,
//! profiles and hats, `abi`, `alias`, variables that are not AppArmor's own, `change_profile`, and every way of executing
//! a program outside the profile (`px`, `ux`, `cx`, `->`).

mod grammar;
mod lexer;
mod words;

use lexer::Lexer;
pub(crate) use lexer::Word;

/// Longest text of one entry in bytes.
pub const MAX_TEXT_BYTES: usize = 64 << 10;

/// Why a raw rule is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {message}")]
pub struct RawRuleError {
    /// 1-based line in the text.
    pub line: usize,
    /// What is wrong and how to put it right.
    pub message: String,
}

/// The rules of a text, each in its own normalized line without the comma.
///
/// # Errors
/// The first thing that is no rule, or not a rule that a policy may hold.
pub fn parse(text: &str) -> Result<Vec<String>, RawRuleError> {
    if text.len() > MAX_TEXT_BYTES {
        return Err(RawRuleError {
            line: 1,
            message: format!("more than {MAX_TEXT_BYTES} bytes; write several entries"),
        });
    }
    let mut rules = Vec::new();
    for statement in Lexer::new(text).statements()? {
        grammar::check(&statement.words).map_err(|message| RawRuleError {
            line: statement.line,
            message,
        })?;
        rules.push(render(&statement.words));
    }
    if rules.is_empty() {
        return Err(RawRuleError {
            line: 1,
            message: "there is no rule; write one, or remove the entry".to_owned(),
        });
    }
    Ok(rules)
}

/// The words of one rule with its comma; `None` when it is not one rule.
pub(crate) fn words(rule: &str) -> Option<Vec<Word>> {
    let mut statements = Lexer::new(rule).statements().ok()?;
    let statement = statements.pop()?;
    statements.is_empty().then_some(statement.words)
}

fn render(words: &[Word]) -> String {
    let mut text = String::new();
    for (index, word) in words.iter().enumerate() {
        if index > 0 && !matches!(words[index - 1], Word::Key(_)) {
            text.push(' ');
        }
        text.push_str(&word.text());
    }
    text
}

#[cfg(test)]
mod tests;
