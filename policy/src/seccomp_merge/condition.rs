// SPDX-License-Identifier: Apache-2.0
//! Conditions on one argument: 64-bit values, of which libseccomp takes one condition a rule.

use crate::types::SyscallArg;

/// A condition that some values meet and some do not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Condition {
    /// Equal.
    Is(u64),
    /// Not equal.
    IsNot(u64),
    /// At most.
    Le(u64),
    /// At least.
    Ge(u64),
    /// `value & mask == expected`; the mask is neither 0 nor full, and `expected` lies within it.
    Masked { mask: u64, expected: u64 },
}
use Condition::{Ge, Is, IsNot, Le, Masked};

/// A condition as it was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    /// Every value meets it.
    Always,
    /// No value meets it.
    Never,
    /// These values meet it.
    When(Condition),
}
use Outcome::{Always, Never, When};

impl Condition {
    /// Reads an OCI comparison; `None` when it is not known.
    pub(super) fn parse(arg: &SyscallArg) -> Option<Outcome> {
        let value = arg.value;
        Some(match arg.op.as_str() {
            "SCMP_CMP_EQ" => When(Is(value)),
            "SCMP_CMP_NE" => When(IsNot(value)),
            "SCMP_CMP_LE" => at_most(Some(value)),
            "SCMP_CMP_LT" => at_most(value.checked_sub(1)),
            "SCMP_CMP_GE" => at_least(Some(value)),
            "SCMP_CMP_GT" => at_least(value.checked_add(1)),
            // libseccomp masks the expected value too.
            "SCMP_CMP_MASKED_EQ" => masked(value, arg.value_two & value),
            _ => return None,
        })
    }

    pub(super) fn to_arg(self, index: u32) -> SyscallArg {
        let (op, value, value_two) = match self {
            Is(value) => ("SCMP_CMP_EQ", value, 0),
            IsNot(value) => ("SCMP_CMP_NE", value, 0),
            Le(value) => ("SCMP_CMP_LE", value, 0),
            Ge(value) => ("SCMP_CMP_GE", value, 0),
            Masked { mask, expected } => ("SCMP_CMP_MASKED_EQ", mask, expected),
        };
        SyscallArg {
            index,
            value,
            value_two,
            op: op.to_owned(),
        }
    }

    pub(super) fn holds(self, value: u64) -> bool {
        match self {
            Is(other) => value == other,
            IsNot(other) => value != other,
            Le(limit) => value <= limit,
            Ge(limit) => value >= limit,
            Masked { mask, expected } => value & mask == expected,
        }
    }

    /// A comparison of bits; `None` when it always holds.
    pub(super) fn masked(mask: u64, expected: u64) -> Option<Self> {
        if let When(condition) = masked(mask, expected) {
            Some(condition)
        } else {
            None
        }
    }

    /// The condition as (mask, expected) pairs, of which exactly one holds where it does.
    pub(super) fn in_bits(self) -> Vec<(u64, u64)> {
        match self {
            Is(value) => vec![(u64::MAX, value)],
            IsNot(value) => {
                // The first bit differs, or the second while the first agrees, and so on.
                let upto = |bit: u64| bit | (bit - 1);
                (0..64)
                    .map(|bit| 1u64 << bit)
                    .map(|bit| (upto(bit), (value ^ bit) & upto(bit)))
                    .collect()
            }
            Le(last) => interval(0, last),
            Ge(first) => interval(first, u64::MAX),
            Masked { mask, expected } => vec![(mask, expected)],
        }
    }
}

/// The values from `low` to `high`, as aligned blocks of powers of two: a block is a mask.
fn interval(low: u64, high: u64) -> Vec<(u64, u64)> {
    let mut blocks = Vec::new();
    let mut from = Some(low);
    while let Some(first) = from.filter(|first| *first <= high) {
        let mut bits = first.trailing_zeros().min(63);
        while bits > 0 && first | ((1 << bits) - 1) > high {
            bits -= 1;
        }
        let low_bits = (1u64 << bits) - 1;
        blocks.push((!low_bits, first));
        from = (first | low_bits).checked_add(1);
    }
    blocks
}

/// `None` stands for a limit below 0.
fn at_most(limit: Option<u64>) -> Outcome {
    match limit {
        None => Never,
        Some(u64::MAX) => Always,
        Some(limit) => When(Le(limit)),
    }
}

/// `None` stands for a limit above the greatest value.
fn at_least(limit: Option<u64>) -> Outcome {
    match limit {
        None => Never,
        Some(0) => Always,
        Some(limit) => When(Ge(limit)),
    }
}

fn masked(mask: u64, expected: u64) -> Outcome {
    match mask {
        0 => Always,
        u64::MAX => When(Is(expected)),
        mask => When(Masked { mask, expected }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn any_condition() -> impl Strategy<Value = Condition> {
        let value = || prop_oneof![0u64..9, (u64::MAX - 3)..=u64::MAX, Just(1u64 << 40)];
        prop_oneof![
            value().prop_map(Is),
            value().prop_map(IsNot),
            value()
                .prop_filter("not always", |v| *v != u64::MAX)
                .prop_map(Le),
            value().prop_filter("not always", |v| *v != 0).prop_map(Ge),
            (1u64..16, 0u64..16).prop_map(|(mask, expected)| Masked {
                mask,
                expected: expected & mask
            }),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn bits_hold_where_they_should(condition in any_condition()) {
            let bits = condition.in_bits();
            for value in (0..32).chain([1 << 40, 1 << 41]).chain((u64::MAX - 20)..=u64::MAX) {
                let holding = bits.iter().filter(|(mask, expected)| value & mask == *expected).count();
                prop_assert_eq!(holding, usize::from(condition.holds(value)), "{} {:?}", value, bits);
            }
        }
    }
}
