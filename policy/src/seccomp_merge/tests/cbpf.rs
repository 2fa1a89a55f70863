// SPDX-License-Identifier: Apache-2.0
//! A filter as the kernel runs it: built by libseccomp the way runc does, executed by an interpreter of classic BPF.

use libseccomp::{
    ScmpAction, ScmpArch, ScmpArgCompare, ScmpCompareOp, ScmpFilterContext, ScmpSyscall,
};
use serde_json::Value;
use std::io::{Read, Seek};

/// The architectures of an x86-64 machine.
pub(super) const ARCHITECTURES: [ScmpArch; 3] = [ScmpArch::X8664, ScmpArch::X86, ScmpArch::X32];

/// AUDIT_ARCH_X86_64 and AUDIT_ARCH_I386.
const AUDIT_X86_64: u32 = 0xc000_003e;
const AUDIT_I386: u32 = 0x4000_0003;
const X32_BIT: u32 = 0x4000_0000;

pub(super) struct Filter {
    program: Vec<[u8; 8]>,
}

impl Filter {
    /// Builds an OCI filter as runc (libcontainer/seccomp) does.
    pub(super) fn build(filter: &Value) -> Self {
        let default = action(
            filter["defaultAction"].as_str().expect("a text"),
            filter["defaultErrnoRet"].as_u64(),
        );
        let mut context = ScmpFilterContext::new(default).expect("a context");
        for arch in filter["architectures"].as_array().into_iter().flatten() {
            let arch = match arch.as_str().expect("a text") {
                "SCMP_ARCH_X86_64" => ScmpArch::X8664,
                "SCMP_ARCH_X86" => ScmpArch::X86,
                "SCMP_ARCH_X32" => ScmpArch::X32,
                other => panic!("{other}"),
            };
            context.add_arch(arch).expect("an architecture");
        }
        for rule in filter["syscalls"].as_array().into_iter().flatten() {
            let action = action(
                rule["action"].as_str().expect("a text"),
                rule["errnoRet"].as_u64(),
            );
            if action == default {
                continue;
            }
            let conditions: Vec<ScmpArgCompare> = rule["args"]
                .as_array()
                .into_iter()
                .flatten()
                .map(compare)
                .collect();
            let mut indexes: Vec<u64> = rule["args"]
                .as_array()
                .into_iter()
                .flatten()
                .map(|a| a["index"].as_u64().expect("a number"))
                .collect();
            indexes.sort_unstable();
            let repeated = indexes.windows(2).any(|pair| pair[0] == pair[1]);
            for name in rule["names"].as_array().expect("names") {
                let Ok(call) = ScmpSyscall::from_name(name.as_str().expect("a text")) else {
                    continue;
                };
                if conditions.is_empty() {
                    context
                        .add_rule(action, call)
                        .map(|_| ())
                        .or_else(exists)
                        .expect("a rule");
                } else if repeated {
                    for condition in &conditions {
                        context
                            .add_rule_conditional(action, call, &[*condition])
                            .map(|_| ())
                            .or_else(exists)
                            .expect("a rule");
                    }
                } else {
                    context
                        .add_rule_conditional(action, call, &conditions)
                        .map(|_| ())
                        .or_else(exists)
                        .expect("a rule");
                }
            }
        }
        let mut file = tempfile::tempfile().expect("a temporary file");
        context.export_bpf(&mut file).expect("a program");
        file.rewind().expect("rewinds");
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).expect("reads");
        Self {
            program: bytes
                .chunks_exact(8)
                .map(|c| c.try_into().expect("8 bytes"))
                .collect(),
        }
    }

    /// Instructions of the program.
    pub(super) fn len(&self) -> usize {
        self.program.len()
    }

    /// The verdict on a call.
    pub(super) fn run(&self, arch: ScmpArch, call: &str, args: &[u64]) -> String {
        let number =
            ScmpSyscall::from_name_by_arch(call, arch).expect("a call of this architecture");
        self.run_number(arch, i32::from(number) as u32, args)
    }

    /// The verdict on a call by number: libseccomp finds numbers below 0 by names that 32-bit x86 has two ways for.
    pub(super) fn run_number(&self, arch: ScmpArch, number: u32, args: &[u64]) -> String {
        let (audit, number) = match arch {
            ScmpArch::X8664 => (AUDIT_X86_64, number),
            ScmpArch::X32 => (AUDIT_X86_64, number | X32_BIT),
            ScmpArch::X86 => (AUDIT_I386, number),
            other => panic!("{other:?}"),
        };
        // struct seccomp_data: nr, arch, instruction pointer, six arguments.
        let mut data = [0u8; 64];
        data[..4].copy_from_slice(&number.to_le_bytes());
        data[4..8].copy_from_slice(&audit.to_le_bytes());
        for (index, arg) in args.iter().enumerate() {
            // A 32-bit process has arguments of 32 bits.
            let arg = if arch == ScmpArch::X86 {
                arg & 0xffff_ffff
            } else {
                *arg
            };
            data[16 + index * 8..][..8].copy_from_slice(&arg.to_le_bytes());
        }
        verdict(self.execute(&data))
    }

    fn execute(&self, data: &[u8; 64]) -> u32 {
        let (mut accumulator, mut index, mut memory) = (0u32, 0u32, [0u32; 16]);
        let mut at = 0;
        loop {
            let [a, b, jump_true, jump_false, k @ ..] = self.program[at];
            let (code, k) = (u16::from_le_bytes([a, b]), u32::from_le_bytes(k));
            at += 1;
            let mut branch =
                |taken: bool| at += usize::from(if taken { jump_true } else { jump_false });
            match code {
                0x20 => {
                    accumulator =
                        u32::from_le_bytes(data[k as usize..][..4].try_into().expect("4 bytes"))
                }
                0x00 => accumulator = k,
                0x60 => accumulator = memory[k as usize],
                0x61 => index = memory[k as usize],
                0x02 => memory[k as usize] = accumulator,
                0x03 => memory[k as usize] = index,
                0x07 => index = accumulator,
                0x87 => accumulator = index,
                0x54 => accumulator &= k,
                0x05 => at += k as usize,
                0x15 => branch(accumulator == k),
                0x25 => branch(accumulator > k),
                0x35 => branch(accumulator >= k),
                0x45 => branch(accumulator & k != 0),
                0x06 => return k,
                other => panic!("instruction {other:#x} is not one of libseccomp's"),
            }
        }
    }
}

