// SPDX-License-Identifier: Apache-2.0
//! The manual of the built-in rules, written from the table.

use super::{AppArmorPart, ArgMask, BpfPart, DISK_NAMES, Rule, SECTIONS, SyscallPart};
use crate::capability;
use crate::compile::bpf::sockets::{FAMILIES, PROTOCOLS};
use crate::mount_flags::{BIND, MOVE, REC, REMOUNT};
use crate::plan::automaton::{PERM_APPEND, PERM_EXEC, PERM_READ, PERM_WRITE};
use crate::plan::bpf::{
    MOUNT_NEW, MOUNT_UMOUNT, PTRACE_READ, PTRACE_READBY, PTRACE_TRACE, PTRACE_TRACEBY,
};
use std::fmt::Write;

const HEAD: &str = "\
# Built-in rules

<!-- Written from the table in policy/src/rules: `cargo run -p varmor-policy --bin varmor-policy-docs > docs/rules.md` -->

What a policy of mode EnhanceProtect can name in `hardeningRules`, `attackProtectionRules[].rules` and
`vulMitigationRules`. Names are case-insensitive, `_` counts as `-`.

A rule holds by every enforcer of the policy that can do something for it; one that none of them can hold is an error, and so is
a name that is not here. `attackProtectionRules[].targets` (paths of executables) makes rules hold for these and all that they
start, by AppArmor and BPF.

The patterns are those of AppArmor and of [policies](policies.md). `write` includes appending, creating, deleting, renaming and
changing attributes. What AppArmor and BPF refuse fails with EACCES or EPERM, what seccomp refuses with the errno that is named.
";

/// The whole manual, as Markdown.
pub fn markdown() -> String {
    let mut out = HEAD.to_owned();
    for section in SECTIONS {
        line(
            &mut out,
            format_args!("\n## {} (`{}`)\n", section.title, section.group.field()),
        );
        out.push_str("| rule | AppArmor | BPF | seccomp |\n|---|---|---|---|\n");
        for rule in section.rules {
            let yes = |able: bool| if able { "yes" } else { "" };
            line(
                &mut out,
                format_args!(
                    "| [`{0}`](#{0}) | {1} | {2} | {3} |",
                    rule.name,
                    yes(!rule.apparmor.is_empty()),
                    yes(!rule.bpf.is_empty()),
                    yes(!rule.seccomp.is_empty())
                ),
            );
        }
        section
            .rules
            .iter()
            .for_each(|rule| describe(rule, &mut out));
    }
    out
}

fn line(out: &mut String, text: std::fmt::Arguments<'_>) {
    writeln!(out, "{text}").expect("a text takes everything");
}

fn describe(rule: &Rule, out: &mut String) {
    line(out, format_args!("\n### {}\n", rule.name));
    for alias in rule.aliases {
        line(out, format_args!("Also `{alias}`.\n"));
    }
    line(
        out,
        format_args!("Stops {}: {}.\n", rule.restricts, rule.why),
    );
    let lists = [
        (
            "AppArmor",
            rule.apparmor.iter().map(apparmor).collect::<Vec<_>>(),
        ),
        ("BPF", rule.bpf.iter().map(bpf).collect()),
        ("seccomp", rule.seccomp.iter().map(seccomp).collect()),
    ];
    for (enforcer, parts) in lists {
        if !parts.is_empty() {
            line(out, format_args!("- {enforcer}: {}", parts.join("; ")));
        }
    }
    for need in rule.needs {
        line(out, format_args!("- Needs: {need}"));
    }
    for limit in rule.limits {
        line(out, format_args!("- Note: {limit}"));
    }
}

fn apparmor(part: &AppArmorPart) -> String {
    match part {
        AppArmorPart::Path(pattern, permissions) => format!("`{pattern} {permissions}`"),
        AppArmorPart::Capabilities(mask) => capabilities(*mask),
        AppArmorPart::DiskDevices { open, mount } => {
            let of = format!("the disks of /proc/partitions, and `{DISK_NAMES}`");
            match (open, mount) {
                (true, false) => format!("opening {of}"),
                (false, true) => format!("mounting {of}"),
                _ => format!("opening and mounting {of}"),
            }
        }
        AppArmorPart::Other(rule) => format!("`{rule}`"),
    }
}

