// SPDX-License-Identifier: Apache-2.0
//! Exact texts to numbers, in the same form as path rules.

use super::nfa::{Nfa, Payload};
use super::{AutomatonError, compile};
use crate::pattern::Token;
use crate::plan::automaton::{Automaton, PathVerdict};

/// Compiles texts into an automaton that is read from the first byte and tells the number of exactly these texts:
/// [`number_of`] its verdict. `None` without texts.
///
/// # Errors
/// [`AutomatonError`] when the texts need too many states.
pub fn compile_numbers<'a>(
    texts: impl IntoIterator<Item = (&'a str, u64)>,
) -> Result<Option<Automaton>, AutomatonError> {
    let mut nfa = Nfa::default();
    for (text, number) in texts {
        let tokens: Vec<Token> = text.bytes().map(Token::Byte).collect();
        nfa.add(&tokens, Payload::Verdict(verdict_of(number)));
    }
    compile(&nfa, |dfa| {
        dfa.accepting
            .iter()
            .map(|payloads| {
                let numbers = payloads.iter().map(|id| nfa.payload(*id));
                numbers
                    .filter_map(|payload| match payload {
                        Payload::Verdict(verdict) => Some(verdict),
                        Payload::Ancestor(_) | Payload::Mount(_) => None,
                    })
                    .next()
                    .unwrap_or_default()
            })
            .collect()
    })
}

/// The number that a verdict of [`compile_numbers`] stands for; 0 for none. The kernel returns the four fields as one
/// number, `deny` the lowest.
pub fn number_of(verdict: PathVerdict) -> u64 {
    let PathVerdict {
        deny,
        audit,
        allow,
        ancestors,
    } = verdict;
    [ancestors, allow, audit, deny]
        .into_iter()
        .fold(0, |number, part| number << 16 | u64::from(part))
}

fn verdict_of(number: u64) -> PathVerdict {
    let part = |shift: u32| (number >> shift & 0xffff) as u16;
    PathVerdict {
        deny: part(0),
        audit: part(16),
        allow: part(32),
        ancestors: part(48),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exactly_these_texts_have_their_numbers() {
        let texts = [
            ("/bin/sh", 0x1122_3344_5566_7788),
            ("/bin/shell", u64::MAX - 1),
            ("/usr/bin/[", 1),
        ];
        let automaton = compile_numbers(texts).expect("compiles").expect("some");
        let run = |text: &str| number_of(automaton.run(text.bytes()));
        for (text, number) in texts {
            assert_eq!(run(text), number, "{text}");
        }
        for text in [
            "",
            "/",
            "/bin/s",
            "/bin/sh/",
            "/bin/shel",
            "x/bin/sh",
            "/usr/bin/a",
        ] {
            assert_eq!(run(text), 0, "{text}");
        }
        assert_eq!(compile_numbers([]).expect("compiles"), None);
    }

    #[test]
    fn many_targets_fit() {
        let texts: Vec<String> = (0..256)
            .map(|n| format!("/opt/{n}/{}", "x".repeat(200)))
            .collect();
        let numbered = texts
            .iter()
            .zip(1..)
            .map(|(text, number)| (text.as_str(), number));
        let automaton = compile_numbers(numbered).expect("compiles").expect("some");
        assert_eq!(number_of(automaton.run(texts[255].bytes())), 256);
    }
}
