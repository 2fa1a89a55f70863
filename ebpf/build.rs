// SPDX-License-Identifier: Apache-2.0
//! Compiles the LSM programs with clang, in two builds: with task storage (kernel 5.11 and later), and without (5.10).

use std::path::{Path, PathBuf};
use std::process::Command;

/// Folder of `asm/types.h` on Debian, which clang's BPF target doesn't look in by itself.
const ASM_HEADERS: &str = "/usr/include/x86_64-linux-gnu";

fn main() {
    let kernel = Path::new(&variable("CARGO_MANIFEST_DIR")).join("kernel");
    let out = PathBuf::from(variable("OUT_DIR"));
    // Every header; cargo looks into the folder for changes.
    println!("cargo:rerun-if-changed={}", kernel.display());
    println!("cargo:rerun-if-env-changed=BPF_CLANG");
    compile(&kernel, &out.join("varmor.bpf.o"), &[]);
    compile(
        &kernel,
        &out.join("varmor-by-pointer.bpf.o"),
        &["-DSUBJECTS_BY_POINTER"],
    );
}

fn variable(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| panic!("cargo sets {name}"))
}

fn compile(kernel: &Path, object: &Path, defines: &[&str]) {
    let clang = std::env::var("BPF_CLANG").unwrap_or_else(|_| "clang".into());
    let source = kernel.join("varmor.bpf.c");
    let mut command = Command::new(&clang);
    command
        .args([
            "-target",
            "bpf",
            "-mcpu=v3",
            "-O2",
            "-g",
            "-Wall",
            "-Werror",
            "-I",
            ASM_HEADERS,
        ])
        // The object's hash tells builds apart; where it was built must not.
        .arg(format!("-ffile-prefix-map={}=.", kernel.display()))
        .args(["-fdebug-compilation-dir", "."])
        .args(defines)
        .arg("-c")
        .arg(&source)
        .arg("-o")
        .arg(object);
    let output = match command.output() {
        Ok(output) => output,
        Err(error) => fail(&format!(
            "cannot run {clang}: {error}. The BPF programs need clang 14 or later and libbpf's headers: \
             apt-get install clang libbpf-dev, or set BPF_CLANG to a clang"
        )),
    };
    if !output.status.success() {
        fail(&format!(
            "{} does not compile:\n{}",
            source.display(),
            String::from_utf8_lossy(&output.stderr)
        ));
    }
}

fn fail(message: &str) -> ! {
    // cargo shows a build script's standard error when it fails.
    eprintln!("{message}");
    std::process::exit(1);
}
