// SPDX-License-Identifier: Apache-2.0
//! Calls that 32-bit x86 also makes through another: `socketcall` and `ipc`, whose first argument says which.
//!
//! The arguments proper are in memory there, where no filter can look. libseccomp rewrites rules for such a call to
//! rules for the other, but compares the wrong registers then, which the caller sets as it likes. So where a policy
//! refuses a call, whatever for, the call is refused in this form altogether.

use super::action::{Action, Kind};
use super::condition::Condition;
use super::resolve::{CallRule, Conditions};
use serde_json::Value;
use std::collections::BTreeMap;

const SOCKETCALL: &str = "socketcall";
const IPC: &str = "ipc";
const ENOSYS: u32 = 38;
const EPERM: u32 = 1;

/// The call, through which it is made, and as which number (include/uapi/linux/net.h, ipc.h).
const CALLS: &[(&str, &str, u64)] = &[
    ("socket", SOCKETCALL, 1),
    ("bind", SOCKETCALL, 2),
    ("connect", SOCKETCALL, 3),
    ("listen", SOCKETCALL, 4),
    ("accept", SOCKETCALL, 5),
    ("getsockname", SOCKETCALL, 6),
    ("getpeername", SOCKETCALL, 7),
    ("socketpair", SOCKETCALL, 8),
    ("send", SOCKETCALL, 9),
    ("recv", SOCKETCALL, 10),
    ("sendto", SOCKETCALL, 11),
    ("recvfrom", SOCKETCALL, 12),
    ("shutdown", SOCKETCALL, 13),
    ("setsockopt", SOCKETCALL, 14),
    ("getsockopt", SOCKETCALL, 15),
    ("sendmsg", SOCKETCALL, 16),
    ("recvmsg", SOCKETCALL, 17),
    ("accept4", SOCKETCALL, 18),
    ("recvmmsg", SOCKETCALL, 19),
    ("sendmmsg", SOCKETCALL, 20),
    ("semop", IPC, 1),
    ("semget", IPC, 2),
    ("semctl", IPC, 3),
    ("semtimedop", IPC, 4),
    ("msgsnd", IPC, 11),
    ("msgrcv", IPC, 12),
    ("msgget", IPC, 13),
    ("msgctl", IPC, 14),
    ("shmat", IPC, 21),
    ("shmdt", IPC, 22),
    ("shmget", IPC, 23),
    ("shmctl", IPC, 24),
];

/// Whether a filter covers 32-bit x86.
pub(super) fn covers_x86(filter: &serde_json::Map<String, Value>) -> bool {
    let architectures = filter.get("architectures").and_then(Value::as_array);
    architectures
        .into_iter()
        .flatten()
        .any(|arch| arch == "SCMP_ARCH_X86")
}

/// What rules for calls say of the calls that they are also made through, by names.
pub(super) fn implied(
    rules: &BTreeMap<&str, Vec<CallRule>>,
) -> BTreeMap<&'static str, Vec<CallRule>> {
    let mut implied: BTreeMap<&str, Vec<CallRule>> = BTreeMap::new();
    for (name, through, number) in CALLS {
        let strictest = rules.get(name).and_then(|rules| {
            let actions = rules.iter().map(|rule| rule.action);
            actions.max()
        });
        let Some(action) = strictest else { continue };
        let mut when = Conditions::default();
        // The kernel takes the upper half of ipc's number for a version, and that is too much to tell apart here.
        if *through == SOCKETCALL {
            when[0] = Some(Condition::Is(*number));
        }
        let rules = implied.entry(through).or_default();
        match rules.iter_mut().find(|rule| rule.when == when) {
            Some(rule) => rule.action = rule.action.max(action),
            None => rules.push(CallRule { action, when }),
        }
    }
    implied
}

/// The rules for a call that others are made through, given those that merging came to, and those of the other calls.
///
/// libseccomp derives rules from those of the other calls, which allow or refuse by the wrong registers. It leaves a
/// derived rule out where a rule of ours holds for more; where one holds for the same, with another action, it refuses
/// the rule that it was derived from, on every architecture.
pub(super) fn outcome(
    through: &str,
    default: Action,
    implied: &[CallRule],
    mut outcome: Vec<CallRule>,
    others: &BTreeMap<&str, Vec<CallRule>>,
) -> Vec<CallRule> {
    // What the filter refuses by default must be said in so many words, or a derived rule would allow it.
    for rule in implied {
        let refused = rule.action.kind >= Kind::Errno && default.kind >= Kind::Errno;
        if refused && outcome.iter().all(|other| other.when != rule.when) {
            outcome.push(CallRule {
                action: other_than(default, rule.action.max(default)),
                when: rule.when,
            });
        }
    }
    if outcome.iter().any(|rule| clashes(rule, through, others)) {
        let strictest = implied
            .iter()
            .map(|rule| rule.action)
            .fold(default, Ord::max);
        return vec![CallRule {
            action: other_than(default, strictest),
            when: Conditions::default(),
        }];
    }
    outcome
}

/// Whether a derived rule holds for the same as this one, with another action.
fn clashes(rule: &CallRule, through: &str, others: &BTreeMap<&str, Vec<CallRule>>) -> bool {
    CALLS.iter().any(|(name, other, number)| {
        let derived = others.get(name).filter(|_| *other == through);
        derived.into_iter().flatten().any(|derived| {
            rule.when[0] == Some(Condition::Is(*number))
                && rule.action != derived.action
                && derived.when[1..].iter().all(Option::is_none)
        })
    })
}

/// The action, or one like it: rules that say what the default says are not added.
fn other_than(default: Action, action: Action) -> Action {
    if action != default {
        return action;
    }
    match action.kind {
        Kind::Trap | Kind::KillProcess => Action {
            kind: Kind::KillThread,
            data: 0,
        },
        Kind::KillThread => Action {
            kind: Kind::KillProcess,
            data: 0,
        },
        _ => Action {
            kind: Kind::Errno,
            data: if action.data == EPERM { ENOSYS } else { EPERM },
        },
    }
}
