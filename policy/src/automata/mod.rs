// SPDX-License-Identifier: Apache-2.0
//! Patterns to the automata that the kernel walks.
//!
//! A policy's patterns go into two automata: *forward*, for patterns that begin with a literal, and *backward*, read
//! from a path's last byte, for those that begin with `**`. One automaton for both kinds would multiply their states.
//!
//! The subset construction is our own rather than `regex-automata`'s for three reasons: states that can only repeat what
//! is already certain are dropped while building (dozens of `/**/x/**` rules would otherwise multiply to 2^n states),
//! the residue of every state is at hand for the ancestor sets, and work on a tenant's patterns is bounded by counting
//! it. `regex-automata` is the oracle of the property tests.

mod ancestors;
mod determinize;
mod encode;
#[cfg(test)]
pub(crate) mod naive;
mod nfa;
mod numbers;
#[cfg(test)]
mod properties;

use crate::pattern::{Pattern, Token, reversed};
use crate::plan::automaton::{Automaton, PathVerdict};
use crate::plan::bpf::{MountSet, Mounts};
use encode::encode;
use nfa::{Nfa, Payload};
pub use numbers::{compile_numbers, number_of};

/// Why patterns do not fit into an automaton.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AutomatonError {
    /// States are numbered with 16 bits.
    #[error(
        "the patterns need more than 65,535 states; remove rules, or globs (`**` in the middle costs most)"
    )]
    TooManyStates,
    /// The construction was stopped.
    #[error(
        "the patterns are too complex to compile; remove globs (several `*` in one component cost most)"
    )]
    TooComplex,
}

/// The automata for a set of path rules.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PathAutomata {
    /// Read from the path's first byte; `None` without rules.
    pub forward: Option<Automaton>,
    /// Read from the path's last byte; `None` without rules.
    pub backward: Option<Automaton>,
}

/// A pattern and what it says; the field `ancestors` is worked out here and ignored on input.
pub type PathRule = (Pattern, PathVerdict);

/// Compiles path rules.
///
/// # Errors
/// [`AutomatonError`] when the rules need too many states or too much work.
pub fn compile_paths(rules: &[PathRule]) -> Result<PathAutomata, AutomatonError> {
    let mut forward = Nfa::default();
    let mut backward = Nfa::default();
    let mut residues = ancestors::Residues::default();
    for (pattern, verdict) in rules {
        let payload = Payload::Verdict(*verdict);
        if verdict.deny == 0 && verdict.audit == 0 && verdict.allow == 0 {
            continue;
        }
        for tokens in pattern.alternatives() {
            if is_anchored(tokens) {
                forward.add(tokens, payload);
                continue;
            }
            add_backward(&mut backward, tokens, payload);
            // Only what is refused can be shed by moving a directory; a report is no reason to refuse the move.
            if verdict.deny != 0 {
                for (directory, residue) in ancestors::directories(tokens, payload, &mut residues) {
                    add_backward(&mut backward, &directory, Payload::Ancestor(residue));
                }
            }
        }
    }
    Ok(PathAutomata {
        forward: compile(&forward, |dfa| ancestors::forward_verdicts(dfa, &forward))?,
        backward: compile(&backward, |dfa| {
            ancestors::backward_verdicts(dfa, &backward)
        })?,
    })
}

/// A mount rule: file system type (`None` is any), source pattern, and flags.
pub type MountPattern = (Option<String>, Pattern, MountSet);

/// Compiles mount rules into an automaton over `fstype NUL source`.
///
/// # Errors
/// [`AutomatonError`] when the rules need too many states or too much work.
pub fn compile_mounts(rules: &[MountPattern]) -> Result<Option<Mounts>, AutomatonError> {
    let mut nfa = Nfa::default();
    for (index, (fstype, source, _)) in rules.iter().enumerate() {
        let fstype: Vec<Token> = match fstype {
            Some(name) => name.bytes().map(Token::Byte).collect(),
            None => vec![Token::Any],
        };
        for tokens in source.alternatives() {
            nfa.add(
                &[&fstype[..], &[Token::Byte(0)], tokens].concat(),
                Payload::Mount(index),
            );
        }
    }
    let mut sets = vec![MountSet::default()];
    let automaton = compile(&nfa, |dfa| {
        dfa.accepting
            .iter()
            .map(|payloads| {
                let mut set = MountSet::default();
                for id in payloads {
                    if let Payload::Mount(rule) = nfa.payload(*id) {
                        let other = rules[rule].2;
                        set.deny_flags |= other.deny_flags;
                        set.deny_clear |= other.deny_clear;
                        set.audit_flags |= other.audit_flags;
                        set.audit_clear |= other.audit_clear;
                    }
                }
                PathVerdict {
                    ancestors: intern(&mut sets, set),
                    ..PathVerdict::default()
                }
            })
            .collect()
    })?;
    Ok(automaton.map(|automaton| Mounts { automaton, sets }))
}

