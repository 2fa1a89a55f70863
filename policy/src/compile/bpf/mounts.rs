// SPDX-License-Identifier: Apache-2.0
//! `bpfRawRules.mounts`.

use super::PatternSize;
use crate::automata::MountPattern;
use crate::compile::effect::Effect;
use crate::error::{Findings, suggestion};
use crate::mount_flags::{BIND, MOVE, PRIVATE, REC, REMOUNT, SHARED, SLAVE, UNBINDABLE};
use crate::pattern::Pattern;
use crate::plan::bpf::{MOUNT_UMOUNT, MountSet};
use crate::types::MountRule;

/// What a flag's name looks at.
#[derive(Clone, Copy)]
pub(crate) enum Flag {
    /// Bits, any of which is set.
    Set(u32),
    /// A bit that is clear.
    Clear(u32),
}
use Flag::{Clear, Set};

/// Operations that have no file system type.
pub(crate) const UNTYPED: u32 =
    BIND | MOVE | REMOUNT | UNBINDABLE | PRIVATE | SLAVE | SHARED | MOUNT_UMOUNT;
/// Longest file system type that is compared, in bytes.
const MAX_FSTYPE_BYTES: usize = 15;

/// mount(2) flags (include/uapi/linux/mount.h) by vArmor's names.
pub(crate) const FLAGS: &[(&str, Flag)] = &[
    ("ro", Set(1)),
    ("r", Set(1)),
    ("read-only", Set(1)),
    ("rw", Clear(1)),
    ("w", Clear(1)),
    ("nosuid", Set(1 << 1)),
    ("suid", Clear(1 << 1)),
    ("nodev", Set(1 << 2)),
    ("dev", Clear(1 << 2)),
    ("noexec", Set(1 << 3)),
    ("exec", Clear(1 << 3)),
    ("sync", Set(1 << 4)),
    ("async", Clear(1 << 4)),
    ("remount", Set(REMOUNT)),
    ("mand", Set(1 << 6)),
    ("nomand", Clear(1 << 6)),
    ("dirsync", Set(1 << 7)),
    ("noatime", Set(1 << 10)),
    ("atime", Clear(1 << 10)),
    ("nodiratime", Set(1 << 11)),
    ("diratime", Clear(1 << 11)),
    ("bind", Set(BIND)),
    ("move", Set(MOVE)),
    ("rbind", Set(BIND | REC)),
    ("silent", Set(1 << 15)),
    ("loud", Clear(1 << 15)),
    ("unbindable", Set(UNBINDABLE)),
    ("make-unbindable", Set(UNBINDABLE)),
    ("private", Set(PRIVATE)),
    ("make-private", Set(PRIVATE)),
    ("slave", Set(SLAVE)),
    ("make-slave", Set(SLAVE)),
    ("shared", Set(SHARED)),
    ("make-shared", Set(SHARED)),
    ("runbindable", Set(UNBINDABLE | REC)),
    ("make-runbindable", Set(UNBINDABLE | REC)),
    ("rprivate", Set(PRIVATE | REC)),
    ("make-rprivate", Set(PRIVATE | REC)),
    ("rslave", Set(SLAVE | REC)),
    ("make-rslave", Set(SLAVE | REC)),
    ("rshared", Set(SHARED | REC)),
    ("make-rshared", Set(SHARED | REC)),
    ("relatime", Set(1 << 21)),
    ("norelatime", Clear(1 << 21)),
    ("iversion", Set(1 << 23)),
    ("noiversion", Clear(1 << 23)),
    ("strictatime", Set(1 << 24)),
    ("nostrictatime", Clear(1 << 24)),
    ("umount", Set(MOUNT_UMOUNT)),
];

/// The flags that mount(2) gets for names joined by commas, those for clear flags left out.
///
/// # Errors
/// The word that is no flag.
pub(crate) fn bits(names: &str) -> Result<u32, &str> {
    let mut flags = 0;
    for name in names.split(',') {
        let lower = name.to_ascii_lowercase();
        match FLAGS.iter().find(|(other, _)| *other == lower) {
            Some((_, Set(bits))) => flags |= bits,
            Some((_, Clear(_))) => {}
            None => return Err(name),
        }
    }
    Ok(flags)
}

pub(super) fn add(
    rules: &[MountRule],
    field: &str,
    mounts: &mut Vec<MountPattern>,
    size: &mut PatternSize,
    findings: &mut Findings,
) {
    for (index, rule) in rules.iter().enumerate() {
        if findings.is_full() {
            break;
        }
        let field = format!("{field}[{index}]");
        let effect = Effect::from_qualifiers(&rule.qualifiers, &field, findings);
        let (set, clear) = flags(&rule.flags, &field, findings);
        let fstype = fstype(&rule.fstype, set, clear, &field, findings);
        let (set, clear) = (effect.masks(set), effect.masks(clear));
        match Pattern::mount_source(&rule.source_pattern) {
            Ok(source) if !size.add(&source, &field, findings) => return,
            Ok(source) => mounts.push((
                fstype,
                source,
                MountSet {
                    deny_flags: set.deny,
                    deny_clear: clear.deny,
                    audit_flags: set.audit,
                    audit_clear: clear.audit,
                },
            )),
            Err(error) => findings.add(format!("{field}.sourcePattern"), error.to_string()),
        }
    }
}

fn fstype(
    text: &str,
    set: u32,
    clear: u32,
    field: &str,
    findings: &mut Findings,
) -> Option<String> {
    let field = format!("{field}.fstype");
    if text == "*" {
        return None;
    }
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
    if text.is_empty() || text.len() > MAX_FSTYPE_BYTES || !text.bytes().all(plain) {
        findings.add(
            field,
            format!("`{text}` is no file system type; write a name of at most {MAX_FSTYPE_BYTES} bytes, or `*` for any"),
        );
    } else if text != "none" && set & !UNTYPED & !REC == 0 && clear == 0 {
        findings.add(
            field,
            format!("bind, move, remount, umount and propagation have no file system type, so `{text}` never \
                     matches; write `*`"),
        );
    }
    Some(text.to_owned())
}

pub(crate) fn flags(names: &[String], field: &str, findings: &mut Findings) -> (u32, u32) {
    let (mut set, mut clear) = (0, 0);
    for (index, name) in names.iter().enumerate() {
        if findings.is_full() {
            break;
        }
        // vArmor documents B, M and R; `r` is read-only.
        let lower = match name.as_str() {
            "B" => "bind".to_owned(),
            "M" => "move".to_owned(),
            "R" => "rbind".to_owned(),
            name => name.to_ascii_lowercase(),
        };
        if lower == "all" || lower == "*" {
            set = u32::MAX;
            continue;
        }
        match FLAGS.iter().find(|(other, _)| *other == lower) {
            Some((_, Set(bits))) => set |= bits,
            Some((_, Clear(bits))) => clear |= bits,
            None => {
                let near = suggestion(&lower, FLAGS.iter().map(|(name, _)| *name));
                findings.add(
                    format!("{field}.flags[{index}]"),
                    format!("`{name}` is no mount flag{near}; write `all` or names such as bind, remount, umount, ro"),
                );
            }
        }
    }
    if names.is_empty() {
        findings.add(
            format!("{field}.flags"),
            "a rule without flags has no effect; write `[all]`, say",
        );
    }
    (set, clear)
}
