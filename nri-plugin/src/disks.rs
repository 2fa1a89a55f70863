// SPDX-License-Identifier: Apache-2.0
//! The node's disks, which rules about disk devices are compiled for.

use std::collections::BTreeSet;
use std::io;
use std::path::Path;

use varmor_policy::compile::is_disk_name;

/// Reads the names of disks and partitions (4th column) from a file in the form of /proc/partitions.
///
/// # Errors
/// When the file cannot be read. A kernel without block devices has no such file: that is no error.
pub fn read(path: &Path) -> io::Result<BTreeSet<String>> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(names(&text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(BTreeSet::new()),
        Err(error) => Err(error),
    }
}

fn names(text: &str) -> BTreeSet<String> {
    let (plain, odd): (BTreeSet<String>, BTreeSet<String>) = text
        .lines()
        // The heading and an empty line.
        .skip(2)
        .filter_map(|line| line.split_whitespace().nth(3))
        .map(str::to_owned)
        .partition(|name| is_disk_name(name));
    for name in odd {
        tracing::warn!(
            "the disk {name:?} of /proc/partitions is left out of AppArmor's rules about disks: its name is not made of \
             letters, digits and /_!.-; BPF holds it"
        );
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn disks_and_partitions_are_read() {
        let text = "major minor  #blocks  name\n\n 259        0  500107608 nvme0n1\n 259        1    1048576 nvme0n1p1\n \
                    104        0   71687000 cciss!c0d0\n   8        0       1 a,b\n   8        1\n";
        assert_eq!(
            names(text).into_iter().collect::<Vec<_>>(),
            ["cciss!c0d0", "nvme0n1", "nvme0n1p1"]
        );
    }

    #[test]
    fn a_kernel_without_disks_is_fine_and_an_unreadable_file_is_not() {
        let folder = tempfile::tempdir().unwrap();
        assert!(read(&folder.path().join("partitions")).unwrap().is_empty());
        assert!(read(folder.path()).is_err());
        assert!(read(Path::new("/proc/partitions")).is_ok());
    }
}
