// SPDX-License-Identifier: Apache-2.0
//! Names of Linux system calls (x86-64, i386 and arm64, up to kernel 7.0).

/// One name a line, sorted.
const LIST: &str = include_str!("../data/syscalls.txt");

/// All names, sorted.
pub fn names() -> impl Iterator<Item = &'static str> {
    LIST.lines()
}

/// Whether some supported architecture has a system call of this name.
pub fn is_known(name: &str) -> bool {
    names().any(|other| other == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_is_sorted_and_holds_what_the_rules_use() {
        assert!(names().is_sorted());
        for name in [
            "clone3",
            "unshare",
            "setns",
            "clone",
            "fchmodat2",
            "mseal",
            "socketcall",
            "statmount",
        ] {
            assert!(is_known(name), "{name}");
        }
        assert!(!is_known("opne"));
        for part in crate::rules::all().flat_map(|rule| rule.seccomp) {
            assert!(part.names.iter().all(|name| is_known(name)), "{part:?}");
        }
    }
}
