// SPDX-License-Identifier: Apache-2.0
//! What the node must offer before programs can be loaded: BPF among its LSMs, BTF, memory, and a bpffs for the pins.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock, statfs};
use rustix::mount::{MountFlags, mount};
use rustix::process::{Resource, Rlimit, setrlimit};

/// `BPF_FS_MAGIC` of linux/magic.h.
const BPF_FS_MAGIC: i64 = 0xcafe_4a11;

/// Where a bpffs belongs, and is mounted when it is missing.
const BPFFS: &str = "/sys/fs/bpf";

const LSM_LIST: &str = "/sys/kernel/security/lsm";
const BTF: &str = "/sys/kernel/btf/vmlinux";

/// What the node lacks.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The list of LSMs can't be read.
    #[error("cannot read {LSM_LIST}: {0}; mount securityfs on /sys/kernel/security")]
    LsmList(io::Error),
    /// BPF isn't an active LSM.
    #[error(
        "the kernel's active LSMs are {found:?}, without bpf: boot with bpf appended to the lsm= parameter \
         (kernel 5.7 or later, CONFIG_BPF_LSM=y)"
    )]
    NoBpfLsm {
        /// The active LSMs.
        found: String,
    },
    /// The kernel doesn't describe its types.
    #[error("{BTF} is missing: the kernel was built without CONFIG_DEBUG_INFO_BTF")]
    NoBtf,
    /// The limit on locked memory can't be raised.
    #[error(
        "cannot raise RLIMIT_MEMLOCK, which kernels before 5.11 count BPF maps against: {0}; run as root"
    )]
    Memlock(io::Error),
    /// The folder for the pins isn't on a bpffs.
    #[error("{} is not on a bpffs; mount one: mount -t bpf bpf {BPFFS}", path.display())]
    NotBpfFs {
        /// The folder.
        path: PathBuf,
    },
    /// Another process writes the tables.
    #[error("another process has loaded the BPF programs under {}: is varmor-nri running already?", path.display())]
    Locked {
        /// The folder.
        path: PathBuf,
    },
    /// A file system operation failed.
    #[error("cannot {operation} {}: {source}", path.display())]
    Io {
        /// What was tried.
        operation: &'static str,
        /// On what.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The folder of the pins belongs to somebody else.
    #[error("{} belongs to user {owner}, not root: whoever can delete a pin ends the enforcement; remove it", path.display())]
    Owner {
        /// The folder.
        path: PathBuf,
        /// Its owner.
        owner: u32,
    },
}

/// Checks for the BPF LSM and BTF.
pub fn check_kernel() -> Result<(), Error> {
    let found = fs::read_to_string(LSM_LIST).map_err(Error::LsmList)?;
    has_bpf(&found)?;
    if Path::new(BTF).exists() {
        Ok(())
    } else {
        Err(Error::NoBtf)
    }
}

fn has_bpf(list: &str) -> Result<(), Error> {
    let found = list.trim();
    if found.split(',').any(|lsm| lsm == "bpf") {
        return Ok(());
    }
    Err(Error::NoBpfLsm {
        found: found.to_owned(),
    })
}

/// Lifts the limit on locked memory, against which kernels before 5.11 count maps.
pub fn raise_memlock() -> Result<(), Error> {
    setrlimit(
        Resource::Memlock,
        Rlimit {
            current: None,
            maximum: None,
        },
    )
    .map_err(|error| Error::Memlock(error.into()))
}

/// Makes the folder for the pins, mode 0700, on a bpffs; mounts one on /sys/fs/bpf where the folder is below that and
/// none is mounted.
pub fn prepare_pin_dir(dir: &Path) -> Result<(), Error> {
    let parent = dir.parent().unwrap_or(dir);
    if !on_bpffs(parent)? {
        if parent != Path::new(BPFFS) {
            return Err(Error::NotBpfFs {
                path: parent.to_owned(),
            });
        }
        let flags =
            MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC | MountFlags::RELATIME;
        mount("bpf", BPFFS, "bpf", flags, Some(c"mode=0700")).map_err(|error| Error::Io {
            operation: "mount a bpffs on",
            path: BPFFS.into(),
            source: error.into(),
        })?;
    }
    let failed = |operation| {
        move |source| Error::Io {
            operation,
            path: dir.to_owned(),
            source,
        }
    };
    match fs::DirBuilder::new().mode(0o700).create(dir) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        made => made.map_err(failed("make the folder"))?,
    }
    let metadata = fs::symlink_metadata(dir).map_err(failed("read the attributes of"))?;
    if metadata.uid() != 0 {
        return Err(Error::Owner {
            path: dir.to_owned(),
            owner: metadata.uid(),
        });
    }
    if metadata.mode() & 0o777 != 0o700 {
        fs::set_permissions(dir, fs::Permissions::from_mode(0o700))
            .map_err(failed("set the mode of"))?;
    }
    Ok(())
}

/// Keeps other writers of the tables away until it is dropped, or this process ends: two would take what the other is
/// writing for what an interrupted update left.
pub fn lock(dir: &Path) -> Result<OwnedFd, Error> {
    let failed = |source| Error::Io {
        operation: "open",
        path: dir.to_owned(),
        source,
    };
    let folder: OwnedFd = fs::File::open(dir).map_err(failed)?.into();
    match flock(&folder, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(folder),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(Error::Locked {
            path: dir.to_owned(),
        }),
        Err(error) => Err(Error::Io {
            operation: "lock",
            path: dir.to_owned(),
            source: error.into(),
        }),
    }
}

fn on_bpffs(path: &Path) -> Result<bool, Error> {
    let statistics = statfs(path).map_err(|error| Error::Io {
        operation: "read the file system type of",
        path: path.to_owned(),
        source: error.into(),
    })?;
    Ok(statistics.f_type == BPF_FS_MAGIC)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bpf_must_be_an_lsm_by_its_whole_name() {
        assert!(has_bpf("lockdown,capability,yama,apparmor,bpf\n").is_ok());
        assert!(has_bpf("bpf,apparmor").is_ok());
        for list in ["", "capability,apparmor", "capability,bpfx"] {
            assert!(
                matches!(has_bpf(list), Err(Error::NoBpfLsm { .. })),
                "{list}"
            );
        }
    }

    #[test]
    fn another_file_system_is_not_mounted_over() {
        let dir = tempfile::tempdir().unwrap();
        let error = prepare_pin_dir(&dir.path().join("varmor")).unwrap_err();
        assert!(
            matches!(&error, Error::NotBpfFs { path } if path == dir.path()),
            "{error}"
        );
    }
}
