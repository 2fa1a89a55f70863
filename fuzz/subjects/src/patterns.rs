// SPDX-License-Identifier: Apache-2.0
//! Patterns and their automata, against matching by the definition of each token.
//!
//! The input's first part are patterns, one on each line; after an empty line come the texts that they are held against.

use varmor_policy::automata::{compile_mounts, compile_paths};
use varmor_policy::pattern::{Pattern, Token};
use varmor_policy::plan::automaton::{Automaton, PathVerdict};
use varmor_policy::plan::bpf::MountSet;

/// Few and short: what goes wrong goes wrong with these too, and automata of many globs take seconds to build under sanitizers.
const MOST_PATTERNS: usize = 3;
const LONGEST_PATTERN: usize = 24;
/// By definition is slow.
const MOST_TEXTS: usize = 6;
const LONGEST_TEXT: usize = 48;

/// The automata say of a text that those patterns match which do.
pub fn take(data: &[u8]) -> bool {
    let mut lines = data.split(|byte| *byte == b'\n');
    let written: Vec<&str> = lines
        .by_ref()
        .take_while(|line| !line.is_empty())
        .take(MOST_PATTERNS)
        .filter(|line| line.len() <= LONGEST_PATTERN)
        .filter_map(|line| std::str::from_utf8(line).ok())
        .collect();
    let texts: Vec<&[u8]> = lines
        .filter(|text| !text.contains(&0) && text.len() <= LONGEST_TEXT)
        .take(MOST_TEXTS)
        .collect();
    let paths = paths(&written, &texts);
    let sources = sources(&written, &texts);
    paths || sources
}

fn paths(written: &[&str], texts: &[&[u8]]) -> bool {
    let patterns: Vec<Pattern> = written
        .iter()
        .filter_map(|text| Pattern::path(text).ok())
        .collect();
    let rules: Vec<_> = patterns
        .iter()
        .enumerate()
        .map(|(bit, pattern)| {
            (
                pattern.clone(),
                PathVerdict {
                    deny: 1 << bit,
                    ..PathVerdict::default()
                },
            )
        })
        .collect();
    let Ok(automata) = compile_paths(&rules) else {
        return false;
    };
    for path in texts.iter().filter(|text| is_resolved(text)) {
        let forward = automata
            .forward
            .as_ref()
            .map_or(0, |automaton| run(automaton, path).deny);
        let reversed: Vec<u8> = path.iter().rev().copied().collect();
        let backward = automata
            .backward
            .as_ref()
            .map_or(0, |automaton| run(automaton, &reversed).deny);
        assert_eq!(
            forward | backward,
            by_definition(&patterns, path),
            "{written:?} on {path:?}"
        );
    }
    !patterns.is_empty()
}

fn sources(written: &[&str], texts: &[&[u8]]) -> bool {
    let patterns: Vec<Pattern> = written
        .iter()
        .filter_map(|text| Pattern::mount_source(text).ok())
        .collect();
    let rules: Vec<_> = patterns
        .iter()
        .enumerate()
        .map(|(bit, pattern)| {
            let set = MountSet {
                deny_flags: 1 << bit,
                ..MountSet::default()
            };
            (None, pattern.clone(), set)
        })
        .collect();
    let Ok(Some(mounts)) = compile_mounts(&rules) else {
        return false;
    };
    for text in texts {
        let verdict = run(&mounts.automaton, &[b"none\0", *text].concat());
        let found = mounts.sets[usize::from(verdict.ancestors)].deny_flags;
        assert_eq!(
            found,
            u32::from(by_definition(&patterns, text)),
            "{written:?} on {text:?}"
        );
        let any = mounts.any_source().deny_flags;
        assert_eq!(any & found, found, "{written:?}: any source, and {text:?}");
    }
    true
}

/// As the kernel walks it; what it says is among what its beginning could lead to.
fn run(automaton: &Automaton, text: &[u8]) -> PathVerdict {
    let verdict = automaton.run(text.iter().copied());
    let start = &text[..text.len() / 2];
    assert!(
        automaton.verdicts_after(start).contains(&verdict),
        "{start:?} can't lead to {text:?}"
    );
    verdict
}

/// Absolute, and as the kernel resolves paths.
fn is_resolved(text: &[u8]) -> bool {
    let Some(rest) = text.strip_prefix(b"/") else {
        return false;
    };
    rest.is_empty()
        || rest
            .split(|byte| *byte == b'/')
            .all(|name| !matches!(name, b"" | b"." | b".."))
}

/// A bit for each pattern that matches.
fn by_definition(patterns: &[Pattern], text: &[u8]) -> u16 {
    let matching = patterns.iter().enumerate().filter(|(_, pattern)| {
        let mut alternatives = pattern.alternatives().iter();
        alternatives.any(|tokens| matches(tokens, text))
    });
    matching.fold(0, |bits, (bit, _)| bits | 1 << bit)
}

/// Keeps, token by token, at which places of the text the tokens so far can end.
fn matches(tokens: &[Token], text: &[u8]) -> bool {
    let mut ends = vec![false; text.len() + 1];
    ends[0] = true;
    for token in tokens {
        let mut next = vec![false; text.len() + 1];
        for start in (0..=text.len()).filter(|start| ends[*start]) {
            let rest = &text[start..];
            match token {
                Token::Byte(byte) if rest.first() == Some(byte) => next[start + 1] = true,
                Token::Set(set) if rest.first().is_some_and(|byte| set.contains(*byte)) => {
                    next[start + 1] = true
                }
                Token::Byte(_) | Token::Set(_) => {}
                Token::Star => {
                    let length = rest.iter().take_while(|byte| **byte != b'/').count();
                    next[start..=start + length].fill(true);
                }
                Token::Any => next[start..].fill(true),
                Token::Deep => {
                    next[start] = true;
                    for end in (0..rest.len()).filter(|end| rest[*end] == b'/') {
                        next[start + end + 1] = true;
                    }
                }
            }
        }
        ends = next;
    }
    ends[text.len()]
}
