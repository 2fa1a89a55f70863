// SPDX-License-Identifier: Apache-2.0
//! An automaton of a plan as the kernel's programs read it: one of four sizes, its tables at fixed offsets.

use varmor_bpf_abi::layout::{AutomatonHead, Class, Plain, Verdict};
use varmor_policy::plan::automaton::Automaton;

/// Why an automaton can't be loaded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// It has more of something than the largest size class.
    #[error(
        "{found} {what} are more than the {most} that the BPF programs can hold: use fewer or simpler path patterns, or \
         split the policy"
    )]
    TooLarge {
        /// transitions, states or verdicts.
        what: &'static str,
        /// How many it has.
        found: usize,
        /// How many the largest class has.
        most: usize,
    },
    /// Its tables contradict each other: a defect of whatever made it.
    #[error("the automaton is inconsistent: {0}")]
    Inconsistent(String),
}

/// The smallest class that the automaton fits in.
pub fn class_of(automaton: &Automaton) -> Result<Class, Error> {
    let sizes = |class: Class| {
        [
            (
                "transitions",
                automaton.transitions.len(),
                class.transitions(),
            ),
            ("states", automaton.accept.len(), class.states()),
            ("verdicts", automaton.verdicts.len(), class.verdicts()),
        ]
    };
    let fits = |class: &Class| sizes(*class).iter().all(|(_, found, most)| found <= most);
    if let Some(class) = Class::ALL.into_iter().find(fits) {
        return Ok(class);
    }
    let too_large = sizes(Class::Xl)
        .into_iter()
        .find(|(_, found, most)| found > most);
    let (what, found, most) =
        too_large.unwrap_or(("states", automaton.accept.len(), Class::Xl.states()));
    Err(Error::TooLarge { what, found, most })
}

/// Checks what the programs rely on: they mask every index instead of comparing it, so one that is out of range would
/// silently be another.
fn check(automaton: &Automaton) -> Result<(), Error> {
    let states = automaton.accept.len();
    let shift = automaton.stride_shift;
    let broken = |text: String| Err(Error::Inconsistent(text));
    if shift > 15 {
        return broken(format!("rows of 2^{shift} entries"));
    }
    if states << shift != automaton.transitions.len() {
        return broken(format!(
            "{states} states, rows of 2^{shift}, {} transitions",
            automaton.transitions.len()
        ));
    }
    if let Some(class) = automaton
        .classes
        .iter()
        .find(|class| usize::from(**class) >> shift != 0)
    {
        return broken(format!("byte class {class} in rows of 2^{shift}"));
    }
    let state = |state: u16| usize::from(state) < states;
    if !state(automaton.start) || !automaton.transitions.iter().all(|next| state(*next)) {
        return broken(format!(
            "a transition to a state beyond the {states} there are"
        ));
    }
    if automaton.transitions[..1 << shift]
        .iter()
        .any(|next| *next != 0)
        || automaton.accept[0] != 0
    {
        return broken("state 0 is not dead".into());
    }
    if !automaton
        .accept
        .iter()
        .all(|verdict| usize::from(*verdict) < automaton.verdicts.len())
    {
        return broken(format!(
            "an accept entry beyond the {} verdicts there are",
            automaton.verdicts.len()
        ));
    }
    Ok(())
}

/// Every permission that some verdict denies, reports or grants.
pub fn permissions(automaton: &Automaton) -> u32 {
    automaton.verdicts.iter().fold(0, |all, verdict| {
        all | u32::from(verdict.deny | verdict.audit | verdict.allow)
    })
}

