// SPDX-License-Identifier: Apache-2.0
//! A BPF profile's tables for people.

use super::tables::{Effect, FlagSet, Ports, Size, Tables};
use std::io::{self, Write};

/// Writes all tables; what is empty is left out.
pub fn write(tables: &Tables, out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "profile {}", tables.profile)?;
    for (name, effect) in [
        ("capabilities", &tables.capabilities),
        ("ptrace, outside the container", &tables.ptrace.external),
        ("ptrace, within the container", &tables.ptrace.internal),
    ] {
        if !effect.refused.is_empty() || !effect.reported.is_empty() {
            writeln!(out, "\n{name}")?;
            lists(effect, "  ", out)?;
        }
    }
    for (name, effect) in [
        ("user namespaces", &tables.user_namespaces),
        ("block devices, opening", &tables.block_devices.open),
        ("block devices, mounting", &tables.block_devices.mount),
    ] {
        if let Some(what) = what_happens(effect.refused, effect.reported) {
            writeln!(out, "\n{name}: {what}")?;
        }
    }
    paths(tables, out)?;
    mounts(tables, out)?;
    network(tables, out)?;
    for child in &tables.children {
        writeln!(out, "\nrules of their own: {}", child.targets.join(", "))?;
        sizes(
            &[
                ("forward", &child.forward),
                ("backward", &child.backward),
                ("mounts", &child.mounts),
            ],
            out,
        )?;
    }
    Ok(())
}

fn paths(tables: &Tables, out: &mut dyn Write) -> io::Result<()> {
    let paths = &tables.paths;
    if paths.rules.is_empty() {
        return Ok(());
    }
    writeln!(out, "\npaths")?;
    let width = paths
        .rules
        .iter()
        .map(|rule| rule.pattern.chars().count())
        .max()
        .unwrap_or_default();
    for rule in &paths.rules {
        let effect = |effect: &Effect<Vec<&str>>| {
            let (refused, reported) = (effect.refused.join(","), effect.reported.join(","));
            match (refused.as_str(), reported.as_str()) {
                ("", "") => "nothing".to_owned(),
                ("", reported) => format!("report {reported}"),
                (refused, "") => format!("refuse {refused}"),
                (refused, reported) if refused == reported => {
                    format!("refuse and report {refused}")
                }
                (refused, reported) => format!("refuse {refused}, report {reported}"),
            }
        };
        write!(
            out,
            "  {:width$}  {}  ({}",
            rule.pattern,
            effect(&rule.permissions),
            short(&rule.field)
        )?;
        for target in &rule.targets {
            write!(out, ", for {target}")?;
        }
        writeln!(out, ")")?;
    }
    sizes(
        &[("forward", &paths.forward), ("backward", &paths.backward)],
        out,
    )
}

fn mounts(tables: &Tables, out: &mut dyn Write) -> io::Result<()> {
    let mounts = &tables.mounts;
    if mounts.rules.is_empty() {
        return Ok(());
    }
    writeln!(out, "\nmounts")?;
    for rule in &mounts.rules {
        writeln!(
            out,
            "  type {}, source {}  ({})",
            rule.fstype.as_deref().unwrap_or("any"),
            if rule.source.is_empty() {
                "\"\""
            } else {
                &rule.source
            },
            short(&rule.field)
        )?;
        flags(&rule.flags, out)?;
    }
    sizes(&[("automaton", &mounts.automaton)], out)
}

fn flags(set: &FlagSet, out: &mut dyn Write) -> io::Result<()> {
    lists(&set.set, "    ", out)?;
    for (what, names) in [
        ("refused without", &set.clear.refused),
        ("reported without", &set.clear.reported),
    ] {
        if !names.is_empty() {
            writeln!(out, "    {what}: {}", names.join(", "))?;
        }
    }
    Ok(())
}

fn network(tables: &Tables, out: &mut dyn Write) -> io::Result<()> {
    if !tables.sockets.is_empty() {
        writeln!(out, "\nsockets")?;
    }
    for socket in &tables.sockets {
        for (kind, effect) in [("types", &socket.types), ("protocols", &socket.protocols)] {
            if !effect.refused.is_empty() || !effect.reported.is_empty() {
                writeln!(out, "  {}, {kind}", socket.family)?;
                lists(effect, "    ", out)?;
            }
        }
    }
    let Some(egress) = &tables.egress else {
        return Ok(());
    };
    writeln!(out, "\ndestinations: {} prefixes", egress.prefixes.len())?;
    for prefix in &egress.prefixes {
        writeln!(out, "  {}", prefix.prefix)?;
        ports(&prefix.ports, out)?;
    }
    if !egress.pod_self.is_empty() {
        writeln!(out, "  the pod's own addresses")?;
        ports(&egress.pod_self, out)?;
    }
    Ok(())
}

fn ports(ports: &[Ports], out: &mut dyn Write) -> io::Result<()> {
    for range in ports {
        let what = what_happens(range.refused, range.reported).unwrap_or("nothing");
        match (range.first, range.last) {
            (0, u16::MAX) => writeln!(out, "    every port: {what}")?,
            (first, last) if first == last => writeln!(out, "    port {first}: {what}")?,
            (first, last) => writeln!(out, "    ports {first} to {last}: {what}")?,
        }
    }
    Ok(())
}

fn lists<T: AsRef<str>>(
    effect: &Effect<Vec<T>>,
    indent: &str,
    out: &mut dyn Write,
) -> io::Result<()> {
    let joined = |names: &[T]| {
        let names: Vec<&str> = names.iter().map(AsRef::as_ref).collect();
        names.join(", ")
    };
    let (refused, reported) = (joined(&effect.refused), joined(&effect.reported));
    if refused == reported && !refused.is_empty() {
        return writeln!(out, "{indent}refused and reported: {refused}");
    }
    for (what, names) in [("refused", refused), ("reported", reported)] {
        if !names.is_empty() {
            writeln!(out, "{indent}{what}: {names}")?;
        }
    }
    Ok(())
}

fn sizes(automata: &[(&str, &Option<Size>)], out: &mut dyn Write) -> io::Result<()> {
    for (name, size) in automata {
        if let Some(size) = size {
            writeln!(
                out,
                "  {name}: {} states, {} classes of bytes, {} verdicts, {} bytes",
                size.states, size.classes, size.verdicts, size.bytes
            )?;
        }
    }
    Ok(())
}

fn what_happens(refused: bool, reported: bool) -> Option<&'static str> {
    match (refused, reported) {
        (true, true) => Some("refused and reported"),
        (true, false) => Some("refused"),
        (false, true) => Some("reported"),
        (false, false) => None,
    }
}

/// A field without what all have before it.
fn short(field: &str) -> &str {
    let field = field.strip_prefix("spec.policy.").unwrap_or(field);
    field.strip_prefix("enhanceProtect.").unwrap_or(field)
}