/// SECCOMP_RET_*.
fn verdict(value: u32) -> String {
    match value & 0xffff_0000 {
        0x8000_0000 => "kill process".to_owned(),
        0x0000_0000 => "kill thread".to_owned(),
        0x0003_0000 => "trap".to_owned(),
        0x0005_0000 => format!("errno {}", value & 0xffff),
        0x7fc0_0000 => "notify".to_owned(),
        0x7ff0_0000 => format!("trace {}", value & 0xffff),
        0x7ffc_0000 => "log".to_owned(),
        0x7fff_0000 => "allow".to_owned(),
        other => panic!("{other:#x}"),
    }
}

fn exists(error: libseccomp::error::SeccompError) -> Result<(), libseccomp::error::SeccompError> {
    // runc ignores rules that are there already.
    if error.errno() == Some(libseccomp::error::SeccompErrno::EEXIST) {
        Ok(())
    } else {
        Err(error)
    }
}

fn action(name: &str, data: Option<u64>) -> ScmpAction {
    let data = data.unwrap_or(1);
    match name {
        "SCMP_ACT_ALLOW" => ScmpAction::Allow,
        "SCMP_ACT_LOG" => ScmpAction::Log,
        "SCMP_ACT_TRACE" => ScmpAction::Trace(data as u16),
        "SCMP_ACT_ERRNO" => ScmpAction::Errno(data as i32),
        "SCMP_ACT_TRAP" => ScmpAction::Trap,
        "SCMP_ACT_KILL" | "SCMP_ACT_KILL_THREAD" => ScmpAction::KillThread,
        "SCMP_ACT_KILL_PROCESS" => ScmpAction::KillProcess,
        other => panic!("{other}"),
    }
}

fn compare(arg: &Value) -> ScmpArgCompare {
    let value = arg["value"].as_u64().expect("a number");
    let two = arg["valueTwo"].as_u64().unwrap_or(0);
    let (op, datum) = match arg["op"].as_str().expect("a text") {
        "SCMP_CMP_NE" => (ScmpCompareOp::NotEqual, value),
        "SCMP_CMP_LT" => (ScmpCompareOp::Less, value),
        "SCMP_CMP_LE" => (ScmpCompareOp::LessOrEqual, value),
        "SCMP_CMP_EQ" => (ScmpCompareOp::Equal, value),
        "SCMP_CMP_GE" => (ScmpCompareOp::GreaterEqual, value),
        "SCMP_CMP_GT" => (ScmpCompareOp::Greater, value),
        "SCMP_CMP_MASKED_EQ" => (ScmpCompareOp::MaskedEqual(value), two),
        other => panic!("{other}"),
    };
    ScmpArgCompare::new(arg["index"].as_u64().expect("a number") as u32, op, datum)
}
