// SPDX-License-Identifier: Apache-2.0
//! Which words make a rule (apparmor.d(5)), as far as a policy may hold it.

use super::lexer::Word;
use super::words;
use Word::{Arrow, Key, List, Plain, Quoted};

/// Words that begin something which is no rule of a policy, and why.
const REFUSED: [(&str, &str); 9] = [
    (
        "include",
        "an include is not accepted; write the rules themselves",
    ),
    ("abi", "the abi is set by the profile; remove it"),
    (
        "alias",
        "an alias changes other profiles' paths; write the path itself",
    ),
    (
        "profile",
        "profiles are not accepted; use `targets` for rules of single executables",
    ),
    (
        "hat",
        "hats are not accepted; use `targets` for rules of single executables",
    ),
    (
        "change_profile",
        "leaving the profile is not accepted; remove the rule",
    ),
    (
        "if",
        "conditions are not accepted; write the rules themselves",
    ),
    (
        "all",
        "`all` is a rule of newer AppArmor only; write the kinds one by one",
    ),
    (
        "priority",
        "priorities are not accepted: they would overrule the policy's own rules",
    ),
];
const RLIMITS: [&str; 16] = [
    "as",
    "core",
    "cpu",
    "data",
    "fsize",
    "locks",
    "memlock",
    "msgqueue",
    "nice",
    "nofile",
    "nproc",
    "rss",
    "rtprio",
    "rttime",
    "sigpending",
    "stack",
];

/// Checks one rule.
pub(super) fn check(words: &[Word]) -> Result<(), String> {
    let (qualifiers, rest) = qualifiers(words)?;
    let [first, arguments @ ..] = rest else {
        return Err("only qualifiers; a rule follows them".to_owned());
    };
    match first {
        Quoted(_) => file(rest, qualifiers),
        Plain(word) if is_path(word) => file(rest, qualifiers),
        Plain(word) => kind(word, arguments, rest, qualifiers),
        Key(word) => Err(refusal(word).unwrap_or_else(|| format!("`{word}=` begins no rule"))),
        Arrow | List(_) => Err(format!("`{}` begins no rule", first.text())),
    }
}

#[derive(Clone, Copy, Default)]
struct Qualifiers {
    deny: bool,
    owner: bool,
}

fn qualifiers(words: &[Word]) -> Result<(Qualifiers, &[Word]), String> {
    let mut seen: Vec<&str> = Vec::new();
    let mut rest = words;
    while let [Plain(word), after @ ..] = rest {
        if !matches!(word.as_str(), "audit" | "allow" | "deny" | "owner") {
            break;
        }
        if seen.contains(&word.as_str()) {
            return Err(format!("`{word}` twice"));
        }
        seen.push(word);
        rest = after;
    }
    if seen.contains(&"allow") && seen.contains(&"deny") {
        return Err("`allow` and `deny` exclude each other".to_owned());
    }
    Ok((
        Qualifiers {
            deny: seen.contains(&"deny"),
            owner: seen.contains(&"owner"),
        },
        rest,
    ))
}

fn kind(
    word: &str,
    arguments: &[Word],
    rest: &[Word],
    qualifiers: Qualifiers,
) -> Result<(), String> {
    if let Some(message) = refusal(word) {
        return Err(message);
    }
    if qualifiers.owner && !matches!(word, "file" | "link") && !is_permissions(word) {
        return Err(format!("`owner` is for files, not for `{word}`"));
    }
    match word {
        "file" if arguments.is_empty() && qualifiers.deny => Err(
            "apparmor_parser takes no `deny file` without a path; write `deny /** rwlkmx`"
                .to_owned(),
        ),
        "file" if arguments.is_empty() => Ok(()),
        "file" => file(arguments, qualifiers),
        "link" => link(arguments),
        "capability" => words::capabilities(arguments),
        "network" => words::network(arguments),
        "mount" | "remount" | "umount" | "unmount" => {
            options(arguments, &["fstype", "options", "vfstype"], true)
        }
        "pivot_root" => {
            if arguments.contains(&Arrow) {
                return Err("a transition (`->`) is not accepted; remove it".to_owned());
            }
            options(arguments, &["oldroot"], false)
        }
        "ptrace" => options(arguments, &["peer"], false),
        "signal" => options(arguments, &["set", "peer"], false),
        "unix" => options(
            arguments,
            &["type", "protocol", "addr", "label", "attr", "opt", "peer"],
            false,
        ),
        "dbus" => options(
            arguments,
            &[
                "bus",
                "path",
                "interface",
                "member",
                "name",
                "label",
                "peer",
            ],
            false,
        ),
        "userns" => names(arguments),
        "mqueue" => options(arguments, &["type", "label"], false),
        "io_uring" => options(arguments, &["label"], false),
        "set" => rlimit(arguments),
        // `rw /path`: permissions may come first.
        word if is_permissions(word) && arguments.len() == 1 => file(rest, qualifiers),
        other => Err(format!(
            "`{}` begins no rule that is accepted; write a path, or one of file, capability, network, mount, remount, \
             umount, pivot_root, ptrace, signal, unix, dbus, userns, mqueue, io_uring, link, set rlimit",
            other.chars().take(64).collect::<String>()
        )),
    }
}

