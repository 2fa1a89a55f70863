// SPDX-License-Identifier: Apache-2.0
//! What AppArmor is asked for an action, and which rules are about it.

use crate::capability;
use crate::compile::apparmor::glob::Glob;
use crate::compile::apparmor::raw::Word;
use crate::compile::apparmor::rule::{FileRule, Rule, path_of};
use crate::compile::bpf::{mounts, sockets};
use crate::explain::action::{Action, Change, Protocol};
use crate::mount_flags::{REMOUNT, change_a_mount};
use crate::plan::bpf::{PTRACE_READ, PTRACE_READBY, PTRACE_TRACE};
use Word::{Arrow, Key, List, Plain, Quoted};

/// Whether a rule is about a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fit {
    /// It is not.
    No,
    /// It is.
    Yes,
    /// It is when this holds, which the action does not tell.
    Perhaps(&'static str),
}

/// One question to AppArmor; an action may be several.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Request {
    /// A path, and letters of permissions.
    File(String, &'static str),
    Network {
        family: &'static str,
        kind: &'static str,
    },
    Mount {
        fstype: Option<String>,
        source: String,
        flags: u32,
        target: Option<String>,
    },
    Umount(String),
    Ptrace {
        permission: &'static str,
        external: bool,
    },
    Capability(&'static str),
    UserNamespace,
}

/// What AppArmor is asked for an action; nothing when it does not mediate it.
pub(super) fn requests(action: &Action) -> Vec<Request> {
    let file = |path: &str, letters| Request::File(path.to_owned(), letters);
    match action {
        Action::Open {
            path,
            read,
            write,
            append,
        } => [(*read, "r"), (*write, "w"), (*append, "a")]
            .into_iter()
            .filter(|(on, _)| *on)
            .map(|(_, letter)| file(path, letter))
            .collect(),
        Action::Exec(path) => vec![file(path, "x")],
        // It has no hook for these.
        Action::Change(Change::Setxattr, _) => Vec::new(),
        // Directories end in a slash to AppArmor.
        Action::Change(Change::Mkdir | Change::Rmdir, path) => vec![file(&format!("{path}/"), "w")],
        Action::Change(_, path) => vec![file(path, "w")],
        Action::Rename(old, new) => vec![file(old, "r"), file(old, "w"), file(new, "w")],
        Action::Link(_, new) => vec![file(new, "l")],
        Action::ConnectUnix(path) => vec![
            Request::Network {
                family: "unix",
                kind: "stream",
            },
            file(path, "r"),
            file(path, "w"),
        ],
        Action::Connect {
            address, protocol, ..
        } => vec![Request::Network {
            family: if address.is_ipv4() { "inet" } else { "inet6" },
            kind: if *protocol == Protocol::Tcp {
                "stream"
            } else {
                "dgram"
            },
        }],
        Action::Socket { family, kind, .. } => {
            let name = |table: &'static [(&str, u8)], number: u8| {
                table
                    .iter()
                    .find(|(_, other)| *other == number)
                    .map_or("", |(name, _)| *name)
            };
            vec![Request::Network {
                family: name(sockets::FAMILIES, *family),
                kind: name(sockets::TYPES, *kind),
            }]
        }
        Action::Mount {
            fstype,
            source,
            flags,
            target,
        } => vec![Request::Mount {
            fstype: (flags & mounts::UNTYPED == 0).then(|| fstype.clone()),
            source: source.clone(),
            flags: *flags,
            target: match change_a_mount(*flags) {
                true => Some(source.clone()),
                false => target.clone(),
            },
        }],
        Action::Umount(path) => vec![Request::Umount(path.clone())],
        Action::Ptrace {
            permission,
            external,
        } => vec![Request::Ptrace {
            permission: match *permission {
                PTRACE_TRACE => "trace",
                PTRACE_READ => "read",
                PTRACE_READBY => "readby",
                _ => "tracedby",
            },
            external: *external,
        }],
        Action::Capability(number) => {
            vec![Request::Capability(capability::NAMES[usize::from(*number)])]
        }
        Action::UserNamespace => vec![Request::UserNamespace],
        Action::Syscall(..) => Vec::new(),
    }
}