/// The automaton's class and its bytes, [`Class::size`] of them.
pub fn encode(automaton: &Automaton) -> Result<(Class, Vec<u8>), Error> {
    let class = class_of(automaton)?;
    check(automaton)?;
    let mut bytes = Vec::with_capacity(class.size());
    AutomatonHead {
        start: automaton.start.into(),
        shift: automaton.stride_shift.into(),
        classes: automaton.classes,
    }
    .put(&mut bytes);
    for verdict in &automaton.verdicts {
        Verdict {
            deny: verdict.deny,
            audit: verdict.audit,
            allow: verdict.allow,
            ancestors: verdict.ancestors,
        }
        .put(&mut bytes);
    }
    bytes.resize(class.accept_at(), 0);
    automaton
        .accept
        .iter()
        .for_each(|verdict| verdict.put(&mut bytes));
    bytes.resize(class.next_at(), 0);
    automaton
        .transitions
        .iter()
        .for_each(|next| next.put(&mut bytes));
    bytes.resize(class.size(), 0);
    Ok((class, bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use varmor_policy::plan::automaton::PathVerdict;

    /// Accepts any input that begins with `/a`.
    pub(crate) fn slash_a() -> Automaton {
        let mut classes = [0; 256];
        classes[usize::from(b'/')] = 1;
        classes[usize::from(b'a')] = 2;
        let mut transitions = vec![0; 4 << 3];
        transitions[(1 << 3) | 1] = 2;
        transitions[(2 << 3) | 2] = 3;
        transitions[3 << 3..].fill(3);
        let verdict = PathVerdict {
            deny: 5,
            audit: 1,
            allow: 0,
            ancestors: 7,
        };
        let verdicts = vec![PathVerdict::default(), verdict];
        Automaton {
            classes,
            stride_shift: 3,
            start: 1,
            transitions,
            accept: vec![0, 0, 0, 1],
            verdicts,
        }
    }

    /// Walks the bytes as the kernel's programs do.
    fn walk(class: Class, bytes: &[u8], input: &[u8]) -> Verdict {
        let half = |at: usize| usize::from(u16::from_ne_bytes([bytes[at], bytes[at + 1]]));
        let head = AutomatonHead::from_bytes(&bytes[..AutomatonHead::SIZE]).unwrap();
        let mut state = head.start as usize;
        for byte in input {
            let row = (state << head.shift) | usize::from(head.classes[usize::from(*byte)]);
            state = half(class.next_at() + 2 * (row & (class.transitions() - 1)));
        }
        let verdict = half(class.accept_at() + 2 * (state & (class.states() - 1)));
        let at = Class::verdicts_at() + Verdict::SIZE * (verdict & (class.verdicts() - 1));
        Verdict::from_bytes(&bytes[at..at + Verdict::SIZE]).unwrap()
    }

    #[test]
    fn the_smallest_class_that_fits_is_taken() {
        let with = |states: usize, shift: u8| Automaton {
            stride_shift: shift,
            transitions: vec![0; states << shift],
            accept: vec![0; states],
            ..slash_a()
        };
        assert_eq!(class_of(&slash_a()), Ok(Class::S));
        assert_eq!(class_of(&with(1024, 3)), Ok(Class::S));
        assert_eq!(class_of(&with(1025, 3)), Ok(Class::M));
        // Few states with long rows, and many with short ones.
        assert_eq!(class_of(&with(257, 8)), Ok(Class::L));
        assert_eq!(class_of(&with(8193, 2)), Ok(Class::L));
        assert_eq!(class_of(&with(4096, 8)), Ok(Class::Xl));
        let error = class_of(&with(4097, 8)).unwrap_err();
        assert_eq!(
            error,
            Error::TooLarge {
                what: "transitions",
                found: 4097 << 8,
                most: 1 << 20
            }
        );
        let verdicts = Automaton {
            verdicts: vec![PathVerdict::default(); 129],
            ..slash_a()
        };
        assert_eq!(class_of(&verdicts), Ok(Class::M));
    }

    #[test]
    fn inconsistent_tables_are_refused() {
        let good = slash_a();
        let mut far = good.clone();
        far.transitions[12] = 4;
        let mut accept = good.clone();
        accept.accept[3] = 2;
        let mut class = good.clone();
        class.classes[0] = 8;
        let mut alive = good.clone();
        alive.transitions[0] = 1;
        for bad in [
            Automaton {
                start: 4,
                ..good.clone()
            },
            Automaton {
                stride_shift: 16,
                ..good.clone()
            },
            Automaton {
                stride_shift: 2,
                ..good.clone()
            },
            Automaton {
                transitions: Vec::new(),
                accept: Vec::new(),
                ..good.clone()
            },
            far,
            accept,
            class,
            alive,
        ] {
            assert!(
                matches!(encode(&bad), Err(Error::Inconsistent(_))),
                "{bad:?}"
            );
        }
        assert!(encode(&good).is_ok());
    }

    #[test]
    fn permissions_are_those_of_all_verdicts() {
        assert_eq!(permissions(&slash_a()), 5);
    }

    proptest! {
        #[test]
        fn the_bytes_walk_as_the_automaton_does(input in prop::collection::vec(prop::sample::select(b"/ab".to_vec()), 0..6)) {
            let automaton = slash_a();
            let (class, bytes) = encode(&automaton).unwrap();
            prop_assert_eq!(bytes.len(), class.size());
            let expected = automaton.run(input.iter().copied());
            let found = walk(class, &bytes, &input);
            let found = PathVerdict {
                deny: found.deny, audit: found.audit, allow: found.allow, ancestors: found.ancestors,
            };
            prop_assert_eq!(found, expected);
        }
    }
}