/// Index of a value in a list of distinct values; the callers' lists are bounded by the number of states.
fn intern<T: PartialEq>(list: &mut Vec<T>, value: T) -> u16 {
    let index = list
        .iter()
        .position(|other| *other == value)
        .unwrap_or_else(|| {
            list.push(value);
            list.len() - 1
        });
    u16::try_from(index).expect("no more distinct values than states")
}

fn compile(
    nfa: &Nfa,
    verdicts: impl FnOnce(&determinize::Dfa) -> Vec<PathVerdict>,
) -> Result<Option<Automaton>, AutomatonError> {
    if nfa.is_empty() {
        return Ok(None);
    }
    let dfa = determinize::determinize(nfa)?;
    let verdicts = verdicts(&dfa);
    Ok(Some(encode(&dfa, &verdicts)))
}

/// Whether a pattern is known from the first byte on; `**` alone, or one `**` after a literal, needs no second look.
fn is_anchored(tokens: &[Token]) -> bool {
    match tokens {
        [Token::Any] => true,
        [Token::Byte(b'/'), Token::Any | Token::Deep, ..] | [Token::Any, ..] => false,
        _ => true,
    }
}

fn add_backward(nfa: &mut Nfa, tokens: &[Token], payload: Payload) {
    match to_backward(tokens).as_slice() {
        [Token::Any, rest @ ..] => nfa.add_anywhere(rest, payload),
        tokens => nfa.add(tokens, payload),
    }
}