impl Request {
    /// Whether the permitting rules permit it. Profiles for abi 3.0 leave user namespaces alone.
    pub(super) fn is_permitted(&self, permitting: &[(&Rule, Fit)]) -> bool {
        *self == Self::UserNamespace || permitting.iter().any(|(_, fit)| *fit == Fit::Yes)
    }

    /// Whether a rule is about this; `owned`: whether files belong to the process' user.
    pub(super) fn fit(&self, rule: &Rule, profile: &str, owned: Option<bool>) -> Fit {
        let Some((first, rest)) = rule.words.split_first() else {
            return Fit::No;
        };
        let kind = match first {
            Plain(word) => word.as_str(),
            _ => "",
        };
        match self {
            Self::File(path, letters) => file(rule, path, letters, profile, owned),
            Self::Network {
                family,
                kind: socket,
            } if kind == "network" => network(rest, family, socket),
            Self::Capability(name) if kind == "capability" => {
                yes_or_no(rest.is_empty() || rest.contains(&Plain((*name).to_owned())))
            }
            Self::Mount {
                fstype,
                source,
                flags,
                target,
            } if kind == "mount" || (kind == "remount" && flags & REMOUNT != 0) => {
                let target = target.as_deref();
                mount(rest, fstype.as_deref(), source, *flags, target, profile)
            }
            Self::Umount(path) if matches!(kind, "umount" | "unmount") => {
                umount(rest, path, profile)
            }
            Self::Ptrace {
                permission,
                external,
            } if kind == "ptrace" => ptrace(rest, permission, *external, profile),
            Self::UserNamespace if kind == "userns" && rule.deny => {
                Fit::Perhaps("AppArmor on the node is 4.0 or later")
            }
            _ => Fit::No,
        }
    }
}

fn yes_or_no(yes: bool) -> Fit {
    if yes { Fit::Yes } else { Fit::No }
}

/// Whether a file rule, or `link FROM -> TO`, is about a path.
fn file(rule: &Rule, path: &str, wanted: &str, profile: &str, owned: Option<bool>) -> Fit {
    if let [Plain(word), rest @ ..] = &rule.words[..] {
        if word == "link" {
            let from = rest.iter().find_map(path_of);
            return if wanted == "l" {
                match_path(from.unwrap_or_default(), path, profile)
            } else {
                Fit::No
            };
        }
    }
    let (pattern, letters) = match rule.file() {
        Some(FileRule::Everything) => return Fit::Yes,
        Some(FileRule::Path(pattern, letters)) => (pattern, letters),
        None => return Fit::No,
    };
    let covers = letters.contains(wanted) || (wanted == "a" && letters.contains('w'));
    if !covers {
        return Fit::No;
    }
    match match_path(path_of(pattern).unwrap_or_default(), path, profile) {
        Fit::Yes if rule.owner => match owned {
            Some(owned) => yes_or_no(owned),
            None => Fit::Perhaps("the file belongs to the process' user (--owner tells)"),
        },
        fit => fit,
    }
}

fn match_path(pattern: &str, path: &str, profile: &str) -> Fit {
    match Glob::parse(pattern, profile) {
        Some(glob) => yes_or_no(glob.matches(path)),
        None => Fit::Perhaps("the path matches a pattern that is not evaluated here"),
    }
}

/// `network [family] [type | protocol]`. AppArmor's parser turns protocols into types.
fn network(words: &[Word], family: &str, socket: &str) -> Fit {
    let is = |name: &str| match name {
        "tcp" => matches!(family, "inet" | "inet6") && socket == "stream",
        "udp" => matches!(family, "inet" | "inet6") && socket == "dgram",
        "icmp" => matches!(family, "inet" | "inet6") && socket == "raw",
        // The one name that is a family and a type.
        "packet" if words.len() == 1 => family == "packet",
        name => name == family || name == socket,
    };
    yes_or_no(
        words
            .iter()
            .all(|word| matches!(word, Plain(name) if is(name))),
    )
}

