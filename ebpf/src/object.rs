// SPDX-License-Identifier: Apache-2.0
//! The compiled programs, and making their maps.

use std::path::Path;

use aya::{Btf, Ebpf, EbpfLoader, VerifierLogLevel};
use sha2::{Digest, Sha256};
use varmor_bpf_abi::pins;

static WITH_TASK_STORAGE: &[u8] =
    aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/varmor.bpf.o"));
static BY_POINTER: &[u8] =
    aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/varmor-by-pointer.bpf.o"));

/// How the programs remember which tasks are subjects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Variant {
    /// In task storage (5.11 and later).
    TaskStorage,
    /// In a hash by the task's address (5.10).
    ByPointer,
}

impl Variant {
    /// The variant for the running kernel.
    pub fn of_this_kernel() -> Result<Self, aya::sys::SyscallError> {
        let supported = aya::sys::is_map_supported(aya::maps::MapType::TaskStorage)?;
        Ok(if supported {
            Self::TaskStorage
        } else {
            Self::ByPointer
        })
    }

    /// The object file.
    pub fn bytes(self) -> &'static [u8] {
        match self {
            Self::TaskStorage => WITH_TASK_STORAGE,
            Self::ByPointer => BY_POINTER,
        }
    }

    /// SHA-256 of the object file: the same build is adopted, another replaces what is pinned.
    pub fn build(self) -> [u8; 32] {
        Sha256::digest(self.bytes()).into()
    }
}

/// The maps that the object's programs and user space share: pinned, and found again by the next loader.
pub const PINNED_MAPS: [&str; 15] = [
    pins::CONTAINERS,
    pins::STATES,
    pins::NAMESPACES,
    pins::PROFILES,
    pins::CHILDREN,
    pins::AUTOMATA_S,
    pins::AUTOMATA_M,
    pins::AUTOMATA_L,
    pins::AUTOMATA_XL,
    pins::PREFIXES,
    pins::SUBJECTS,
    pins::VIOLATIONS,
    pins::COUNTERS,
    pins::SETTINGS,
    pins::MARK_REQUEST,
];

/// Parses the object, takes the maps that are pinned in `dir`, makes and pins the others. No program is loaded yet.
pub fn instantiate(variant: Variant, btf: &Btf, dir: &Path) -> Result<Ebpf, aya::EbpfError> {
    let mut loader = EbpfLoader::new();
    // aya has no type for task storage; it makes and pins the map all the same.
    // Statistics would end the log, where the reason for a refusal is.
    loader
        .btf(Some(btf))
        .allow_unsupported_maps()
        .verifier_log_level(VerifierLogLevel::DEBUG);
    for name in PINNED_MAPS {
        loader.map_pin_path(name, dir.join(name));
    }
    loader.load(variant.bytes())
}