fn refusal(word: &str) -> Option<String> {
    let known = REFUSED
        .iter()
        .find(|(other, _)| *other == word)
        .map(|(_, message)| (*message).to_owned());
    known
        .or_else(|| {
            word.starts_with('^')
                .then(|| "hats are not accepted".to_owned())
        })
        .or_else(|| {
            word.starts_with(['$', '@'])
                .then(|| "variables cannot be defined here; write the paths".to_owned())
        })
}

/// A path and its permissions, in either order.
fn file(words: &[Word], qualifiers: Qualifiers) -> Result<(), String> {
    match words {
        [path, Plain(permissions)] if names_path(path) => {
            check_permissions(permissions, qualifiers)
        }
        [Plain(permissions), path] if names_path(path) => {
            check_permissions(permissions, qualifiers)
        }
        _ if words.contains(&Arrow) => Err(
            "a transition (`->`) leaves the profile; use `targets` for rules of single executables"
                .to_owned(),
        ),
        _ => Err("a file rule is a path and permissions, such as `/etc/** r`".to_owned()),
    }
}

fn check_permissions(text: &str, qualifiers: Qualifiers) -> Result<(), String> {
    if let Some(letter) = text.chars().find(|c| "pPcCuU".contains(*c)) {
        return Err(format!(
            "`{text}`: `{letter}x` leaves the profile; write `ix`"
        ));
    }
    if !is_permissions(text) {
        return Err(format!(
            "`{text}` are no permissions; write letters of r, w, a, l, k, m and ix"
        ));
    }
    let executes = text.contains('x');
    let inherits = text.contains("ix");
    if text.contains('i') && !inherits {
        return Err(format!("`{text}`: `i` stands only in `ix`"));
    }
    if executes && !inherits && !qualifiers.deny {
        return Err(format!("`{text}`: say how to execute; write `ix`"));
    }
    if inherits && qualifiers.deny {
        return Err(format!("`{text}`: to refuse executing, write `x`"));
    }
    if text.contains('w') && text.contains('a') {
        return Err(format!(
            "`{text}`: `w` and `a` exclude each other; `w` is enough"
        ));
    }
    Ok(())
}

fn is_permissions(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= 8
        && text.chars().all(|c| "rwalkmix".contains(c))
        && text.chars().all(|c| text.matches(c).count() == 1)
}

/// `link [subset] FROM -> TO`.
fn link(words: &[Word]) -> Result<(), String> {
    let words = match words {
        [Plain(word), rest @ ..] if word == "subset" => rest,
        other => other,
    };
    match words {
        [from, Arrow, to] if names_path(from) && names_path(to) => Ok(()),
        _ => Err("a link rule is `link /from -> /to`".to_owned()),
    }
}

fn names(words: &[Word]) -> Result<(), String> {
    let plain = |text: &str| {
        text.bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
    };
    match words
        .iter()
        .find(|word| !matches!(word, Plain(text) if plain(text)))
    {
        Some(word) => Err(format!("`{}` is no name here", word.text())),
        None => Ok(()),
    }
}

/// `key=value`, lists of permissions, and paths, in any order.
fn options(words: &[Word], keys: &[&str], arrow: bool) -> Result<(), String> {
    let mut words = words.iter().peekable();
    while let Some(word) = words.next() {
        match word {
            Key(key) if keys.contains(&key.as_str()) => match words.next() {
                Some(Plain(value)) => check_value(value)?,
                Some(Quoted(_) | List(_)) => {}
                _ => return Err(format!("`{key}=` without a value")),
            },
            Key(key) => {
                return Err(format!(
                    "`{key}=` is not known here; write one of {}=",
                    keys.join("=, ")
                ));
            }
            // `options in (ro)`: the flags may be some of these.
            Plain(text) if text == "options" => match (words.next(), words.next()) {
                (Some(Plain(word)), Some(List(_))) if word == "in" => {}
                _ => return Err("write `options=(...)` or `options in (...)`".to_owned()),
            },
            Plain(text) => check_value(text)?,
            Quoted(_) | List(_) => {}
            Arrow if arrow && words.peek().is_some() => {}
            Arrow => return Err("`->` has no place here".to_owned()),
        }
    }
    Ok(())
}

/// A path, a name or a glob.
fn check_value(text: &str) -> Result<(), String> {
    let known = |c: char| c.is_alphanumeric() || "_-./*?@{}[]^,:+\\~%".contains(c);
    match text.chars().find(|c| !known(*c)) {
        Some(c) => Err(format!("`{c}` in `{text}`; put the word between quotes")),
        None => Ok(()),
    }
}

fn rlimit(words: &[Word]) -> Result<(), String> {
    let value = |text: &str| {
        text == "infinity" || text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
    };
    match words {
        [Plain(word), Plain(name), Plain(operator), Plain(limit)]
            if word == "rlimit"
                && RLIMITS.contains(&name.as_str())
                && operator == "<="
                && value(limit) =>
        {
            Ok(())
        }
        _ => Err("a limit is `set rlimit nofile <= 1024`".to_owned()),
    }
}

fn names_path(word: &Word) -> bool {
    match word {
        Plain(text) | Quoted(text) => is_path(text),
        _ => false,
    }
}

/// A path begins with `/`, or with one of AppArmor's variables.
fn is_path(text: &str) -> bool {
    (text.starts_with('/') || (text.starts_with("@{") && text.contains('}')))
        && !text.contains(['=', '$'])
}
