// SPDX-License-Identifier: Apache-2.0
//! Matching by the definition of each token, to compare the automata with.

use crate::pattern::{Pattern, Token};

pub(crate) fn matches(pattern: &Pattern, text: &[u8]) -> bool {
    pattern
        .alternatives()
        .iter()
        .any(|tokens| sequence(tokens, text))
}

fn sequence(tokens: &[Token], text: &[u8]) -> bool {
    let Some((first, rest)) = tokens.split_first() else {
        return text.is_empty();
    };
    let splits = |allowed: fn(u8) -> bool| {
        let longest = text.iter().take_while(|b| allowed(**b)).count();
        (0..=longest).any(|length| sequence(rest, &text[length..]))
    };
    match first {
        Token::Byte(byte) => text.first() == Some(byte) && sequence(rest, &text[1..]),
        Token::Set(set) => {
            text.first().is_some_and(|b| set.contains(*b)) && sequence(rest, &text[1..])
        }
        Token::Star => splits(|b| b != b'/' && b != 0),
        Token::Any => splits(|b| b != 0),
        Token::Deep => {
            sequence(rest, text)
                || (0..text.len()).any(|end| text[end] == b'/' && sequence(rest, &text[end + 1..]))
        }
    }
}
