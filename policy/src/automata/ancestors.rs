// SPDX-License-Identifier: Apache-2.0
//! Which directories lead to protected paths, and which protected paths they lead to.
//!
//! Renaming a directory gives everything below it a new path. The rename sheds protection unless what is protected
//! below the new path is what was protected below the old one. What is protected below `P` is the *residue* of the rules
//! after reading `P/`; equal residues have equal numbers, and 0 stands for "nothing that depends on `P`".

use super::determinize::Dfa;
use super::nfa::{Nfa, Payload};
use crate::pattern::Token;
use crate::plan::automaton::PathVerdict;
use std::collections::HashMap;

/// Numbers for what may follow a directory.
#[derive(Debug, Default)]
pub(super) struct Residues(HashMap<(Vec<Token>, Payload), u32>);

impl Residues {
    fn number(&mut self, rest: &[Token], payload: Payload) -> u32 {
        let next = self.0.len() as u32;
        *self.0.entry((rest.to_vec(), payload)).or_insert(next)
    }
}

/// The directories that lead to paths of an unanchored pattern, as patterns, each with the number of its residue.
///
/// Directories that match merely because the pattern begins with `**` are left out: they all lead to the same paths.
pub(super) fn directories(
    tokens: &[Token],
    payload: Payload,
    residues: &mut Residues,
) -> Vec<(Vec<Token>, u32)> {
    let leading = match tokens {
        [Token::Byte(b'/'), Token::Any | Token::Deep, ..] => 2,
        _ => 1,
    };
    let mut found = Vec::new();
    for at in leading..tokens.len() {
        match tokens[at] {
            // The directory ends where this `/` begins.
            Token::Byte(b'/') => {
                found.push((
                    tokens[..at].to_vec(),
                    residues.number(&tokens[at + 1..], payload),
                ));
            }
            // The directory ends somewhere inside what `**` matches.
            Token::Any | Token::Deep => {
                let inside = [&tokens[..at], &[Token::Any]].concat();
                found.push((inside, residues.number(&tokens[at..], payload)));
            }
            Token::Byte(_) | Token::Set(_) | Token::Star => {}
        }
    }
    found
}

/// Verdicts by state for the forward automaton: the residue of a path is the state after one more `/`.
pub(super) fn forward_verdicts(dfa: &Dfa, nfa: &Nfa) -> Vec<PathVerdict> {
    let mut verdicts: Vec<PathVerdict> = dfa
        .accepting
        .iter()
        .map(|payloads| fold(payloads.iter().map(|id| nfa.payload(*id))))
        .collect();
    let refuses = leads_to_refusal(dfa, &verdicts);
    let mut numbers: HashMap<u16, u16> = HashMap::new();
    for (state, verdict) in verdicts.iter_mut().enumerate() {
        let residue = dfa.next(state as u16, b'/');
        if refuses[usize::from(residue)] {
            let next = numbers.len() as u16 + 1;
            verdict.ancestors = *numbers.entry(residue).or_insert(next);
        }
    }
    verdicts
}

/// Verdicts by state for the backward automaton: the residue of a path is the set of residues that its patterns say.
pub(super) fn backward_verdicts(dfa: &Dfa, nfa: &Nfa) -> Vec<PathVerdict> {
    let mut numbers: HashMap<Vec<u32>, u16> = HashMap::new();
    dfa.accepting
        .iter()
        .map(|payloads| {
            let payloads = payloads.iter().map(|id| nfa.payload(*id));
            let mut verdict = fold(payloads.clone());
            let mut residues: Vec<u32> = payloads
                .filter_map(|p| {
                    if let Payload::Ancestor(r) = p {
                        Some(r)
                    } else {
                        None
                    }
                })
                .collect();
            residues.sort_unstable();
            if !residues.is_empty() {
                let next = numbers.len() as u16 + 1;
                verdict.ancestors = *numbers.entry(residues).or_insert(next);
            }
            verdict
        })
        .collect()
}

fn fold(payloads: impl Iterator<Item = Payload>) -> PathVerdict {
    let mut sum = PathVerdict::default();
    for payload in payloads {
        if let Payload::Verdict(verdict) = payload {
            sum.deny |= verdict.deny;
            sum.audit |= verdict.audit;
            sum.allow |= verdict.allow;
        }
    }
    sum
}

/// For each state, whether some continuation of it is refused.
fn leads_to_refusal(dfa: &Dfa, verdicts: &[PathVerdict]) -> Vec<bool> {
    let mut before: Vec<Vec<u16>> = vec![Vec::new(); verdicts.len()];
    for state in 1..verdicts.len() {
        let mut last = 0;
        for next in dfa.row(state) {
            if *next != 0 && *next != last {
                before[usize::from(*next)].push(state as u16);
                last = *next;
            }
        }
    }
    let mut leads: Vec<bool> = verdicts.iter().map(|verdict| verdict.deny != 0).collect();
    let mut open: Vec<u16> = (0..verdicts.len())
        .filter(|s| leads[*s])
        .map(|s| s as u16)
        .collect();
    while let Some(state) = open.pop() {
        for previous in &before[usize::from(state)] {
            if !std::mem::replace(&mut leads[usize::from(*previous)], true) {
                open.push(*previous);
            }
        }
    }
    leads
}
