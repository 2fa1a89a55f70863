// SPDX-License-Identifier: Apache-2.0
//! Rules in the maps: as the automata that the policy library makes of them, and as a list.

use anyhow::{Context, Result, ensure};
use varmor_bpf_abi::layout::{
    AutomatonHead, AutomatonRef, Class, Container, Plain as _, Profile, Verdict,
};
use varmor_bpf_abi::sys::{ANY, Map, MapType, Shape};
use varmor_policy::automata::compile_paths;
use varmor_policy::pattern::Pattern;
use varmor_policy::plan::automaton::{Automaton, PERM_READ, PathVerdict};

use super::programs::Programs;
use crate::rules::PathRule;

/// Rules of a set of the list; as in `kernel/linear.h`.
pub const LINEAR_RULES: usize = 64;
const LINEAR_PREFIX: u32 = 4;
const LINEAR_SUFFIX: u32 = 8;
const LINEAR_BYTES: usize = 64;

/// Makes a container with these rules. `key` names it, its profile and its automata.
///
/// # Errors
///
/// Fails when the rules can't be compiled, and where the kernel refuses the maps.
pub fn insert_container(programs: &Programs, key: u64, rules: &[PathRule]) -> Result<()> {
    let verdict = PathVerdict {
        deny: PERM_READ,
        audit: PERM_READ,
        ..PathVerdict::default()
    };
    let rules = rules
        .iter()
        .map(|rule| Ok((Pattern::path(&rule.pattern())?, verdict)))
        .collect::<Result<Vec<_>>>()
        .context("parsing the bench's own patterns")?;
    let automata = compile_paths(&rules).context("compiling the bench's own rules")?;
    let mut profile = Profile {
        key,
        generation: key,
        ..Profile::default()
    };
    // Two automata of one profile may be of the same class and then share a map.
    profile.forward = insert_automaton(programs, key << 1, automata.forward.as_ref())?;
    profile.backward = insert_automaton(programs, key << 1 | 1, automata.backward.as_ref())?;
    insert_array(programs.map("profiles"), key, &profile.to_bytes())?;
    let container = Container {
        profile: key,
        ..Container::default()
    };
    programs
        .map("containers")
        .update(&key.to_ne_bytes(), &container.to_bytes(), ANY)
        .context("inserting a container")
}

fn insert_automaton(
    programs: &Programs,
    key: u64,
    automaton: Option<&Automaton>,
) -> Result<AutomatonRef> {
    let Some(automaton) = automaton else {
        return Ok(AutomatonRef::default());
    };
    let class = Class::ALL
        .into_iter()
        .find(|class| {
            automaton.transitions.len() <= class.transitions()
                && automaton.accept.len() <= class.states()
                && automaton.verdicts.len() <= class.verdicts()
        })
        .context("no class of automata is large enough")?;
    let mut bytes = vec![0; class.size()];
    let head = AutomatonHead {
        start: automaton.start.into(),
        shift: automaton.stride_shift.into(),
        classes: automaton.classes,
    };
    let verdicts = automaton.verdicts.iter().map(|verdict| {
        let PathVerdict {
            deny,
            audit,
            allow,
            ancestors,
        } = *verdict;
        Verdict {
            deny,
            audit,
            allow,
            ancestors,
        }
        .to_bytes()
    });
    put(&mut bytes, 0, &head.to_bytes());
    put(
        &mut bytes,
        Class::verdicts_at(),
        &verdicts.flatten().collect::<Vec<_>>(),
    );
    put(&mut bytes, class.accept_at(), &words(&automaton.accept));
    put(&mut bytes, class.next_at(), &words(&automaton.transitions));
    insert_array(programs.map(class.map()), key, &bytes)?;
    Ok(AutomatonRef {
        key,
        class: class.number(),
        permissions: PERM_READ.into(),
    })
}

fn words(words: &[u16]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_ne_bytes()).collect()
}

fn put(bytes: &mut [u8], at: usize, part: &[u8]) {
    bytes[at..at + part.len()].copy_from_slice(part);
}

/// Inserts an array of one entry into a map of maps.
fn insert_array(outer: &Map, key: u64, value: &[u8]) -> Result<()> {
    let value_size = u32::try_from(value.len()).context("a value of more than 4 GiB")?;
    let shape = Shape {
        map_type: MapType::ARRAY,
        key_size: 4,
        value_size,
        max_entries: 1,
    };
    let inner = Map::create(shape, 0, "bench").context("making an inner map")?;
    inner
        .update(&0_u32.to_ne_bytes(), value, ANY)
        .context("filling an inner map")?;
    outer
        .update_map(&key.to_ne_bytes(), &inner, ANY)
        .context("inserting an inner map")
}

/// Makes the rules a set of the list.
///
/// # Errors
///
/// Fails for more than [`LINEAR_RULES`] rules, and for one whose text has no room.
pub fn insert_list(programs: &Programs, set: u32, rules: &[PathRule]) -> Result<()> {
    ensure!(
        rules.len() <= LINEAR_RULES,
        "a set has room for {LINEAR_RULES} rules"
    );
    for (number, rule) in (0_u32..).zip(rules) {
        let (flags, prefix, suffix) = match rule {
            PathRule::Prefix(text) => (LINEAR_PREFIX, text.bytes().collect(), Vec::new()),
            PathRule::Suffix(text) => (LINEAR_SUFFIX, Vec::new(), text.bytes().rev().collect()),
        };
        let mut bytes = Vec::new();
        // mode (deny), permissions, flags: three words, as `struct linear_rule` has them.
        for word in [1, u32::from(PERM_READ), flags] {
            bytes.extend(word.to_ne_bytes());
        }
        bytes.extend(padded(prefix)?);
        bytes.extend(padded(suffix)?);
        let key = set * LINEAR_RULES as u32 + number;
        programs
            .map("linear_rules")
            .update(&key.to_ne_bytes(), &bytes, ANY)
            .context("inserting a rule into the list")?;
    }
    Ok(())
}

fn padded(mut text: Vec<u8>) -> Result<Vec<u8>> {
    ensure!(text.len() < LINEAR_BYTES, "a rule of {} bytes", text.len());
    text.resize(LINEAR_BYTES, 0);
    Ok(text)
}
