// SPDX-License-Identifier: Apache-2.0
//! A static program that only exits, so that an exec of it is hardly more than the exec.

use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use anyhow::{Context, Result};

/// `mov eax, 60; xor edi, edi; syscall`: exit(0).
const CODE: [u8; 9] = [0xb8, 60, 0, 0, 0, 0x31, 0xff, 0x0f, 0x05];
const HEADERS: u64 = 64 + 56;
const ADDRESS: u64 = 0x40_0000;

/// Writes the program to `path`.
///
/// # Errors
///
/// Fails when the file can't be made.
pub fn write(path: &Path) -> Result<()> {
    let what = || format!("writing {}", path.display());
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o755)
        .open(path)
        .with_context(what)?;
    file.write_all(&bytes()).with_context(what)
}

/// An ELF file with one segment: the ELF header, one program header, the code.
fn bytes() -> Vec<u8> {
    let size = HEADERS + CODE.len() as u64;
    let mut out = Vec::new();
    // Magic, 64 bits, little endian, version 1, padding.
    out.extend(b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0");
    // ET_EXEC, EM_X86_64, version, entry, program headers at 64, no sections, flags.
    out.extend(2_u16.to_le_bytes());
    out.extend(62_u16.to_le_bytes());
    out.extend(1_u32.to_le_bytes());
    for word in [ADDRESS + HEADERS, 64, 0] {
        out.extend(word.to_le_bytes());
    }
    out.extend(0_u32.to_le_bytes());
    // Sizes: this header, a program header, one of them; no section headers.
    for half in [64_u16, 56, 1, 64, 0, 0] {
        out.extend(half.to_le_bytes());
    }
    // PT_LOAD, readable and executable; offset, addresses, sizes, alignment.
    out.extend(1_u32.to_le_bytes());
    out.extend(5_u32.to_le_bytes());
    for word in [0, ADDRESS, ADDRESS, size, size, 4096] {
        out.extend(word.to_le_bytes());
    }
    out.extend(CODE);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_program_runs_and_exits_with_0() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("smallest");
        write(&path).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().len(), HEADERS + 9);
        assert!(
            std::process::Command::new(&path)
                .status()
                .unwrap()
                .success()
        );
    }
}
