// SPDX-License-Identifier: Apache-2.0
//! The elements of a pattern without braces.

use std::fmt;

/// A set of bytes. Never holds NUL.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, PartialOrd, Ord)]
pub struct ByteSet([u64; 4]);

impl ByteSet {
    /// Every byte but NUL.
    pub const ANY: Self = Self([!1, !0, !0, !0]);
    /// Every byte but NUL and `/`.
    pub const COMPONENT: Self = Self([!(1 | 1 << b'/'), !0, !0, !0]);

    /// One byte.
    pub const fn single(byte: u8) -> Self {
        let mut set = [0; 4];
        set[(byte >> 6) as usize] = 1 << (byte & 63);
        Self(set)
    }

    /// Adds a byte.
    pub fn insert(&mut self, byte: u8) {
        self.0[usize::from(byte >> 6)] |= 1 << (byte & 63);
    }

    /// Whether a byte is in the set.
    pub fn contains(&self, byte: u8) -> bool {
        self.0[usize::from(byte >> 6)] & (1 << (byte & 63)) != 0
    }

    /// The bytes of a component that are not in the set.
    pub fn complement_in_component(&self) -> Self {
        let mut set = Self::COMPONENT;
        for (word, other) in set.0.iter_mut().zip(self.0) {
            *word &= !other;
        }
        set
    }

    /// The only byte of the set, if it has but one.
    pub fn as_single(&self) -> Option<u8> {
        let count: u32 = self.0.iter().map(|word| word.count_ones()).sum();
        let (word, bits) = self.0.iter().enumerate().find(|(_, bits)| **bits != 0)?;
        (count == 1).then(|| word as u8 * 64 + bits.trailing_zeros() as u8)
    }

    /// Whether no byte is in the set.
    pub fn is_empty(&self) -> bool {
        self.0 == [0; 4]
    }
}

impl fmt::Debug for ByteSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set()
            .entries((0..=255u8).filter(|b| self.contains(*b)).map(char::from))
            .finish()
    }
}

/// An element of a pattern.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Token {
    /// This byte.
    Byte(u8),
    /// One byte of the set.
    Set(ByteSet),
    /// `*`: any number of bytes that are not `/`.
    Star,
    /// `**`: any number of bytes.
    Any,
    /// After a `/`: nothing, or any number of bytes and then a `/` (the `**/` of `/a/**/b`).
    Deep,
}

/// Turns `/`, `**`, `/` into `/`, [`Token::Deep`].
pub(super) fn with_deep(tokens: &[Token]) -> Vec<Token> {
    const SLASH: Token = Token::Byte(b'/');
    let mut out = Vec::with_capacity(tokens.len());
    let mut rest = tokens;
    while let [first, tail @ ..] = rest {
        rest = match (*first, tail) {
            (Token::Any, [SLASH, after @ ..]) if out.last() == Some(&SLASH) => {
                out.push(Token::Deep);
                after
            }
            // `/**/**/`: the second adds nothing.
            (Token::Any, [SLASH, after @ ..]) if out.last() == Some(&Token::Deep) => after,
            _ => {
                out.push(*first);
                tail
            }
        };
    }
    out
}

/// Makes `/*` and `/**` mean something below the root: elsewhere `/dir/` is no path, so an empty match cannot occur.
pub(super) fn below_root(mut tokens: Vec<Token>) -> Vec<Token> {
    if let [Token::Byte(b'/'), Token::Star | Token::Any] = tokens[..] {
        tokens.insert(1, Token::Set(ByteSet::COMPONENT));
    }
    tokens
}

/// The tokens that match the reversed bytes.
pub fn reversed(tokens: &[Token]) -> Vec<Token> {
    let mut out: Vec<Token> = tokens.iter().rev().copied().collect();
    // Read backwards, `/ (.* /)?` is `(/ .*)? /`, which is `/ (.* /)?` again.
    for i in 1..out.len() {
        if out[i] == Token::Byte(b'/') && out[i - 1] == Token::Deep {
            out.swap(i - 1, i);
        }
    }
    out
}
