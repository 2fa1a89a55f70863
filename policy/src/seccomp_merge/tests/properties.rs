// SPDX-License-Identifier: Apache-2.0
//! Random filters merged with random rules: never weaker than either, and exact where conditions combine.

use super::super::merge;
use super::cbpf::{ARCHITECTURES, Filter};
use super::model::{strictness, verdict};
use crate::plan::Seccomp;
use proptest::prelude::*;
use serde_json::{Value, json};
use std::collections::BTreeSet;

const CALLS: [&str; 3] = ["clone", "personality", "setns"];

/// Values with few bits, so that conditions meet, and some with a high half.
const VALUES: [u64; 9] = [0, 1, 2, 3, 4, 5, 1 << 32, (1 << 32) | 1, u64::MAX];

fn value() -> impl Strategy<Value = u64> {
    prop_oneof![4 => prop::sample::select(&VALUES[..6]), 1 => prop::sample::select(&VALUES[6..])]
}

/// Every pair of values that conditions compare with.
fn pairs() -> impl Iterator<Item = [u64; 2]> {
    VALUES.into_iter().flat_map(|a| VALUES.map(|b| [a, b]))
}

fn condition() -> impl Strategy<Value = Value> {
    let op = prop::sample::select(vec![
        "SCMP_CMP_NE",
        "SCMP_CMP_LT",
        "SCMP_CMP_LE",
        "SCMP_CMP_EQ",
        "SCMP_CMP_GE",
        "SCMP_CMP_GT",
        "SCMP_CMP_MASKED_EQ",
        "SCMP_CMP_MASKED_EQ",
    ]);
    (0u64..2, op, value(), value()).prop_map(|(index, op, value, two)| {
        let two = if op == "SCMP_CMP_MASKED_EQ" {
            two & value
        } else {
            0
        };
        json!({"index": index, "op": op, "value": value, "valueTwo": two})
    })
}