fn capabilities(mask: u64) -> String {
    let upper = |mask| {
        let names: Vec<_> = capability::names(mask).map(str::to_uppercase).collect();
        names.join(", ")
    };
    match capability::ALL & !mask {
        0 => "every capability".to_owned(),
        left if left.count_ones() < mask.count_ones() => {
            format!("every capability but {}", upper(left))
        }
        _ => format!("capability {}", upper(mask)),
    }
}

/// The names of bits, in the order of the table.
fn named<T: Copy + PartialEq + std::ops::BitAnd<Output = T>>(
    mask: T,
    names: &[(T, &str)],
) -> String {
    let set = names.iter().filter(|(bit, _)| mask & *bit == *bit);
    set.map(|(_, name)| *name).collect::<Vec<_>>().join(", ")
}

fn bpf(part: &BpfPart) -> String {
    match *part {
        BpfPart::Path(pattern, permissions) => {
            let names = [
                (PERM_READ, "read"),
                (PERM_WRITE | PERM_APPEND, "write"),
                (PERM_EXEC, "execute"),
            ];
            format!("{} `{pattern}`", named(permissions, &names))
        }
        BpfPart::Capabilities(mask) => capabilities(mask),
        BpfPart::Sockets {
            families,
            types,
            protocols,
        } => sockets(families, types, protocols),
        BpfPart::Destination(address) => format!("connecting or sending to {address}"),
        BpfPart::Service { namespace, name } => {
            format!("connecting or sending to the service {namespace}/{name} and its endpoints")
        }
        BpfPart::PtraceExternal(permissions) => {
            let names = [
                (PTRACE_TRACE, "tracing"),
                (PTRACE_READ, "reading"),
                (PTRACE_TRACEBY, "being traced by"),
                (PTRACE_READBY, "being read by"),
            ];
            format!(
                "{} processes outside the container",
                named(permissions, &names)
            )
        }
        BpfPart::Mount {
            fstype,
            source,
            flags,
        } => mount(fstype, source, flags),
        BpfPart::BlockDevices { open, mount } => match (open, mount) {
            (true, false) => "opening a block device, under whatever path".to_owned(),
            (false, true) => "a new mount of a file system on a block device".to_owned(),
            _ => "opening block devices, and mounting what is on them".to_owned(),
        },
        BpfPart::UsernsCreate => "making a user namespace".to_owned(),
    }
}

fn sockets(families: &[u8], types: u32, protocols: u64) -> String {
    let named: Vec<_> = families
        .iter()
        .filter_map(|number| FAMILIES.iter().find(|(_, other)| other == number))
        .map(|(name, _)| *name)
        .collect();
    let of = if families.is_empty() {
        "every family".to_owned()
    } else {
        named.join(", ")
    };
    if types == u32::MAX {
        return format!("sockets of {of}");
    }
    let protocols: Vec<_> = PROTOCOLS
        .iter()
        .filter(|(_, bits)| protocols & bits == *bits)
        .map(|(name, _)| *name)
        .collect();
    format!("sockets of {of} for {}", protocols.join(", "))
}

fn mount(fstype: Option<&str>, source: &str, flags: u32) -> String {
    let of = if source == "**" {
        String::new()
    } else {
        format!(" of `{source}`")
    };
    if flags == !MOUNT_UMOUNT {
        return format!("every mount operation{of} but umount");
    }
    let names = [
        (MOUNT_NEW, "new mount"),
        (BIND, "bind"),
        (MOVE, "move"),
        (REC, "recursive bind"),
        (REMOUNT, "remount"),
        (MOUNT_UMOUNT, "umount"),
    ];
    let of_type = fstype.map_or(String::new(), |fstype| format!(" of type {fstype}"));
    format!("{}{of_type}{of}", named(flags, &names))
}

fn seccomp(part: &SyscallPart) -> String {
    let names: Vec<_> = part.names.iter().map(|name| format!("`{name}`")).collect();
    let argument = |arg: &ArgMask| {
        format!(
            "argument {} & {:#x} is {:#x}",
            arg.index, arg.mask, arg.value
        )
    };
    let arguments: Vec<_> = part.args.iter().map(argument).collect();
    let when = if arguments.is_empty() {
        String::new()
    } else {
        format!(" where {}", arguments.join(" and "))
    };
    let errno = match part.errno {
        super::parts::ENOSYS => " (ENOSYS)",
        _ => " (EPERM)",
    };
    format!("{}{when}{errno}", names.join(", "))
}
