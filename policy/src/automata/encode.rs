// SPDX-License-Identifier: Apache-2.0
//! The kernel's layout: rows of a power of two, verdicts in a table of distinct ones.

use super::determinize::Dfa;
use crate::plan::automaton::{Automaton, PathVerdict};
use std::collections::HashMap;

pub(super) fn encode(dfa: &Dfa, by_state: &[PathVerdict]) -> Automaton {
    let stride = dfa.class_count.next_power_of_two();
    let mut verdicts = vec![PathVerdict::default()];
    let mut numbers = HashMap::from([(PathVerdict::default(), 0u16)]);
    let accept = by_state
        .iter()
        .map(|verdict| {
            *numbers.entry(*verdict).or_insert_with(|| {
                verdicts.push(*verdict);
                // Never more than states, which 16 bits number.
                (verdicts.len() - 1) as u16
            })
        })
        .collect();
    let mut transitions = Vec::with_capacity(by_state.len() * stride);
    for state in 0..by_state.len() {
        transitions.extend_from_slice(dfa.row(state));
        transitions.resize((state + 1) * stride, 0);
    }
    Automaton {
        classes: dfa.classes,
        stride_shift: stride.trailing_zeros() as u8,
        start: 1,
        transitions,
        accept,
        verdicts,
    }
}
