// SPDX-License-Identifier: Apache-2.0
//! All patterns as one nondeterministic automaton whose states are shared by equal remainders.

use crate::pattern::{ByteSet, Token};
use crate::plan::automaton::PathVerdict;
use std::collections::HashMap;

/// What a pattern's match means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Payload {
    /// The path has this verdict.
    Verdict(PathVerdict),
    /// The path is a directory below which this remainder is protected.
    Ancestor(u32),
    /// The mount rule of this number holds.
    Mount(usize),
}

impl Payload {
    /// Whether a match of `other` adds nothing to a match of this one.
    fn covers(self, other: Self) -> bool {
        match (self, other) {
            (Self::Verdict(a), Self::Verdict(b)) => {
                a.deny & b.deny == b.deny
                    && a.audit & b.audit == b.audit
                    && a.allow & b.allow == b.allow
            }
            _ => self == other,
        }
    }
}

/// Index of a state.
pub(super) type State = u32;
/// Index of a payload.
pub(super) type PayloadId = u32;

/// What a state reads. States with equal remainder and payload are one state, which keeps the result nearly minimal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Step {
    /// End of a pattern.
    Accept,
    /// Reads a byte of the set and goes on.
    One(ByteSet, State),
    /// Reads bytes of the set, any number of them.
    Loop(ByteSet, State),
    /// Reads any bytes, and goes on after a `/`.
    UntilSlash(State),
}

#[derive(Debug, Default)]
pub(super) struct Nfa {
    steps: Vec<(Step, PayloadId)>,
    /// For each state, itself and what it reaches without reading.
    closures: Vec<Vec<State>>,
    payloads: Vec<Payload>,
    states: HashMap<(Step, PayloadId), State>,
    payload_ids: HashMap<Payload, PayloadId>,
    start: Vec<State>,
    anywhere: Vec<State>,
}

impl Nfa {
    /// Adds a pattern.
    pub(super) fn add(&mut self, tokens: &[Token], payload: Payload) {
        let state = self.sequence(tokens, payload);
        self.start.extend_from_slice(&self.closures[state as usize]);
    }

    /// Adds a pattern for texts without NUL that may begin anywhere in them.
    pub(super) fn add_anywhere(&mut self, tokens: &[Token], payload: Payload) {
        let state = self.sequence(tokens, payload);
        self.anywhere
            .extend_from_slice(&self.closures[state as usize]);
    }

    fn sequence(&mut self, tokens: &[Token], payload: Payload) -> State {
        let payload = *self.payload_ids.entry(payload).or_insert_with(|| {
            self.payloads.push(payload);
            (self.payloads.len() - 1) as PayloadId
        });
        let mut state = self.state(Step::Accept, payload);
        for token in tokens.iter().rev() {
            let step = match *token {
                Token::Byte(byte) => Step::One(ByteSet::single(byte), state),
                Token::Set(set) => Step::One(set, state),
                Token::Star => Step::Loop(ByteSet::COMPONENT, state),
                Token::Any => Step::Loop(ByteSet::ANY, state),
                Token::Deep => Step::UntilSlash(state),
            };
            state = self.state(step, payload);
        }
        state
    }

    fn state(&mut self, step: Step, payload: PayloadId) -> State {
        if let Some(state) = self.states.get(&(step, payload)) {
            return *state;
        }
        let state = self.steps.len() as State;
        let mut closure = vec![state];
        if let Step::Loop(_, next) | Step::UntilSlash(next) = step {
            closure.extend_from_slice(&self.closures[next as usize]);
        }
        self.steps.push((step, payload));
        self.closures.push(closure);
        self.states.insert((step, payload), state);
        state
    }

    pub(super) fn is_empty(&self) -> bool {
        self.start.is_empty() && self.anywhere.is_empty()
    }

    /// States before the first byte.
    pub(super) fn start(&self) -> &[State] {
        &self.start
    }

