// SPDX-License-Identifier: Apache-2.0
//! Subset construction with a bound on states and on work.

use super::AutomatonError;
use super::nfa::{Nfa, PayloadId, State, Step};
use crate::pattern::ByteSet;
use std::collections::HashMap;

/// Most single moves of the construction: well under a second in a release build.
const MAX_WORK: usize = 1 << 24;
/// Most members of all the state sets together; they are kept until the end, at 4 bytes each.
const MAX_MEMBERS: usize = 1 << 23;

/// A deterministic automaton; state 0 is dead, state 1 is the start.
pub(super) struct Dfa {
    /// Byte to class.
    pub(super) classes: [u8; 256],
    /// Number of classes.
    pub(super) class_count: usize,
    /// Next states, `class_count` entries a state.
    pub(super) transitions: Vec<u16>,
    /// Payloads of the patterns that end in a state.
    pub(super) accepting: Vec<Vec<PayloadId>>,
}

impl Dfa {
    pub(super) fn next(&self, state: u16, byte: u8) -> u16 {
        self.transitions
            [usize::from(state) * self.class_count + usize::from(self.classes[usize::from(byte)])]
    }

    pub(super) fn row(&self, state: usize) -> &[u16] {
        &self.transitions[state * self.class_count..][..self.class_count]
    }
}

pub(super) fn determinize(nfa: &Nfa) -> Result<Dfa, AutomatonError> {
    let (classes, class_count) = byte_classes(&nfa.byte_sets());
    let mut moves = Moves::new(nfa, &classes, class_count);
    let mut builder = Builder::new(nfa);
    let mut first = nfa.start().to_vec();
    nfa.normalize(&mut first);
    builder.number(&first)?;

    // What begins anew at every byte is the same for every state, and mostly all there is.
    let scanning = !nfa.anywhere().is_empty();
    let mut anew: Vec<(Vec<State>, Option<u16>)> = Vec::new();
    for bucket in moves.of(nfa.anywhere())? {
        bucket.sort_unstable();
        bucket.dedup();
        anew.push((bucket.clone(), None));
    }
    let mut joined = Vec::new();
    let nul = usize::from(classes[0]);

    let mut transitions = vec![0; class_count];
    let mut at = 1;
    while at < builder.sets.len() {
        let set = std::mem::take(&mut builder.sets[at]);
        for (class, bucket) in moves.of(&set)?.iter_mut().enumerate() {
            let (anew, number) = &mut anew[class];
            let next = match number {
                _ if (scanning && class == nul) || (!scanning && bucket.is_empty()) => 0,
                Some(number) if bucket.is_empty() => *number,
                _ => {
                    let alone = bucket.is_empty();
                    nfa.join(bucket, anew, &mut joined);
                    let next = builder.number(&joined)?;
                    if alone {
                        *number = Some(next);
                    }
                    next
                }
            };
            transitions.push(next);
        }
        at += 1;
    }
    Ok(Dfa {
        classes,
        class_count,
        transitions,
        accepting: builder.accepting,
    })
}

/// Where sets of states go, byte class by byte class.
struct Moves<'a> {
    nfa: &'a Nfa,
    members: ClassMembers,
    slash: usize,
    buckets: Vec<Vec<State>>,
    work: usize,
}

impl<'a> Moves<'a> {
    fn new(nfa: &'a Nfa, classes: &[u8; 256], class_count: usize) -> Self {
        Self {
            nfa,
            members: ClassMembers::new(classes, class_count),
            slash: usize::from(classes[usize::from(b'/')]),
            buckets: vec![Vec::new(); class_count],
            work: 0,
        }
    }

    fn of(&mut self, set: &[State]) -> Result<&mut [Vec<State>], AutomatonError> {
        let Self {
            nfa,
            members,
            buckets,
            work,
            ..
        } = self;
        buckets.iter_mut().for_each(Vec::clear);
        let mut add = |class: usize, states: &[State]| {
            buckets[class].extend_from_slice(states);
            *work += states.len();
        };
        for state in set {
            match nfa.step(*state) {
                Step::Accept => {}
                Step::One(bytes, next) => {
                    members.each(&bytes, |class| add(class, nfa.closure(next)))
                }
                Step::Loop(bytes, _) => {
                    members.each(&bytes, |class| add(class, nfa.closure(*state)))
                }
                Step::UntilSlash(next) => {
                    members.each(&ByteSet::ANY, |class| add(class, &[*state]));
                    add(self.slash, nfa.closure(next));
                }
            }
        }
        if *work > MAX_WORK {
            Err(AutomatonError::TooComplex)
        } else {
            Ok(buckets)
        }
    }
}

struct Builder<'a> {
    nfa: &'a Nfa,
    numbers: HashMap<Box<[State]>, u16>,
    /// Sets whose moves are still to be worked out; emptied one by one.
    sets: Vec<Vec<State>>,
    accepting: Vec<Vec<PayloadId>>,
    kept: usize,
}

impl<'a> Builder<'a> {
    fn new(nfa: &'a Nfa) -> Self {
        Self {
            nfa,
            numbers: HashMap::new(),
            sets: vec![Vec::new()],
            accepting: vec![Vec::new()],
            kept: 0,
        }
    }

    fn number(&mut self, set: &[State]) -> Result<u16, AutomatonError> {
        if let Some(number) = self.numbers.get(set) {
            return Ok(*number);
        }
        let number = u16::try_from(self.sets.len()).map_err(|_| AutomatonError::TooManyStates)?;
        self.kept += set.len();
        if self.kept > MAX_MEMBERS {
            return Err(AutomatonError::TooComplex);
        }
        self.numbers.insert(set.into(), number);
        self.sets.push(set.to_vec());
        let mut payloads: Vec<PayloadId> = set
            .iter()
            .chain(self.nfa.anywhere())
            .filter_map(|state| self.nfa.accepted(*state))
            .collect();
        payloads.sort_unstable();
        payloads.dedup();
        self.accepting.push(payloads);
        Ok(number)
    }
}

/// Bytes that no set tells apart share a class.
fn byte_classes(sets: &[ByteSet]) -> ([u8; 256], usize) {
    let mut classes = [0u8; 256];
    for set in sets {
        let mut renumbered: HashMap<(u8, bool), u8> = HashMap::new();
        for byte in 0..=255u8 {
            let next = renumbered.len() as u8;
            let class = &mut classes[usize::from(byte)];
            *class = *renumbered
                .entry((*class, set.contains(byte)))
                .or_insert(next);
        }
    }
    let count = classes
        .iter()
        .max()
        .map_or(1, |class| usize::from(*class) + 1);
    (classes, count)
}

/// One byte of each class, to ask a set about.
struct ClassMembers {
    representatives: Vec<u8>,
    classes: [u8; 256],
}

impl ClassMembers {
    fn new(classes: &[u8; 256], count: usize) -> Self {
        let mut representatives = vec![0; count];
        for byte in 0..=255u8 {
            representatives[usize::from(classes[usize::from(byte)])] = byte;
        }
        Self {
            representatives,
            classes: *classes,
        }
    }

    fn each(&self, set: &ByteSet, mut visit: impl FnMut(usize)) {
        if let Some(byte) = set.as_single() {
            return visit(usize::from(self.classes[usize::from(byte)]));
        }
        for (class, byte) in self.representatives.iter().enumerate() {
            if set.contains(*byte) {
                visit(class);
            }
        }
    }
}
