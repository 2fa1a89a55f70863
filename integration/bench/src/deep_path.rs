// SPDX-License-Identifier: Apache-2.0
//! The path on which everything is measured: 57 bytes, 10 components, one file system.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use tempfile::TempDir;

/// Length of the absolute path, in bytes.
pub const LENGTH: usize = 57;
/// Number of components.
pub const COMPONENTS: usize = 10;

/// The eight components below the temporary directory; the last is a file or a directory.
const BELOW: &str = "user/home/work/proj/main/base/conf/file";

/// A temporary directory that holds the path.
#[derive(Debug)]
pub struct DeepPath {
    path: PathBuf,
    _top: TempDir,
}

impl DeepPath {
    /// Makes the path below `parent`, a directory of one component with three letters such as `/tmp` or `/srv`, with a
    /// directory at its end.
    ///
    /// # Errors
    ///
    /// Fails when the directories can't be made, or when `parent` has another length.
    pub fn directory(parent: &Path) -> Result<Self> {
        let made = Self::new(parent)?;
        std::fs::create_dir(&made.path)
            .with_context(|| format!("making {}", made.path.display()))?;
        Ok(made)
    }

    /// As [`DeepPath::directory`], with a file that has `content` at its end.
    ///
    /// # Errors
    ///
    /// As [`DeepPath::directory`].
    pub fn file(parent: &Path, content: &[u8]) -> Result<Self> {
        let made = Self::new(parent)?;
        std::fs::write(&made.path, content)
            .with_context(|| format!("writing {}", made.path.display()))?;
        Ok(made)
    }

    fn new(parent: &Path) -> Result<Self> {
        let top = tempfile::Builder::new()
            .prefix("bench.")
            .rand_bytes(6)
            .tempdir_in(parent)
            .with_context(|| format!("making a directory in {}", parent.display()))?;
        let path = top.path().join(BELOW);
        let bytes = path.as_os_str().as_encoded_bytes();
        let components = bytes.iter().filter(|byte| **byte == b'/').count();
        ensure!(
            bytes.len() == LENGTH && components == COMPONENTS,
            "{} has {} bytes in {components} components instead of {LENGTH} in {COMPONENTS}",
            path.display(),
            bytes.len()
        );
        let directory = path
            .parent()
            .context("a path of ten components has a parent")?;
        std::fs::create_dir_all(directory)
            .with_context(|| format!("making {}", directory.display()))?;
        Ok(Self { path, _top: top })
    }

    /// The absolute path.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_path_is_there_with_the_length_it_promises() {
        let deep = DeepPath::directory(Path::new("/tmp")).unwrap();
        assert!(deep.path().is_dir());
        assert_eq!(deep.path().as_os_str().len(), LENGTH);
        assert!(DeepPath::directory(Path::new("/var/tmp")).is_err());
    }
}