    /// States that are entered anew before every byte. They belong to every set of states, and are kept out of it.
    pub(super) fn anywhere(&self) -> &[State] {
        &self.anywhere
    }

    pub(super) fn step(&self, state: State) -> Step {
        self.steps[state as usize].0
    }

    pub(super) fn closure(&self, state: State) -> &[State] {
        &self.closures[state as usize]
    }

    pub(super) fn payload(&self, id: PayloadId) -> Payload {
        self.payloads[id as usize]
    }

    /// The payload of the pattern that a state ends.
    pub(super) fn accepted(&self, state: State) -> Option<PayloadId> {
        let (step, payload) = self.steps[state as usize];
        (step == Step::Accept).then_some(payload)
    }

    /// Every distinct set of bytes that some state reads.
    pub(super) fn byte_sets(&self) -> Vec<ByteSet> {
        let mut sets: Vec<ByteSet> = self
            .steps
            .iter()
            .filter_map(|(step, _)| match step {
                Step::One(set, _) | Step::Loop(set, _) => Some(*set),
                Step::UntilSlash(_) => Some(ByteSet::ANY),
                Step::Accept => None,
            })
            .chain([ByteSet::single(b'/'), ByteSet::ANY])
            .collect();
        sets.sort_unstable();
        sets.dedup();
        sets
    }

    /// Makes a set of states of its members in any order: sorted, without those that can add nothing.
    pub(super) fn normalize(&self, set: &mut Vec<State>) {
        set.sort_unstable();
        set.dedup();
        self.drop_certain(set);
    }

    /// Makes a set of members in any order and of an ordered set, in `set`, whose content before does not matter.
    pub(super) fn join(&self, members: &mut [State], ordered: &[State], set: &mut Vec<State>) {
        set.clear();
        members.sort_unstable();
        let mut ordered = ordered.iter().copied().peekable();
        for member in members.iter().copied() {
            while let Some(other) = ordered.next_if(|other| *other < member) {
                set.push(other);
            }
            if set.last() != Some(&member) {
                set.push(member);
            }
            ordered.next_if_eq(&member);
        }
        set.extend(ordered);
        self.drop_certain(set);
    }

    /// Drops states that can add nothing: what a `**` at the end of a pattern already grants for every continuation need
    /// not be looked for any more.
    fn drop_certain(&self, set: &mut Vec<State>) {
        let forever = |state: &State| match self.step(*state) {
            Step::Loop(ByteSet::ANY, next) if self.step(next) == Step::Accept => {
                Some((*state, next, self.steps[*state as usize].1))
            }
            _ => None,
        };
        let all: Vec<(State, State, PayloadId)> = set.iter().filter_map(forever).collect();
        if all.is_empty() {
            return;
        }
        // Equal payloads would be one state, so of two that cover each other there is but one.
        let covers = |a: PayloadId, b: PayloadId| self.payload(a).covers(self.payload(b));
        let (mut verdicts, mut others) = (Vec::new(), Vec::new());
        for one @ (_, _, payload) in &all {
            match self.payload(*payload) {
                Payload::Verdict(_) => verdicts.push(*one),
                // Covers nothing but itself.
                _ => others.push(*one),
            }
        }
        let whole = verdicts.clone();
        verdicts.retain(|(_, _, payload)| {
            whole
                .iter()
                .all(|(_, _, other)| other == payload || !covers(*other, *payload))
        });
        others.sort_unstable_by_key(|(_, _, payload)| *payload);
        set.retain(|state| {
            let payload = self.steps[*state as usize].1;
            let kept =
                |(kept, accept, _): &(State, State, PayloadId)| state == kept || state == accept;
            if let Payload::Verdict(_) = self.payload(payload) {
                verdicts.iter().any(kept)
                    || !verdicts.iter().any(|(_, _, other)| covers(*other, payload))
            } else {
                let same = others.binary_search_by_key(&payload, |(_, _, payload)| *payload);
                same.is_err() || same.is_ok_and(|at| kept(&others[at]))
            }
        });
    }
}