/// The tokens for reading from the end. A path ends (read so) in `/`, so there what follows the last `/` is anything.
fn to_backward(tokens: &[Token]) -> Vec<Token> {
    let mut tokens = reversed(tokens);
    if let Some(last @ Token::Deep) = tokens.last_mut() {
        *last = Token::Any;
    }
    tokens
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::automaton::{PERM_EXEC, PERM_READ, PERM_WRITE};
    use std::time::Duration;

    fn deny(pattern: &str, deny: u16) -> PathRule {
        (
            Pattern::path(pattern).expect(pattern),
            PathVerdict {
                deny,
                ..PathVerdict::default()
            },
        )
    }

    fn verdict(automata: &PathAutomata, path: &str) -> (u16, u16, u16) {
        let forward = automata
            .forward
            .as_ref()
            .map(|a| a.run(path.bytes()))
            .unwrap_or_default();
        let backward = automata
            .backward
            .as_ref()
            .map(|a| a.run(path.bytes().rev()))
            .unwrap_or_default();
        (
            forward.deny | backward.deny,
            forward.ancestors,
            backward.ancestors,
        )
    }

    #[test]
    fn verdicts_of_both_automata_add_up() {
        let rules = [
            deny("/etc/**", PERM_WRITE),
            deny("*.log", PERM_READ),
            deny("/etc/x.log", PERM_EXEC),
        ];
        let automata = compile_paths(&rules).expect("compiles");
        for (path, expected) in [
            ("/etc/passwd", PERM_WRITE),
            ("/var/a.log", PERM_READ),
            ("/etc/a.log", PERM_READ | PERM_WRITE),
            ("/etc/x.log", PERM_READ | PERM_WRITE | PERM_EXEC),
            ("/etc", 0),
            ("/etcx", 0),
        ] {
            assert_eq!(verdict(&automata, path).0, expected, "{path}");
        }
    }

    #[test]
    fn the_direction_follows_the_beginning() {
        for (pattern, forward) in [
            ("/etc/shadow", true),
            ("/proc/**/mem", true),
            ("/**", true),
            ("**", true),
            ("/*/a", true),
            ("/**/runc", false),
            ("**/runc", false),
            ("*.log", false),
            ("/**/.ssh/**", false),
        ] {
            let automata = compile_paths(&[deny(pattern, 1)]).expect("compiles");
            assert_eq!(automata.forward.is_some(), forward, "{pattern}");
            assert_eq!(automata.backward.is_some(), !forward, "{pattern}");
        }
    }

    #[test]
    fn ancestors_of_protected_paths_are_known() {
        let rules = [
            deny("/etc/shadow", 3),
            deny("/data/**/secret", 3),
            deny("/**/.ssh/**", 3),
            deny("/**/runc", 2),
        ];
        let automata = compile_paths(&rules).expect("compiles");
        for path in [
            "/etc",
            "/data",
            "/data/a",
            "/data/a/b",
            "/root/.ssh",
            "/root/.ssh/a",
        ] {
            let (_, forward, backward) = verdict(&automata, path);
            assert!(
                forward != 0 || backward != 0,
                "{path} leads to a protected path"
            );
        }
        for path in [
            "/et",
            "/etc2",
            "/etc/shadow",
            "/usr/bin",
            "/usr/bin/runc",
            "/root",
            "/datax",
        ] {
            assert_eq!(
                verdict(&automata, path),
                (verdict(&automata, path).0, 0, 0),
                "{path}"
            );
        }
        // Within /data every directory leads to the same protected paths, and so does every directory below .ssh.
        assert_eq!(
            verdict(&automata, "/data/a"),
            verdict(&automata, "/data/b/c")
        );
        assert_eq!(
            verdict(&automata, "/x/.ssh/a").2,
            verdict(&automata, "/y/.ssh").2
        );
    }

    #[test]
    fn a_report_does_not_hold_a_directory_in_place() {
        let audit = |p: &str| {
            (
                Pattern::path(p).expect(p),
                PathVerdict {
                    audit: 3,
                    ..PathVerdict::default()
                },
            )
        };
        let automata =
            compile_paths(&[audit("/etc/shadow"), audit("/**/.ssh/**")]).expect("compiles");
        assert_eq!(verdict(&automata, "/etc"), (0, 0, 0));
        assert_eq!(verdict(&automata, "/root/.ssh"), (0, 0, 0));
    }

    #[test]
    fn many_unanchored_subtrees_do_not_multiply() {
        let rules: Vec<_> = (0..200)
            .map(|i| deny(&format!("/**/dir{i}/**"), 3))
            .collect();
        let automata = compile_paths(&rules).expect("compiles");
        let backward = automata.backward.as_ref().expect("has unanchored patterns");
        assert!(
            backward.accept.len() < 2000,
            "{} states",
            backward.accept.len()
        );
        assert_eq!(verdict(&automata, "/x/dir17/y").0, 3);
        assert_eq!(verdict(&automata, "/x/dir1000/y").0, 0);
    }

    #[test]
    fn hostile_patterns_end_in_an_error_and_soon() {
        let started = processor_time();
        let seen: Vec<_> = (0..24)
            .map(|i| deny(&format!("/d/**/a{i}x/**/b{i}y"), 1 << (i % 4)))
            .collect();
        assert!(compile_paths(&seen).is_err());
        let stars: Vec<_> = (0..60)
            .map(|i| deny(&format!("/{}{i}", "*a?*".repeat(60)), 3))
            .collect();
        assert!(compile_paths(&stars).is_err());
        let took = processor_time() - started;
        assert!(took < Duration::from_secs(60), "{took:?}");
    }

    /// What this thread has used: a busy machine must not fail a test.
    fn processor_time() -> Duration {
        let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
        Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
    }

    #[test]
    fn tables_are_small_and_well_formed() {
        let rules: Vec<_> = (0..50)
            .map(|i| deny(&format!("/srv/app{i}/config/secret.key"), 3))
            .collect();
        let automaton = compile_paths(&rules)
            .expect("compiles")
            .forward
            .expect("anchored patterns");
        // Tails are shared: 50 rules cost little more than their differing part.
        assert!(
            automaton.accept.len() < 150,
            "{} states",
            automaton.accept.len()
        );
        assert_eq!(
            automaton.transitions.len(),
            automaton.accept.len() << automaton.stride_shift
        );
        assert!(
            automaton
                .classes
                .iter()
                .all(|class| usize::from(*class) < 1 << automaton.stride_shift)
        );
        assert!(
            automaton
                .transitions
                .iter()
                .all(|state| usize::from(*state) < automaton.accept.len())
        );
        assert!(
            automaton.transitions[..1 << automaton.stride_shift]
                .iter()
                .all(|state| *state == 0)
        );
        assert_eq!(
            (automaton.accept[0], automaton.verdicts[0]),
            (0, PathVerdict::default())
        );
    }

    #[test]
    fn mounts_are_told_apart_by_type_and_source() {
        let flags = |deny_flags| MountSet {
            deny_flags,
            ..MountSet::default()
        };
        let source = |text: &str| Pattern::mount_source(text).expect(text);
        let rules = [
            (Some("proc".to_owned()), source("**"), flags(1)),
            (None, source("/dev/sd*"), flags(2)),
            (Some("none".to_owned()), source("/proc**"), flags(4)),
        ];
        let mounts = compile_mounts(&rules)
            .expect("compiles")
            .expect("has rules");
        for (fstype, source, expected) in [
            ("proc", "proc", 1),
            ("proc", "", 1),
            ("proc", "/dev/sda", 3),
            ("ext4", "/dev/sda1", 2),
            ("none", "/proc/sys", 4),
            ("none", "/sys", 0),
            ("proc2", "x", 0),
        ] {
            let input = fstype.bytes().chain([0]).chain(source.bytes());
            let set = mounts.sets[usize::from(mounts.automaton.run(input).ancestors)];
            assert_eq!(set.deny_flags, expected, "{fstype} {source}");
        }
    }
}
