// SPDX-License-Identifier: Apache-2.0
//! What the last runs came to, so that the kernels can be run one after the other, and the document be written of all of
//! them. Only runs of what is built now count.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::enforcer::Enforcer;
use crate::outcome::Outcome;

/// Where they are.
const FOLDER: &str = "target/conformance/kept";
/// Of the payload, what the matrix is about.
const PROGRAMS: [&str; 3] = ["varmor-nri", "varmor-oci-hook", "probe"];

/// The runs of one build.
#[derive(Debug)]
pub struct Kept {
    folder: PathBuf,
    build: String,
}

/// What one boot came to.
#[derive(Debug, Serialize, Deserialize)]
pub struct Ended {
    build: String,
    /// Whether only the core was tried.
    pub core: bool,
    /// Of every case that was tried.
    pub outcomes: Vec<Outcome>,
}

impl Kept {
    /// Those of what is in `payload`, with the cases of `matrix`, judged by this program.
    ///
    /// # Errors
    /// One of these can't be read.
    pub fn of(project: &Path, payload: &Path, matrix: &Path) -> Result<Self> {
        let mut files = vec![std::env::current_exe()?, matrix.join("pods.yaml")];
        files.extend(
            PROGRAMS
                .iter()
                .map(|program| payload.join("bin").join(program)),
        );
        let cases = matrix.join("cases");
        for entry in std::fs::read_dir(&cases).with_context(|| cases.display().to_string())? {
            files.push(entry?.path());
        }
        files.sort();
        let mut digest = Sha256::new();
        for file in &files {
            let bytes = std::fs::read(file).with_context(|| file.display().to_string())?;
            digest.update(Sha256::digest(&bytes));
        }
        Ok(Self {
            folder: project.join(FOLDER),
            build: digest
                .finalize()
                .iter()
                .map(|byte| format!("{byte:02x}"))
                .collect(),
        })
    }

    /// Keeps what a boot came to. What is known of every case stays when only the core was tried again.
    ///
    /// # Errors
    /// It can't be written.
    pub fn keep(
        &self,
        kernel: &str,
        half: &[Enforcer],
        core: bool,
        outcomes: &[Outcome],
    ) -> Result<()> {
        if core && self.read(kernel, half).is_ok_and(|ended| !ended.core) {
            return Ok(());
        }
        std::fs::create_dir_all(&self.folder).with_context(|| self.folder.display().to_string())?;
        let path = self.path(kernel, half);
        let ended = Ended {
            build: self.build.clone(),
            core,
            outcomes: outcomes.to_vec(),
        };
        std::fs::write(&path, serde_json::to_vec(&ended)?)
            .with_context(|| path.display().to_string())
    }

    /// What the last run of this build came to.
    ///
    /// # Errors
    /// There is none: which, and how it is run.
    pub fn read(&self, kernel: &str, half: &[Enforcer]) -> Result<Ended> {
        let path = self.path(kernel, half);
        let missing = || {
            format!(
                "{} on kernel {kernel} were not run with what is built now: make conformance KERNEL={kernel}",
                names(half, " and ")
            )
        };
        let bytes = std::fs::read(&path).with_context(missing)?;
        let ended: Ended =
            serde_json::from_slice(&bytes).with_context(|| path.display().to_string())?;
        ensure!(ended.build == self.build, missing());
        Ok(ended)
    }

    fn path(&self, kernel: &str, half: &[Enforcer]) -> PathBuf {
        self.folder
            .join(format!("{kernel}-{}.json", names(half, "+")))
    }
}

fn names(half: &[Enforcer], between: &str) -> String {
    let names: Vec<_> = half.iter().map(|enforcer| enforcer.name()).collect();
    names.join(between)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HALF: &[Enforcer] = &[Enforcer::Bpf, Enforcer::Seccomp];

    fn kept(folder: &Path, build: &str) -> Kept {
        Kept {
            folder: folder.to_path_buf(),
            build: build.into(),
        }
    }

    #[test]
    fn only_runs_of_the_same_build_count() {
        let folder = tempfile::tempdir().unwrap();
        let old = kept(folder.path(), "old");
        old.keep("6.1", HALF, false, &[Outcome::new("a", Enforcer::Bpf)])
            .unwrap();
        assert_eq!(old.read("6.1", HALF).unwrap().outcomes.len(), 1);
        for (build, kernel) in [("new", "6.1"), ("old", "7.2")] {
            let error = kept(folder.path(), build).read(kernel, HALF).unwrap_err();
            let text = format!("BPF and Seccomp on kernel {kernel} were not run");
            assert!(error.to_string().starts_with(&text), "{error:#}");
        }
    }

    #[test]
    fn the_core_does_not_take_the_place_of_everything() {
        let folder = tempfile::tempdir().unwrap();
        let kept = kept(folder.path(), "x");
        kept.keep("6.1", HALF, true, &[]).unwrap();
        assert!(kept.read("6.1", HALF).unwrap().core);
        kept.keep("6.1", HALF, false, &[]).unwrap();
        kept.keep("6.1", HALF, true, &[]).unwrap();
        assert!(!kept.read("6.1", HALF).unwrap().core);
    }
}
