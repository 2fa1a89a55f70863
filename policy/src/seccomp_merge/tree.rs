// SPDX-License-Identifier: Apache-2.0
//! Calls of which several arguments, or bits of one, are compared: a decision tree over the halves of the arguments.
//!
//! Every comparison is made into comparisons of bits. On each level of the tree all rules look at the same bits of the
//! same half of an argument, or at none, and of the comparisons of one level exactly one holds for any value: whatever
//! libseccomp tries first, it goes the right way. Of the high half, only what includes 0 gets rules.

use super::action::Action;
use super::condition::Condition;
use super::resolve::{ARGUMENTS, CallRule, Candidate, Conditions, MAX_RULES, verdict};

/// Two halves an argument, the high one first, as libseccomp compares them.
const HALVES: usize = ARGUMENTS * 2;
/// Most alternatives that the candidates' conditions are split into.
const MAX_ALTERNATIVES: usize = 1024;
/// Most nodes that are looked at, whether or not they get rules.
const MAX_NODES: usize = 4096;

/// `half & mask == expected`; the mask may be empty.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Bits {
    mask: u32,
    expected: u32,
}

impl Bits {
    fn and(self, other: Self) -> Option<Self> {
        ((self.expected ^ other.expected) & self.mask & other.mask == 0).then_some(Self {
            mask: self.mask | other.mask,
            expected: self.expected | other.expected,
        })
    }

    /// What does not meet it: the first bit differs, or the second while the first agrees, and so on.
    fn not(self) -> impl Iterator<Item = Self> {
        (0..32)
            .map(|bit| 1u32 << bit)
            .filter(move |bit| self.mask & bit != 0)
            .map(move |bit| {
                let mask = self.mask & (bit | (bit - 1));
                Self {
                    mask,
                    expected: (self.expected ^ bit) & mask,
                }
            })
    }
}

/// One way for a candidate to hold.
#[derive(Clone, Copy)]
struct Alternative<'a> {
    candidate: Candidate<'a>,
    bits: [Bits; HALVES],
}

impl Alternative<'_> {
    /// Lets a refusal of values below 2^32 hold whatever the high half is. The kernel does not look at that of an `int`,
    /// and a rule that looks at less is stricter.
    fn for_any_high_half(mut self) -> Self {
        for bits in self
            .bits
            .iter_mut()
            .step_by(2)
            .filter(|bits| bits.expected == 0)
        {
            *bits = Bits::default();
        }
        self
    }
}

