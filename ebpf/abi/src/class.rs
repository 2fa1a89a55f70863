// SPDX-License-Identifier: Apache-2.0
//! The sizes in which automata are kept: each class is a map of its own, whose values all have one size.

use crate::layout::{AutomatonHead, Plain, Verdict};

/// Size class of an automaton.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Class {
    /// 8,192 transitions.
    S,
    /// 65,536 transitions.
    M,
    /// 262,144 transitions.
    L,
    /// 1,048,576 transitions.
    Xl,
}

impl Class {
    /// Every class, the smallest first.
    pub const ALL: [Self; 4] = [Self::S, Self::M, Self::L, Self::Xl];

    /// `AUTOMATON_*` of abi.h.
    pub const fn number(self) -> u32 {
        match self {
            Self::S => 1,
            Self::M => 2,
            Self::L => 3,
            Self::Xl => 4,
        }
    }

    /// The class with this number.
    pub fn from_number(number: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|class| class.number() == number)
    }

    /// Pin name of its map.
    pub const fn map(self) -> &'static str {
        match self {
            Self::S => crate::pins::AUTOMATA_S,
            Self::M => crate::pins::AUTOMATA_M,
            Self::L => crate::pins::AUTOMATA_L,
            Self::Xl => crate::pins::AUTOMATA_XL,
        }
    }

    /// Most transitions.
    pub const fn transitions(self) -> usize {
        match self {
            Self::S => 1 << 13,
            Self::M => 1 << 16,
            Self::L => 1 << 18,
            Self::Xl => 1 << 20,
        }
    }

    /// Most states.
    pub const fn states(self) -> usize {
        at_most_u16(self.transitions() / 8)
    }

    /// Most verdicts.
    pub const fn verdicts(self) -> usize {
        at_most_u16(self.transitions() / 64)
    }

    /// Offset of the verdicts in an automaton's bytes; the head comes before.
    pub const fn verdicts_at() -> usize {
        AutomatonHead::SIZE
    }

    /// Offset of the states' accept entries, u16 each.
    pub const fn accept_at(self) -> usize {
        Self::verdicts_at() + self.verdicts() * Verdict::SIZE
    }

    /// Offset of the transitions, u16 each.
    pub const fn next_at(self) -> usize {
        self.accept_at() + self.states() * u16::SIZE
    }

    /// Length in bytes of an automaton of this class.
    pub const fn size(self) -> usize {
        self.next_at() + self.transitions() * u16::SIZE
    }
}

/// As many as a u16 can tell apart.
const fn at_most_u16(number: usize) -> usize {
    if number > 1 << 16 { 1 << 16 } else { number }
}