/// A place where something is mounted is a directory, mostly, and AppArmor's name of it ends in `/` then.
fn match_place(pattern: &str, path: &str, profile: &str) -> Fit {
    match match_path(pattern, path, profile) {
        Fit::No => match_path(pattern, &format!("{path}/"), profile),
        fit => fit,
    }
}

/// `mount [fstype=..] [options=(..)] [source] [-> target]`. Of what only changes a mount the source and the target are that mount.
fn mount(
    words: &[Word],
    fstype: Option<&str>,
    source: &str,
    flags: u32,
    target: Option<&str>,
    profile: &str,
) -> Fit {
    let mut perhaps = None;
    let mut words = words.iter().peekable();
    while let Some(word) = words.next() {
        match word {
            Key(key) | Plain(key) if matches!(key.as_str(), "fstype" | "vfstype" | "options") => {
                let subset = words
                    .next_if(|word| **word == Plain("in".to_owned()))
                    .is_some();
                let Some(value) = words.next() else {
                    return Fit::No;
                };
                let values: Vec<&str> = match value {
                    List(members) => members.iter().map(String::as_str).collect(),
                    Plain(text) | Quoted(text) => vec![text],
                    _ => return Fit::No,
                };
                let holds = if key == "options" {
                    has_options(&values, subset, flags)
                } else {
                    fstype.is_some_and(|fstype| {
                        values
                            .iter()
                            .any(|value| match_path(value, fstype, profile) == Fit::Yes)
                    })
                };
                if !holds {
                    return Fit::No;
                }
            }
            Arrow => {
                let (Some(Plain(pattern) | Quoted(pattern)), Some(target)) = (words.next(), target)
                else {
                    perhaps = Some("it is mounted where the rule says (`:on=PATH` tells)");
                    continue;
                };
                match match_place(pattern, target, profile) {
                    Fit::No => return Fit::No,
                    Fit::Yes => {}
                    Fit::Perhaps(when) => perhaps = Some(when),
                }
            }
            Plain(pattern) | Quoted(pattern) => match match_place(pattern, source, profile) {
                Fit::No => return Fit::No,
                Fit::Yes => {}
                Fit::Perhaps(when) => perhaps = Some(when),
            },
            Key(_) | List(_) => {
                perhaps = Some("it is as a rule says that is not evaluated here");
            }
        }
    }
    perhaps.map_or(Fit::Yes, Fit::Perhaps)
}

/// `options=(..)` are exactly these flags, `options in (..)` are some of them.
fn has_options(names: &[&str], subset: bool, flags: u32) -> bool {
    let bits = names
        .iter()
        .filter_map(|name| mounts::bits(name).ok())
        .fold(0, |all, bits| all | bits);
    if subset {
        flags & !bits == 0
    } else {
        flags == bits
    }
}

fn umount(words: &[Word], path: &str, profile: &str) -> Fit {
    match words.iter().find_map(path_of) {
        None => Fit::Yes,
        Some(pattern) => match_place(pattern, path, profile),
    }
}

/// `ptrace [(permissions)] [peer=LABEL]`.
fn ptrace(words: &[Word], permission: &str, external: bool, profile: &str) -> Fit {
    let mut words = words.iter();
    while let Some(word) = words.next() {
        match word {
            List(permissions) if !permissions.iter().any(|other| other == permission) => {
                return Fit::No;
            }
            List(_) => {}
            Plain(other) if other == permission => {}
            Key(key) if key == "peer" => {
                let (Some(Plain(peer) | Quoted(peer)), false) = (words.next(), external) else {
                    return Fit::No;
                };
                if match_path(peer, profile, profile) != Fit::Yes {
                    return Fit::No;
                }
            }
            _ => return Fit::No,
        }
    }
    Fit::Yes
}