/// The rules for a call; `None` when they would be too many.
pub(super) fn resolve(default: Action, candidates: &[Candidate<'_>]) -> Option<Vec<CallRule>> {
    let mut alternatives = Vec::new();
    for candidate in candidates {
        let restricts = !candidate.own || candidate.rule.action.kind > default.kind;
        alternatives.extend(
            split(*candidate)?
                .into_iter()
                .map(|a| if restricts { a.for_any_high_half() } else { a }),
        );
        if alternatives.len() > MAX_ALTERNATIVES {
            return None;
        }
    }
    let mut tree = Tree {
        default,
        rules: Vec::new(),
        nodes: 0,
    };
    tree.grow(&alternatives, [Bits::default(); HALVES], 0)?;
    Some(tree.rules)
}

/// A candidate's conditions in bits, as alternatives.
fn split(candidate: Candidate<'_>) -> Option<Vec<Alternative<'_>>> {
    let mut alternatives = vec![Alternative {
        candidate,
        bits: [Bits::default(); HALVES],
    }];
    for (argument, condition) in candidate.rule.when.iter().enumerate() {
        let Some(condition) = condition else { continue };
        let masks = condition.in_bits();
        if alternatives.len() * masks.len() > MAX_ALTERNATIVES {
            return None;
        }
        alternatives = alternatives
            .iter()
            .flat_map(|alternative| {
                masks.iter().map(|(mask, expected)| {
                    let mut alternative = *alternative;
                    alternative.bits[argument * 2] = Bits {
                        mask: (mask >> 32) as u32,
                        expected: (expected >> 32) as u32,
                    };
                    alternative.bits[argument * 2 + 1] = Bits {
                        mask: *mask as u32,
                        expected: *expected as u32,
                    };
                    alternative
                })
            })
            .collect();
    }
    Some(alternatives)
}

struct Tree {
    default: Action,
    rules: Vec<CallRule>,
    nodes: usize,
}

impl Tree {
    /// Writes the rule of one leaf; `None` when there are too many.
    ///
    /// Where only the high half of an argument is compared, that is a rule for each value of the low half's first bit. A
    /// 32-bit architecture has no high halves, so that for it such a comparison could not fail. libseccomp (seen in 2.5.4)
    /// shares what comes after it between the architectures, and the program went on with the argument's high half where
    /// it should have loaded another argument: it allowed what no rule did.
    fn write(&mut self, action: Action, path: &[Bits; HALVES]) -> Option<()> {
        if action == self.default {
            return Some(());
        }
        let mut paths = vec![*path];
        for low in (1..HALVES).step_by(2) {
            if path[low - 1].mask == 0 || path[low].mask != 0 {
                continue;
            }
            let with_bit = |path: &[Bits; HALVES], expected| {
                let mut path = *path;
                path[low] = Bits { mask: 1, expected };
                path
            };
            paths = paths
                .iter()
                .flat_map(|path| [with_bit(path, 0), with_bit(path, 1)])
                .collect();
        }
        self.rules.extend(paths.iter().map(|path| CallRule {
            action,
            when: conditions(path),
        }));
        (self.rules.len() <= MAX_RULES).then_some(())
    }

    /// Writes the rules below one node: `alive` are the alternatives whose bits in the halves before `half` agree.
    fn grow(&mut self, alive: &[Alternative<'_>], path: [Bits; HALVES], half: usize) -> Option<()> {
        self.nodes += 1;
        if self.nodes > MAX_NODES {
            return None;
        }
        // What the rules say that need nothing further may be all there is to say.
        let certain = alive
            .iter()
            .filter(|a| a.bits[half..].iter().all(|bits| bits.mask == 0));
        let certain = verdict(self.default, certain.map(|a| a.candidate));
        let Some(half) = (half..HALVES).find(|half| alive.iter().any(|a| a.bits[*half].mask != 0))
        else {
            return self.write(certain, &path);
        };
        let final_action = final_action(self.default, alive, half);
        let settles = |a: &Alternative<'_>| {
            Some(a.candidate.rule.action) == final_action
                && !a.candidate.own
                && a.bits[half + 1..].iter().all(|bits| bits.mask == 0)
        };
        let comparisons = |settling| {
            let these = alive.iter().filter(move |a| settles(a) == settling);
            these.map(move |a| (a.bits[half], settling))
        };
        for (cell, settled) in cells(comparisons(true).chain(comparisons(false)))? {
            let holding: Vec<_> = alive
                .iter()
                .filter(|a| a.bits[half].and(cell).is_some())
                .copied()
                .collect();
            if half % 2 == 0 && cell.expected != 0 {
                // 32-bit architectures would take a rule for this cell as one for small values. Without one the default
                // holds, which must do.
                if holding
                    .iter()
                    .any(|a| a.candidate.rule.action.kind > self.default.kind)
                {
                    return None;
                }
                continue;
            }
            let mut path = path;
            path[half] = cell;
            if let Some(action) = final_action.filter(|_| settled) {
                self.write(action, &path)?;
            } else {
                self.grow(&holding, path, half + 1)?;
            }
        }
        Some(())
    }
}

/// The strictest action of the policy's, where nothing else that is alive can take its place: where such a rule holds,
/// no further comparison changes anything. Without this, `n` bits that are refused each would make `2^n` cells.
fn final_action(default: Action, alive: &[Alternative<'_>], half: usize) -> Option<Action> {
    let of = |own| alive.iter().filter(move |a| a.candidate.own == own);
    let strictest = |own| of(own).map(|a| a.candidate.rule.action).max();
    // Where a rule of the own filter holds anyway, its default does not.
    let certain = of(true).any(|a| a.bits[half..].iter().all(|bits| bits.mask == 0));
    let own = strictest(true)
        .into_iter()
        .chain((!certain).then_some(default))
        .map(|action| action.kind)
        .max();
    strictest(false).filter(|action| own.is_none_or(|own| action.kind > own))
}

/// Comparisons exactly one of which holds for any value, each of them within or outside every one of the given ones;
/// but what is within one that settles the matter is divided no further. Those come first.
fn cells(comparisons: impl Iterator<Item = (Bits, bool)>) -> Option<Vec<(Bits, bool)>> {
    let mut seen: Vec<Bits> = Vec::new();
    let mut cells = vec![(Bits::default(), false)];
    for (comparison, settles) in comparisons {
        if comparison.mask == 0 && !settles || seen.contains(&comparison) {
            continue;
        }
        seen.push(comparison);
        let refine = |(cell, settled): &(Bits, bool)| {
            let within = cell.and(comparison);
            match within {
                _ if *settled => vec![(*cell, true)],
                None => vec![(*cell, false)],
                Some(within) if within == *cell => vec![(within, settles)],
                Some(within) => comparison
                    .not()
                    .filter_map(|outside| Some((cell.and(outside)?, false)))
                    .chain([(within, settles)])
                    .collect(),
            }
        };
        cells = cells.iter().flat_map(refine).collect();
        if cells.len() > MAX_ALTERNATIVES {
            return None;
        }
    }
    Some(cells)
}

fn conditions(path: &[Bits; HALVES]) -> Conditions {
    let mut when = Conditions::default();
    for (argument, condition) in when.iter_mut().enumerate() {
        let (high, low) = (path[argument * 2], path[argument * 2 + 1]);
        let mask = u64::from(high.mask) << 32 | u64::from(low.mask);
        let expected = u64::from(high.expected) << 32 | u64::from(low.expected);
        *condition = Condition::masked(mask, expected);
    }
    when
}
