// SPDX-License-Identifier: Apache-2.0
//! Compiles the programs that the matcher's measurement runs, against the headers of the LSM programs.

use std::path::PathBuf;
use std::process::Command;

fn main() {
    let out = PathBuf::from(std::env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"))
        .join("matcher.bpf.o");
    println!("cargo::rerun-if-changed=kernel");
    println!("cargo::rerun-if-changed=../../ebpf/kernel");
    let status = Command::new("clang")
        .args([
            "-O2",
            "-g",
            "-target",
            "bpf",
            "-mcpu=v3",
            "-Wall",
            "-Werror",
            "-Wno-unused-function",
        ])
        .args([
            "-I",
            "../../ebpf/kernel",
            "-c",
            "kernel/matcher.bpf.c",
            "-o",
        ])
        .arg(&out)
        .status()
        .expect("clang is needed to compile the BPF programs; `make deps` installs it");
    assert!(
        status.success(),
        "clang could not compile kernel/matcher.bpf.c"
    );
}
