// SPDX-License-Identifier: Apache-2.0
//! The policy folder: objects written into it and taken out, the way a person would.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::node::POLICIES;
use crate::format::Policy;

/// What lies in the folder.
#[derive(Default)]
pub struct Policies {
    files: BTreeMap<String, PathBuf>,
}

impl Policies {
    /// Writes an object, in the place of an earlier version of it.
    pub fn write(&mut self, policy: &Policy) -> Result<()> {
        let reference = policy.reference();
        let name = reference.to_lowercase().replace('/', "-");
        let path = Path::new(POLICIES).join(format!("{name}.yaml"));
        let text = serde_yaml::to_string(&policy.object)?;
        // Another name first: the folder's reader must never see half an object.
        let half = Path::new(POLICIES).join(format!(".{name}.half"));
        std::fs::write(&half, text).with_context(|| half.display().to_string())?;
        std::fs::rename(&half, &path).with_context(|| path.display().to_string())?;
        self.files.insert(reference, path);
        Ok(())
    }

    /// Takes an object out.
    pub fn delete(&mut self, reference: &str) -> Result<()> {
        let path = self
            .files
            .remove(reference)
            .with_context(|| format!("{reference} was not applied"))?;
        std::fs::remove_file(&path).with_context(|| path.display().to_string())
    }

    /// Takes everything out.
    pub fn clear(&mut self) -> Result<()> {
        for (_, path) in std::mem::take(&mut self.files) {
            std::fs::remove_file(&path).with_context(|| path.display().to_string())?;
        }
        Ok(())
    }
}