fn rules(
    actions: Vec<(&'static str, Option<u32>)>,
    most: usize,
) -> impl Strategy<Value = Vec<Value>> {
    let names = prop::sample::subsequence(CALLS.to_vec(), 1..=CALLS.len());
    let rule = (
        names,
        prop::sample::select(actions),
        prop::collection::vec(condition(), 0..3),
    )
        .prop_map(|(names, (action, errno), args)| {
            let mut rule = json!({"names": names, "action": action});
            if let Some(errno) = errno {
                rule["errnoRet"] = json!(errno);
            }
            if !args.is_empty() {
                rule["args"] = json!(args);
            }
            rule
        });
    prop::collection::vec(rule, 0..most)
}

/// Filters as containers have them: one default, and rules of one other action.
fn plain_filter() -> impl Strategy<Value = Value> {
    prop_oneof![
        rules(vec![("SCMP_ACT_ALLOW", None)], 5).prop_map(|rules| ("SCMP_ACT_ERRNO", rules)),
        rules(vec![("SCMP_ACT_ERRNO", Some(1))], 5).prop_map(|rules| ("SCMP_ACT_ALLOW", rules)),
    ]
    .prop_map(filter)
}

fn filter((default, syscalls): (&'static str, Vec<Value>)) -> Value {
    json!({
        "defaultAction": default,
        "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"],
        "syscalls": syscalls,
    })
}

fn policy() -> impl Strategy<Value = Value> {
    rules(
        vec![
            ("SCMP_ACT_ERRNO", Some(1)),
            ("SCMP_ACT_LOG", None),
            ("SCMP_ACT_KILL_PROCESS", None),
        ],
        4,
    )
    .prop_map(|rules| filter(("SCMP_ACT_ALLOW", rules)))
}

/// The calls that a filter's rules name.
fn named(filter: &Value) -> BTreeSet<&str> {
    let rules = filter["syscalls"].as_array().into_iter().flatten();
    let names = rules.flat_map(|rule| rule["names"].as_array().into_iter().flatten());
    names.filter_map(Value::as_str).collect()
}

/// A filter without the rules for other calls. What a policy does not name stays as the container has it, and libseccomp
/// (seen in 2.5.4) never returns from adding some pairs of conditions for one call, as argument 0 not 2^64 - 1 and argument
/// 1 below 3, then argument 1 with bit 0 and argument 0 not 2^64 - 1.
fn only(calls: &BTreeSet<&str>, mut filter: Value) -> Value {
    for rule in filter["syscalls"].as_array_mut().into_iter().flatten() {
        if let Some(names) = rule["names"].as_array_mut() {
            names.retain(|name| name.as_str().is_some_and(|name| calls.contains(name)));
        }
    }
    filter
}

#[test]
fn a_large_value_of_a_second_argument_is_refused() {
    let calls = ["personality"];
    let own = filter((
        "SCMP_ACT_ERRNO",
        vec![json!({"names": calls, "action": "SCMP_ACT_ALLOW"})],
    ));
    let refused = json!({"names": calls, "action": "SCMP_ACT_ERRNO", "errnoRet": 1, "args": [
        {"index": 0, "op": "SCMP_CMP_EQ", "value": 3, "valueTwo": 0},
        {"index": 1, "op": "SCMP_CMP_EQ", "value": u64::MAX, "valueTwo": 0},
    ]});
    let policy = filter(("SCMP_ACT_ALLOW", vec![refused]));
    let merged = merge::<&str>(Some(&own), &Seccomp::Rules(policy), &[]);
    let built = Filter::build(&merged.expect("merges").expect("a filter"));
    let verdict = |args: [u64; 2]| built.run(ARCHITECTURES[0], calls[0], &args);
    assert_eq!(verdict([3, u64::MAX]), "errno 1");
    for allowed in [[3, 0], [3, 1], [3, 0xffff_ffff], [2, u64::MAX], [0, 0]] {
        assert_eq!(verdict(allowed), "allow", "{allowed:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn never_weaker(own in plain_filter(), policy in policy()) {
        let touched = named(&policy);
        let own = only(&touched, own);
        let merged = merge::<&str>(Some(&own), &Seccomp::Rules(policy.clone()), &[]).expect("merges").expect("a filter");
        let built = Filter::build(&merged);
        for call in CALLS.iter().filter(|call| touched.contains(**call)) {
            for args in pairs() {
                for arch in ARCHITECTURES {
                    // For 32-bit architectures libseccomp compares low halves.
                    let args = args.map(|arg| if arch == ARCHITECTURES[0] { arg } else { arg & 0xffff_ffff });
                    let both = [verdict(&own, call, &args), verdict(&policy, call, &args)];
                    let expected = both.iter().map(|verdict| strictness(verdict)).max().expect("two");
                    let found = built.run(arch, call, &args);
                    prop_assert!(strictness(&found) >= expected, "{call} {args:?} on {arch:?}: {found}\n{merged:#}");
                }
            }
        }
    }

    #[test]
    fn single_bits_and_values_combine_exactly(
        allowed in prop::collection::vec(0u32..4, 0..2),
        refused in prop::collection::vec((0u64..2, 0u32..4), 1..3),
        args in prop::collection::vec((0u64..16, 0u64..16), 12),
    ) {
        // As containerd's rule for clone: allowed while certain flags are clear.
        let clear: u64 = allowed.iter().map(|bit| 1u64 << bit).sum();
        let own = filter(("SCMP_ACT_ERRNO", vec![json!({"names": ["clone"], "action": "SCMP_ACT_ALLOW",
            "args": [{"index": 0, "value": clear, "valueTwo": 0, "op": "SCMP_CMP_MASKED_EQ"}]})]));
        let policy = filter(("SCMP_ACT_ALLOW", refused.iter().map(|(index, bit)| json!({"names": ["clone"],
            "action": "SCMP_ACT_ERRNO", "errnoRet": 1,
            "args": [{"index": index, "value": 1u64 << bit, "valueTwo": 1u64 << bit, "op": "SCMP_CMP_MASKED_EQ"}]})).collect()));
        let merged = merge::<&str>(Some(&own), &Seccomp::Rules(policy.clone()), &[]).expect("merges").expect("a filter");
        let built = Filter::build(&merged);
        for (a, b) in args {
            let args = [a, b];
            let both = [verdict(&own, "clone", &args), verdict(&policy, "clone", &args)];
            let expected = both.iter().max_by_key(|v| strictness(v)).expect("two");
            prop_assert_eq!(&built.run(ARCHITECTURES[0], "clone", &args), expected, "{:?}\n{:#}", args, merged);
        }
    }
}
