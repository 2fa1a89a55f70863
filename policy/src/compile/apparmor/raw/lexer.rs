// SPDX-License-Identifier: Apache-2.0
//! Text to words. Stricter than AppArmor's own scanner: where that one changes its mind by context, this one refuses.

use super::RawRuleError;

/// A word of a rule, as it is written out again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Word {
    /// Anything without blanks outside quotes.
    Plain(String),
    /// The text between double quotes.
    Quoted(String),
    /// `->`.
    Arrow,
    /// `(a, b)`: its members.
    List(Vec<String>),
    /// `key=`, with or without a blank before the value; the value is the next word.
    Key(String),
}

impl Word {
    /// The word as AppArmor reads it.
    pub(super) fn text(&self) -> String {
        match self {
            Self::Plain(text) => text.clone(),
            Self::Quoted(text) => format!("\"{text}\""),
            Self::Arrow => "->".to_owned(),
            Self::List(members) => format!("({})", members.join(", ")),
            Self::Key(key) => format!("{key}="),
        }
    }
}

/// A rule's words and the line where it begins.
#[derive(Debug)]
pub(super) struct Statement {
    pub(super) line: usize,
    pub(super) words: Vec<Word>,
}

/// AppArmor's own variables (tunables/global of AppArmor 2.13 to 4.0). Others may not exist on a node.
const VARIABLES: [&str; 20] = [
    "HOME",
    "HOMEDIRS",
    "PROC",
    "apparmorfs",
    "etc_ro",
    "etc_rw",
    "flatpak_exports_root",
    "multiarch",
    "pid",
    "pids",
    "profile_name",
    "run",
    "securityfs",
    "share",
    "sys",
    "system_share_dirs",
    "tid",
    "uid",
    "uids",
    "user_share_dirs",
];

pub(super) struct Lexer<'a> {
    text: &'a str,
    at: usize,
    line: usize,
}

