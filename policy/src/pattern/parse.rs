// SPDX-License-Identifier: Apache-2.0
//! The pattern language: text to token sequences, one for each way through the braces.

use super::token::{ByteSet, Token};
use super::{MAX_ALTERNATIVES, MAX_TOKENS, PatternError};

const MAX_NESTING: usize = 8;

pub(super) struct Parser<'a> {
    text: &'a [u8],
    at: usize,
}

impl<'a> Parser<'a> {
    pub(super) fn new(text: &'a [u8]) -> Self {
        Self { text, at: 0 }
    }

    pub(super) fn parse(mut self) -> Result<Vec<Vec<Token>>, PatternError> {
        let alternatives = self.sequence(0)?;
        if self.at < self.text.len() {
            return Err(PatternError::CloseBrace(self.at));
        }
        Ok(alternatives)
    }

    /// Parses up to the end, or inside braces up to `,` or `}`.
    fn sequence(&mut self, nesting: usize) -> Result<Vec<Vec<Token>>, PatternError> {
        let mut sequences = vec![Vec::new()];
        while let Some(&byte) = self.text.get(self.at) {
            let start = self.at;
            let token = match byte {
                b'}' => break,
                b',' if nesting > 0 => break,
                b'{' => {
                    sequences = product(&sequences, &self.braces(nesting)?)?;
                    continue;
                }
                b'[' => self.set()?,
                b'*' => self.stars()?,
                b'?' => {
                    self.at += 1;
                    Token::Set(ByteSet::COMPONENT)
                }
                b'\\' => {
                    let escaped = *self.text.get(start + 1).ok_or(PatternError::Backslash)?;
                    self.at += 2;
                    Token::Byte(escaped)
                }
                other => {
                    self.at += 1;
                    Token::Byte(other)
                }
            };
            for sequence in &mut sequences {
                sequence.push(token);
            }
            check_size(&sequences)?;
        }
        Ok(sequences)
    }

    fn braces(&mut self, nesting: usize) -> Result<Vec<Vec<Token>>, PatternError> {
        let open = self.at;
        if nesting == MAX_NESTING {
            return Err(PatternError::Nesting(open));
        }
        let mut alternatives = Vec::new();
        loop {
            self.at += 1;
            alternatives.extend(self.sequence(nesting + 1)?);
            check_size(&alternatives)?;
            match self.text.get(self.at) {
                Some(b',') => {}
                Some(_) => break,
                None => return Err(PatternError::OpenBrace(open)),
            }
        }
        self.at += 1;
        Ok(alternatives)
    }

    fn stars(&mut self) -> Result<Token, PatternError> {
        let count = self.text[self.at..]
            .iter()
            .take_while(|b| **b == b'*')
            .count();
        if count > 2 {
            return Err(PatternError::Stars(self.at));
        }
        self.at += count;
        Ok(if count == 2 { Token::Any } else { Token::Star })
    }

    /// `[...]`; a `]` right after the opening (or after `^`) is an element, as in AppArmor and POSIX.
    fn set(&mut self) -> Result<Token, PatternError> {
        let open = self.at;
        let never_closed = PatternError::Set(open, "is never closed");
        let mut at = open + 1;
        let negated = self.text.get(at) == Some(&b'^');
        at += usize::from(negated);
        let first = at;
        let mut set = ByteSet::default();
        loop {
            let byte = *self.text.get(at).ok_or(never_closed.clone())?;
            if byte == b']' && at > first {
                break;
            }
            let low = self.element(&mut at).ok_or(never_closed.clone())?;
            let is_range = self.text.get(at) == Some(&b'-')
                && !matches!(self.text.get(at + 1), None | Some(b']'));
            let high = if is_range {
                at += 1;
                self.element(&mut at).ok_or(never_closed.clone())?
            } else {
                low
            };
            if low > high {
                return Err(PatternError::Set(open, "has a range that runs backwards"));
            }
            (low..=high).for_each(|b| set.insert(b));
        }
        self.at = at + 1;
        if !negated && set.contains(b'/') {
            return Err(PatternError::Set(
                open,
                "holds `/`, which a set never matches",
            ));
        }
        let set = if negated {
            set.complement_in_component()
        } else {
            set
        };
        if set.is_empty() {
            return Err(PatternError::Set(open, "matches nothing"));
        }
        Ok(Token::Set(set))
    }

    fn element(&self, at: &mut usize) -> Option<u8> {
        if self.text.get(*at) == Some(&b'\\') {
            *at += 1;
        }
        let byte = self.text.get(*at).copied();
        *at += 1;
        byte
    }
}

fn product(left: &[Vec<Token>], right: &[Vec<Token>]) -> Result<Vec<Vec<Token>>, PatternError> {
    if left.len() * right.len() > MAX_ALTERNATIVES {
        return Err(PatternError::Alternatives);
    }
    let out: Vec<Vec<Token>> = left
        .iter()
        .flat_map(|l| right.iter().map(|r| [&l[..], &r[..]].concat()))
        .collect();
    check_size(&out)?;
    Ok(out)
}

fn check_size(sequences: &[Vec<Token>]) -> Result<(), PatternError> {
    if sequences.len() > MAX_ALTERNATIVES
        || sequences.iter().map(Vec::len).sum::<usize>() > MAX_TOKENS
    {
        return Err(PatternError::Alternatives);
    }
    Ok(())
}
