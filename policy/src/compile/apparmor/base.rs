// SPDX-License-Identifier: Apache-2.0
//! What a profile starts from.

use super::Text;
use crate::compile::effect::Effect;

/// Everything that AppArmor mediates, allowed.
pub(super) fn always_allow(text: &mut Text) {
    for rule in [
        "file",
        "capability",
        "network",
        "mount",
        "remount",
        "umount",
        "pivot_root",
        "ptrace",
        "signal",
        "dbus",
        "unix",
    ] {
        text.line(rule);
    }
}

/// The kinds of rules that are allowed whole by what RuntimeDefault starts from.
pub(super) const RUNTIME_DEFAULT: [&str; 4] = ["network", "capability", "file", "umount"];

/// What containerd's default profile allows, under a name of its own; `observed`: see [`beyond_default`].
pub(super) fn runtime_default(text: &mut Text, profile: &str, observed: Option<Effect>) {
    for rule in RUNTIME_DEFAULT {
        text.line(rule);
    }
    for peer in ["unconfined", "runc", "crun"] {
        text.line(&format!("signal (receive) peer={peer}"));
    }
    text.line(&format!("signal (send, receive) peer={profile}"));
    text.line(&format!(
        "ptrace (trace, read, tracedby, readby) peer={profile}"
    ));
    beyond_default(text, profile, observed);
}

/// The child of a profile: like its parent, except that it is signalled and traced by the parent and not the reverse.
pub(super) fn runtime_default_child(
    text: &mut Text,
    parent: &str,
    child: &str,
    observed: Option<Effect>,
) {
    for rule in RUNTIME_DEFAULT {
        text.line(rule);
    }
    for peer in ["unconfined", "runc", "crun", parent] {
        text.line(&format!("signal (receive) peer={peer}"));
    }
    text.line(&format!("signal (send, receive) peer={child}"));
    text.line(&format!("ptrace (tracedby, readby) peer={parent}"));
    text.line(&format!(
        "ptrace (trace, read, tracedby, readby) peer={child}"
    ));
    beyond_default(text, child, observed);
}

/// What containerd's default profile refuses; `effect` is that of the refusals.
pub(super) fn refusals(text: &mut Text, effect: Effect) {
    for (pattern, permissions) in PATHS {
        text.path(pattern, permissions, effect);
    }
    text.line(&format!("{}mount", effect.apparmor()));
}

/// First words of what [`beyond_default`] allows.
pub(super) const BEYOND_DEFAULT: [&str; 3] = ["pivot_root", "ptrace", "signal"];

/// What the default profile refuses because no rule of it allows that, and of which nobody would be told. It is allowed
/// where violations are: `observed` is their effect then. `own` is the profile's full name.
fn beyond_default(text: &mut Text, own: &str, observed: Option<Effect>) {
    let Some(effect) = observed else {
        return;
    };
    let qualifier = effect.apparmor();
    text.line(&format!("{qualifier}pivot_root"));
    text.line(&format!(
        "{qualifier}ptrace (trace, read) peer={}",
        other_than(own)
    ));
    text.line("ptrace (tracedby, readby)");
    text.line("signal");
}

/// A pattern for every label but one: those that end before it, differ from it somewhere, or go on after it. Children
/// (`label//…`) are no others.
fn other_than(label: &str) -> String {
    let mut alternatives = Vec::new();
    for (at, byte) in label.char_indices() {
        let before = &label[..at];
        if at > 0 {
            alternatives.push(before.to_owned());
        }
        alternatives.push(format!("{before}[^{byte}]**"));
    }
    alternatives.push(format!("{label}?**"));
    format!("{{{}}}", alternatives.join(","))
}

/// Paths that are refused, and for what. The character classes read "all but sys and process ids", "all but kernel",
/// "all but shm*", "all but fs", "all but cgroup*"; they let some other names through, as containerd's do.
const PATHS: &[(&str, &str)] = &[
    ("@{PROC}/*", "w"),
    (
        "@{PROC}/{[^1-9],[^1-9][^0-9],[^1-9s][^0-9y][^0-9s],[^1-9][^0-9][^0-9][^0-9/]*}/**",
        "w",
    ),
    ("@{PROC}/sys/[^k]**", "w"),
    ("@{PROC}/sys/kernel/{?,??,[^s][^h][^m]**}", "w"),
    ("@{PROC}/sysrq-trigger", "rwklx"),
    ("@{PROC}/mem", "rwklx"),
    ("@{PROC}/kmem", "rwklx"),
    ("@{PROC}/kcore", "rwklx"),
    ("/sys/[^f]*/**", "wklx"),
    ("/sys/f[^s]*/**", "wklx"),
    ("/sys/fs/[^c]*/**", "wklx"),
    ("/sys/fs/c[^g]*/**", "wklx"),
    ("/sys/fs/cg[^r]*/**", "wklx"),
    ("/sys/firmware/**", "rwklx"),
    ("/sys/devices/virtual/powercap/**", "rwklx"),
    ("/sys/kernel/security/**", "rwklx"),
];