impl<'a> Lexer<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Self {
            text,
            at: 0,
            line: 1,
        }
    }

    pub(super) fn statements(mut self) -> Result<Vec<Statement>, RawRuleError> {
        if let Some(position) = self.text.find(|c: char| !is_acceptable(c)) {
            let line = 1 + self.text[..position].matches('\n').count();
            let found = self.text[position..]
                .chars()
                .next()
                .unwrap_or_default()
                .escape_unicode();
            return Err(RawRuleError {
                line,
                message: format!("the character {found} is not accepted; take it out"),
            });
        }
        let mut statements = Vec::new();
        loop {
            self.skip_blanks_and_comments()?;
            if self.peek().is_none() {
                return Ok(statements);
            }
            let line = self.line;
            let words = self.statement()?;
            if words.is_empty() {
                return Err(RawRuleError {
                    line,
                    message: "a comma without a rule; remove it".to_owned(),
                });
            }
            statements.push(Statement { line, words });
        }
    }

    fn statement(&mut self) -> Result<Vec<Word>, RawRuleError> {
        let mut words = Vec::new();
        loop {
            self.skip_blanks();
            match self.peek() {
                None => return Err(self.error("a rule does not end in a comma; add one")),
                Some(',') => {
                    self.bump();
                    return Ok(words);
                }
                Some('#') => {
                    return Err(self.error("a comment inside a rule; put it on a line of its own"));
                }
                Some('"') => words.push(Word::Quoted(self.quoted()?)),
                Some('(') => words.push(self.list()?),
                Some(_) => self.word(&mut words)?,
            }
        }
    }

    /// Up to a blank, a comma outside braces, or an opening parenthesis or quote after `=`.
    fn word(&mut self, words: &mut Vec<Word>) -> Result<(), RawRuleError> {
        let mut text = String::new();
        let (mut braces, mut in_set) = (0usize, false);
        while let Some(c) = self.peek() {
            match c {
                ' ' | '\t' | '\n' => break,
                ',' if braces == 0 && !in_set => break,
                '[' if !in_set => in_set = true,
                ']' if in_set => in_set = false,
                ']' => return Err(self.error("`]` closes nothing")),
                '{' if !in_set => {
                    self.check_brace(&text)?;
                    braces += 1;
                }
                '}' if !in_set => {
                    braces = braces.checked_sub(1).ok_or_else(|| {
                        self.error(
                            "`}` closes nothing here: raw rules cannot end the profile; remove it",
                        )
                    })?;
                }
                '\\' => {
                    text.push(c);
                    self.bump();
                    let escaped = self.peek().filter(|c| r"*?[]{}^\-".contains(*c));
                    let wrong = || {
                        self.error(r"a backslash stands before one of *?[]{}^-\ only; quote the word instead")
                    };
                    text.push(escaped.ok_or_else(wrong)?);
                    self.bump();
                    continue;
                }
                '#' => return Err(self.error("`#` inside a word; put it between quotes")),
                '"' => return Err(self.error("a quote inside a word; quote the whole word")),
                '(' | ')' => {
                    return Err(self.error("a parenthesis inside a word; put blanks around lists"));
                }
                '=' if braces == 0 && !in_set && is_key(&text) => {
                    self.bump();
                    words.push(Word::Key(text));
                    return Ok(());
                }
                _ => {}
            }
            text.push(c);
            self.bump();
        }
        if braces > 0 || in_set {
            return Err(self.error("`{` or `[` is not closed in the same word; globs hold no blanks, and blocks are not accepted"));
        }
        check_variables(&text).map_err(|message| self.error(&message))?;
        words.push(if text == "->" {
            Word::Arrow
        } else {
            Word::Plain(text)
        });
        Ok(())
    }

    /// A brace is part of a glob in a path, or of a variable of AppArmor's own; never a block.
    fn check_brace(&self, before: &str) -> Result<(), RawRuleError> {
        let rest = &self.text[self.at + 1..];
        if before.ends_with('@') {
            return check_variable(rest).map_err(|message| self.error(&message));
        }
        if before.is_empty() {
            return Err(self.error("`{` opens a block or a glob without a beginning; blocks are not accepted, and a path begins with `/`"));
        }
        Ok(())
    }

    fn quoted(&mut self) -> Result<String, RawRuleError> {
        self.bump();
        let start = self.at;
        while let Some(c) = self.peek() {
            match c {
                '"' => {
                    let text = self.text[start..self.at].to_owned();
                    self.bump();
                    check_variables(&text).map_err(|message| self.error(&message))?;
                    return Ok(text);
                }
                '\n' => break,
                '\\' => {
                    return Err(self.error(
                        "a backslash between quotes is not accepted; write the character itself",
                    ));
                }
                _ => self.bump(),
            }
        }
        Err(self.error("a quote is not closed on its line"))
    }

    /// `( a, b c )`; members are plain words.
    fn list(&mut self) -> Result<Word, RawRuleError> {
        self.bump();
        let mut members = Vec::new();
        loop {
            self.skip_blanks();
            match self.peek() {
                Some(')') => {
                    self.bump();
                    return Ok(Word::List(members));
                }
                Some(',') => self.bump(),
                Some(c) if is_list_character(c) => {
                    let length = self.text[self.at..]
                        .find(|c| !is_list_character(c))
                        .unwrap_or(self.text.len() - self.at);
                    members.push(self.text[self.at..self.at + length].to_owned());
                    self.at += length;
                }
                Some('"') => members.push(format!("\"{}\"", self.quoted()?)),
                Some(c) => return Err(self.error(&format!("`{c}` in a list between parentheses"))),
                None => return Err(self.error("`(` is not closed")),
            }
        }
    }

    fn skip_blanks(&mut self) {
        while self.peek().is_some_and(|c| c.is_ascii_whitespace()) {
            self.bump();
        }
    }

    /// Comments stand between rules. `#include` is no comment to AppArmor, however it is spelt.
    fn skip_blanks_and_comments(&mut self) -> Result<(), RawRuleError> {
        loop {
            self.skip_blanks();
            if self.peek() != Some('#') {
                return Ok(());
            }
            let rest = &self.text[self.at..];
            let comment = &rest[..rest.find('\n').unwrap_or(rest.len())];
            if comment.to_ascii_lowercase().contains("include") {
                return Err(self.error("an include is not accepted, nor a comment with that word; write the rules themselves"));
            }
            self.at += comment.len();
        }
    }

    fn peek(&self) -> Option<char> {
        self.text[self.at..].chars().next()
    }

    fn bump(&mut self) {
        if let Some(c) = self.peek() {
            self.at += c.len_utf8();
            self.line += usize::from(c == '\n');
        }
    }

    fn error(&self, message: &str) -> RawRuleError {
        RawRuleError {
            line: self.line,
            message: message.to_owned(),
        }
    }
}

/// Letters and digits of any script, ASCII punctuation, blanks and line feeds: nothing that hides or reorders text.
fn is_acceptable(c: char) -> bool {
    c.is_ascii_graphic() || matches!(c, ' ' | '\t' | '\n') || (!c.is_ascii() && c.is_alphanumeric())
}

fn is_list_character(c: char) -> bool {
    c.is_alphanumeric() || "_-./*@:=+".contains(c)
}

fn is_key(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_lowercase())
}

fn check_variables(text: &str) -> Result<(), String> {
    text.match_indices("@{")
        .try_for_each(|(position, _)| check_variable(&text[position + 2..]))
}

/// Checks the name that follows `@{`.
fn check_variable(rest: &str) -> Result<(), String> {
    let name = rest.split('}').next().unwrap_or_default();
    if VARIABLES.contains(&name) && rest.len() > name.len() {
        return Ok(());
    }
    Err(format!(
        "the variable `@{{{}}}` is not one of AppArmor's own; write the path",
        name.chars().take(32).collect::<String>().escape_debug()
    ))
}
