// SPDX-License-Identifier: Apache-2.0
//! Policies that came through the node API: kept on disk, so that a reboot finds them before the API is back.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use varmor_policy::PolicyObject;
use varmor_policy::plan::PolicyRef;

use crate::policies_dir::digest;
use crate::store::{Compiler, Policy};

/// A policy and who brought it.
#[derive(Debug, Clone)]
pub struct Brought {
    /// Who.
    pub source: String,
    /// What.
    pub policy: Arc<Policy>,
}

#[derive(Serialize, Deserialize)]
struct Kept {
    source: String,
    object: PolicyObject,
}

/// The folder of these policies, one JSON object a file.
pub struct Applied {
    folder: PathBuf,
}

impl Applied {
    /// Policies below the state directory.
    pub fn new(folder: PathBuf) -> Self {
        Self { folder }
    }

    /// All that are kept. One that can't be read any more is reported and left out.
    ///
    /// # Errors
    /// The folder can't be listed.
    pub fn load(&self, compiler: &Compiler) -> io::Result<BTreeMap<PolicyRef, Brought>> {
        let entries = match fs::read_dir(&self.folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(BTreeMap::new()),
            entries => entries.map_err(|error| self.unlisted(error))?,
        };
        let mut policies = BTreeMap::new();
        for entry in entries {
            let path = entry.map_err(|error| self.unlisted(error))?.path();
            let read = fs::read(&path)
                .map_err(|error| error.to_string())
                .and_then(|text| {
                    serde_json::from_slice::<Kept>(&text).map_err(|error| error.to_string())
                })
                .and_then(|kept| Ok((kept.source, Policy::new(kept.object, compiler)?)));
            match read {
                Ok((source, policy)) => {
                    let policy = Arc::new(policy);
                    policies.insert(policy.reference.clone(), Brought { source, policy });
                }
                Err(error) => tracing::error!("{}: {error}", path.display()),
            }
        }
        Ok(policies)
    }

    fn unlisted(&self, error: io::Error) -> io::Error {
        let folder = self.folder.display();
        io::Error::new(
            error.kind(),
            format!("listing the policies in {folder}: {error}"),
        )
    }

    /// Keeps an object.
    ///
    /// # Errors
    /// It may not be there after a reboot.
    pub fn keep(&self, brought: &Brought) -> io::Result<()> {
        fs::create_dir_all(&self.folder)?;
        let path = self.path(&brought.policy.reference);
        let kept = Kept {
            source: brought.source.clone(),
            object: (*brought.policy.object).clone(),
        };
        varmor_node_state::write_durably(&path, &serde_json::to_vec(&kept)?, 0o600)
    }

    /// Forgets an object, if it is there.
    ///
    /// # Errors
    /// It may still be there after a reboot.
    pub fn forget(&self, reference: &PolicyRef) -> io::Result<()> {
        match fs::remove_file(self.path(reference)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// Names come from tenants, so the file is named by a hash of them.
    fn path(&self, reference: &PolicyRef) -> PathBuf {
        self.folder.join(format!(
            "{:.32}.json",
            digest(reference.to_string().as_bytes())
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::tests::{compiler, text};

    #[test]
    fn a_folder_that_cannot_be_listed_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("applied");
        fs::write(&file, "").unwrap();
        let error = Applied::new(file.clone()).load(&compiler).unwrap_err();
        assert!(
            error.to_string().contains(&file.display().to_string()),
            "{error}"
        );
    }

    #[test]
    fn what_was_applied_is_there_after_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let applied = Applied::new(folder.path().join("applied"));
        assert!(applied.load(&compiler).unwrap().is_empty());
        let policies = crate::store::read(&text(&[("a", "BPF"), ("b", "BPF")]), &compiler).unwrap();
        for policy in &policies {
            applied
                .keep(&Brought {
                    source: "s".into(),
                    policy: Arc::clone(policy),
                })
                .unwrap();
        }
        fs::write(folder.path().join("applied/x.json"), "{").unwrap();
        assert_eq!(applied.load(&compiler).unwrap().len(), 2);
        applied.forget(&policies[0].reference).unwrap();
        applied.forget(&policies[0].reference).unwrap();
        let left = applied.load(&compiler).unwrap();
        let left: Vec<_> = left
            .values()
            .map(|left| (&*left.source, &*left.policy.reference.name))
            .collect();
        assert_eq!(left, [("s", "b")]);
    }
}
