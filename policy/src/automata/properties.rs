// SPDX-License-Identifier: Apache-2.0
//! The automata against matching by definition, and against `regex-automata`, on random patterns and paths.

use super::{PathAutomata, PathRule, compile_paths, naive};
use crate::pattern::{Pattern, Token};
use crate::plan::automaton::{PERM_EXEC, PERM_READ, PERM_WRITE, PathVerdict};
use proptest::prelude::*;
use regex_automata::dfa::Automaton as _;
use regex_automata::{Anchored, Input, MatchKind, dfa::dense, util::syntax};

/// Few letters, so that random paths meet random patterns.
fn component() -> impl Strategy<Value = String> {
    let literal = prop::string::string_regex("[ab]{1,2}").expect("valid");
    let glob = prop::sample::select(vec![
        "*", "a*", "*b", "?", "[^a]", "a?", "{a,bb}", "{a/b,b}", "[ab]b", "a**", "**",
    ]);
    prop_oneof![3 => literal, 2 => glob.prop_map(str::to_owned)]
}

fn pattern() -> impl Strategy<Value = String> {
    let components = prop::collection::vec(component(), 1..5);
    (
        components,
        prop::bool::weighted(0.3),
        prop::bool::weighted(0.1),
    )
        .prop_map(|(parts, deep, name)| {
            if name {
                return format!("{}*", parts[0].replace(['*', '/', '{', '}', ','], "a"));
            }
            format!("{}/{}", if deep { "/**" } else { "" }, parts.join("/"))
        })
}

fn path() -> impl Strategy<Value = String> {
    prop::collection::vec(
        prop::string::string_regex("[abc]{1,3}").expect("valid"),
        1..6,
    )
    .prop_map(|parts| format!("/{}", parts.join("/")))
}

fn rules() -> impl Strategy<Value = Vec<PathRule>> {
    let verdict = prop::sample::select(vec![
        PERM_READ,
        PERM_WRITE,
        PERM_READ | PERM_WRITE,
        PERM_EXEC,
    ]);
    prop::collection::vec((pattern(), verdict, any::<bool>()), 1..8).prop_map(|rules| {
        rules
            .into_iter()
            .map(|(text, mask, audit)| {
                let pattern = Pattern::path(&text).unwrap_or_else(|e| panic!("{text}: {e}"));
                let audit = if audit { mask } else { 0 };
                (
                    pattern,
                    PathVerdict {
                        deny: mask,
                        audit,
                        ..PathVerdict::default()
                    },
                )
            })
            .collect()
    })
}

fn by_definition(rules: &[PathRule], path: &str) -> (u16, u16) {
    rules
        .iter()
        .filter(|(pattern, _)| naive::matches(pattern, path.as_bytes()))
        .fold((0, 0), |sum, (_, verdict)| {
            (sum.0 | verdict.deny, sum.1 | verdict.audit)
        })
}

fn both(automata: &PathAutomata, path: &str) -> (PathVerdict, PathVerdict) {
    (
        automata
            .forward
            .as_ref()
            .map(|a| a.run(path.bytes()))
            .unwrap_or_default(),
        automata
            .backward
            .as_ref()
            .map(|a| a.run(path.bytes().rev()))
            .unwrap_or_default(),
    )
}

fn verdict(automata: &PathAutomata, path: &str) -> (u16, u16) {
    let (forward, backward) = both(automata, path);
    (forward.deny | backward.deny, forward.audit | backward.audit)
}

/// As the kernel decides the rename of a directory.
fn rename_is_refused(automata: &PathAutomata, old: &str, new: &str) -> bool {
    let (old, new) = (both(automata, old), both(automata, new));
    old.0.deny | old.1.deny != 0
        || (new.0.deny | new.1.deny) & PERM_WRITE != 0
        || (old.0.ancestors != 0 && old.0.ancestors != new.0.ancestors)
        || (old.1.ancestors != 0 && old.1.ancestors != new.1.ancestors)
}

fn regex_of(pattern: &Pattern) -> String {
    let alternatives = pattern.alternatives().iter().map(|tokens| {
        tokens
            .iter()
            .map(|token| match token {
                Token::Byte(byte) => format!(r"\x{byte:02x}"),
                Token::Set(set) => {
                    let bytes: String = (0..=255u8)
                        .filter(|b| set.contains(*b))
                        .map(|b| format!(r"\x{b:02x}"))
                        .collect();
                    format!("[{bytes}]")
                }
                Token::Star => r"[^/\x00]*".to_owned(),
                Token::Any => r"[^\x00]*".to_owned(),
                Token::Deep => r"(?:[^\x00]*/)?".to_owned(),
            })
            .collect::<String>()
    });
    format!("(?s-u)(?:{})$", alternatives.collect::<Vec<_>>().join("|"))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn automata_agree_with_the_definition(rules in rules(), paths in prop::collection::vec(path(), 30)) {
        let automata = compile_paths(&rules).expect("compiles");
        for path in &paths {
            prop_assert_eq!(verdict(&automata, path), by_definition(&rules, path), "{}", path);
        }
    }

    #[test]
    fn the_definition_agrees_with_regex_automata(text in pattern(), paths in prop::collection::vec(path(), 20)) {
        let pattern = Pattern::path(&text).expect("valid");
        let dfa = dense::Builder::new()
            .syntax(syntax::Config::new().unicode(false).utf8(false))
            .configure(dense::Config::new().match_kind(MatchKind::All))
            .build(&regex_of(&pattern))
            .expect("a regex");
        for path in &paths {
            let found = dfa.try_search_fwd(&Input::new(path).anchored(Anchored::Yes)).expect("no quit bytes");
            prop_assert_eq!(found.is_some(), naive::matches(&pattern, path.as_bytes()), "{} on {}", text, path);
        }
    }

    #[test]
    fn renaming_a_directory_sheds_no_protection(
        rules in rules(), old in path(), new in path(), below in prop::collection::vec(path(), 40),
    ) {
        let automata = compile_paths(&rules).expect("compiles");
        if !rename_is_refused(&automata, &old, &new) {
            for rest in &below {
                let before = by_definition(&rules, &format!("{old}{rest}")).0;
                let after = by_definition(&rules, &format!("{new}{rest}")).0;
                prop_assert_eq!(before & !after, 0, "{} -> {} sheds the rule for {}", old, new, rest);
            }
        }
    }

    #[test]
    fn a_rename_that_changes_nothing_is_not_refused_for_its_ancestors(rules in rules(), old in path(), name in "[abc]") {
        // Siblings below a directory that no rule reaches lead nowhere.
        let automata = compile_paths(&rules).expect("compiles");
        let old = format!("/ccc{old}");
        let new = format!("/ccc/{name}");
        let reached = rules.iter().any(|(pattern, _)| {
            pattern.alternatives().iter().any(|t| matches!(t[1], Token::Deep | Token::Any | Token::Star | Token::Set(_)))
        });
        if !reached {
            prop_assert!(!rename_is_refused(&automata, &old, &new));
        }
    }
}
