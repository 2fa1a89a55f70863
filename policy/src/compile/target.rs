// SPDX-License-Identifier: Apache-2.0
//! Executables that have rules of their own.

use crate::error::Findings;

/// Longest path of an executable, in bytes.
pub(crate) const MAX_BYTES: usize = 1024;

/// Whether all are plain paths of executables; reports those that are not.
pub(super) fn check(targets: &[String], field: &str, findings: &mut Findings) -> bool {
    let mut plain = true;
    for (index, target) in targets.iter().enumerate() {
        if findings.is_full() {
            return false;
        }
        if let Err(message) = check_one(target) {
            findings.add(format!("{field}[{index}]"), message);
            plain = false;
        }
    }
    plain
}

/// An executable is named by a plain path: in AppArmor a pattern would clash with the profile's other rules for
/// execution, and BPF looks the path up in a table.
fn check_one(target: &str) -> Result<(), String> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"/._+-".contains(&b);
    if !target.starts_with('/') || target.ends_with('/') || target.len() > MAX_BYTES {
        return Err(format!(
            "`{}` is no executable; write its absolute path, such as /bin/sh",
            target.escape_debug()
        ));
    }
    if let Some(byte) = target.bytes().find(|b| !plain(*b)) {
        return Err(format!(
            "`{}` in `{}`: write the executable's path itself, in letters, digits and `/._+-`",
            byte.escape_ascii(),
            target.escape_debug()
        ));
    }
    if target
        .split('/')
        .skip(1)
        .any(|name| matches!(name, "" | "." | ".."))
    {
        return Err(format!(
            "`{target}` is no path as the kernel resolves it; write it without `//`, `.` and `..`"
        ));
    }
    Ok(())
}
