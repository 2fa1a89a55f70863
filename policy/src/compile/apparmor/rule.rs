// SPDX-License-Identifier: Apache-2.0
//! One rule of a profile's text, taken apart.

use super::raw::{self, Word};

/// A rule.
#[derive(Debug)]
pub(crate) struct Rule {
    /// As it stands in the profile, without the comma.
    pub(crate) text: String,
    pub(crate) deny: bool,
    pub(crate) audit: bool,
    /// Only for files that belong to the process' user.
    pub(crate) owner: bool,
    /// The words after the qualifiers.
    pub(crate) words: Vec<Word>,
}

/// What a rule about files says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FileRule<'a> {
    /// `file` alone: everything.
    Everything,
    /// A pattern and letters of permissions.
    Path(&'a Word, &'a str),
}

impl Rule {
    /// Reads a rule without its comma; `None` when it is not one rule.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let mut words = raw::words(&format!("{text},"))?;
        let qualifiers = words
            .iter()
            .take_while(|word| {
                matches!(word, Word::Plain(word) if ["audit", "deny", "allow", "owner"].contains(&word.as_str()))
            })
            .count();
        let has = |name: &str| words[..qualifiers].contains(&Word::Plain(name.to_owned()));
        let (deny, audit, owner) = (has("deny"), has("audit"), has("owner"));
        words.drain(..qualifiers);
        Some(Self {
            text: text.to_owned(),
            deny,
            audit,
            owner,
            words,
        })
    }

    /// A path and permissions in either order, after `file` or not; or `file` alone.
    pub(crate) fn file(&self) -> Option<FileRule<'_>> {
        let words = match &self.words[..] {
            [Word::Plain(word)] if word == "file" => return Some(FileRule::Everything),
            [Word::Plain(word), rest @ ..] if word == "file" => rest,
            words => words,
        };
        match words {
            // Where an executable goes on is told by the rule for it.
            [pattern, Word::Plain(letters), ..] if path_of(pattern).is_some() => {
                Some(FileRule::Path(pattern, letters))
            }
            [Word::Plain(letters), pattern] if path_of(pattern).is_some() => {
                Some(FileRule::Path(pattern, letters))
            }
            _ => None,
        }
    }
}

/// The pattern that a word is, if it is one.
pub(crate) fn path_of(word: &Word) -> Option<&str> {
    match word {
        Word::Plain(text) if text.starts_with(['/', '@', '{', '*']) => Some(text),
        Word::Quoted(text) => Some(text),
        _ => None,
    }
}
