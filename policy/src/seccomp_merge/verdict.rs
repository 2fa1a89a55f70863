// SPDX-License-Identifier: Apache-2.0
//! What a filter does with a call of which not all arguments are known.

use super::action::Kind;
use super::{Filter, MergeError};
use serde_json::Value;
use std::collections::BTreeSet;

/// How a filter treats a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Strictness {
    /// It is let through.
    Allowed,
    /// It is let through and logged.
    Logged,
    /// It fails, or ends the process.
    Refused,
}

/// The mildest and the strictest treatment that a call can get, as far as its arguments are known.
///
/// # Errors
/// [`MergeError`] when the filter cannot be understood.
pub fn verdict(
    filter: &Value,
    call: &str,
    args: &[Option<u64>; 6],
) -> Result<(Strictness, Strictness), MergeError> {
    let filter = Filter::parse(filter, "container's")?;
    let by_call = filter.by_call(&BTreeSet::from([call]))?;
    let rules = by_call.get(call).map_or(&[][..], Vec::as_slice);
    // As libseccomp: a rule for the default action is not added, and an unconditional one takes the others' place.
    let rules = rules.iter().filter(|rule| rule.action != filter.default);
    let (unconditional, conditional): (Vec<_>, Vec<_>) =
        rules.partition(|rule| rule.is_unconditional());
    if let Some(strictest) = unconditional.iter().map(|rule| of(rule.action.kind)).max() {
        return Ok((strictest, strictest));
    }
    let (mut certain, mut possible) = (Vec::new(), Vec::new());
    for rule in conditional {
        // Whether each condition holds; `None` when that depends on an argument that is not known.
        let held: Vec<Option<bool>> = rule
            .when
            .iter()
            .zip(args)
            .filter_map(|(condition, arg)| condition.map(|c| arg.map(|value| c.holds(value))))
            .collect();
        if held.contains(&Some(false)) {
            continue;
        }
        let list = if held.contains(&None) {
            &mut possible
        } else {
            &mut certain
        };
        list.push(of(rule.action.kind));
    }
    Ok(match certain.into_iter().max() {
        Some(certain) => (
            certain,
            possible
                .into_iter()
                .chain([certain])
                .max()
                .unwrap_or(certain),
        ),
        None => {
            possible.push(of(filter.default.kind));
            let range = (
                possible.iter().min().copied(),
                possible.iter().max().copied(),
            );
            range.0.zip(range.1).expect("one is there")
        }
    })
}

fn of(kind: Kind) -> Strictness {
    match kind {
        Kind::Allow => Strictness::Allowed,
        Kind::Log => Strictness::Logged,
        // Tracers and listeners are what a container's own filter may have; without one the call fails.
        Kind::Trace
        | Kind::Notify
        | Kind::Errno
        | Kind::Trap
        | Kind::KillThread
        | Kind::KillProcess => Strictness::Refused,
    }
}
