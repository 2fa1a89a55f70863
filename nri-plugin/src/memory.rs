// SPDX-License-Identifier: Apache-2.0
//! Giving back the memory that only the start needs.

use std::fs;

/// Loading the BPF programs reads the kernel's whole type information, some tens of MiB that glibc would keep; and most of
/// the program's own code has done its work by then: the loader, the parsers of ELF and of command lines.
pub fn give_back() {
    // SAFETY: takes a number and touches only free memory.
    unsafe { libc::malloc_trim(0) };
    let maps = fs::read_to_string("/proc/self/maps").unwrap_or_default();
    let Ok(program) = fs::read_link("/proc/self/exe") else {
        return;
    };
    for (start, length) in maps
        .lines()
        .filter_map(|line| code(line, program.to_str()?))
    {
        // SAFETY: the mapping is the program's own code, private, readable and executable but not writable, so that it has no
        // changes to lose (a position-independent program has no relocations in its text): what runs next is read from
        // the file again. A failure changes nothing.
        unsafe { libc::madvise(start as *mut libc::c_void, length, libc::MADV_DONTNEED) };
    }
}

/// Start and length of a mapping of the program's code, from its line in /proc/self/maps (proc(5)).
fn code(line: &str, program: &str) -> Option<(usize, usize)> {
    let mut fields = line.split_whitespace();
    let (start, end) = fields.next()?.split_once('-')?;
    if fields.next()? != "r-xp" || fields.nth(3)? != program {
        return None;
    }
    let start = usize::from_str_radix(start, 16).ok()?;
    let end = usize::from_str_radix(end, 16).ok()?;
    Some((start, end.checked_sub(start)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_programs_own_code_is_given_back() {
        let line = |mode: &str, path: &str| {
            format!("55d0c0000000-55d0c0002000 {mode} 00001000 fe:00 1234       {path}")
        };
        assert_eq!(
            code(&line("r-xp", "/usr/sbin/x"), "/usr/sbin/x"),
            Some((0x55d0c0000000, 0x2000))
        );
        for (mode, path) in [
            ("r--p", "/usr/sbin/x"),
            ("rw-p", "/usr/sbin/x"),
            ("r-xp", "/usr/lib/libc.so.6"),
            ("r-xp", ""),
        ] {
            assert_eq!(
                code(&line(mode, path), "/usr/sbin/x"),
                None,
                "{mode} {path}"
            );
        }
    }

    #[test]
    fn the_program_goes_on() {
        give_back();
        assert_eq!((1..=10).sum::<u32>(), 55);
    }
}
