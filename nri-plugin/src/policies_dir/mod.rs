// SPDX-License-Identifier: Apache-2.0
//! The folder of policy files. A file is taken whole or not at all: while the newest version of a file is wrong, the last
//! good one stays in force, also across a restart, which is why good versions are copied to the state directory.

pub mod watch;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use sha2::{Digest, Sha256};

/// Larger files are refused before they are parsed. A Kubernetes object can't be larger than 1.5 MiB either.
pub const MAX_FILE_BYTES: u64 = 2 << 20;

const EXTENSIONS: [&str; 3] = ["yaml", "yml", "json"];

/// One file of the folder; `T` is what its text means.
#[derive(Debug)]
pub struct File<T> {
    /// SHA-256 (hex) of the version on disk, when it could be read.
    pub seen: Option<String>,
    /// The version that counts.
    pub accepted: Option<Accepted<T>>,
    /// Why the version on disk does not count.
    pub error: Option<String>,
}

/// A version of a file that was understood.
#[derive(Debug)]
pub struct Accepted<T> {
    /// SHA-256 (hex) of the text.
    pub digest: String,
    /// What it says.
    pub content: Arc<T>,
}

impl<T> Clone for Accepted<T> {
    fn clone(&self) -> Self {
        Self {
            digest: self.digest.clone(),
            content: self.content.clone(),
        }
    }
}

impl<T> Clone for File<T> {
    fn clone(&self) -> Self {
        Self {
            seen: self.seen.clone(),
            accepted: self.accepted.clone(),
            error: self.error.clone(),
        }
    }
}

/// The folder, as it was at the last scan.
#[derive(Debug)]
pub struct Folder<T> {
    path: PathBuf,
    last_good: PathBuf,
    files: BTreeMap<String, File<T>>,
    revision: u64,
}

impl<T> Folder<T> {
    /// A folder of policies and the folder of the copies of its files' last good versions.
    pub fn new(path: PathBuf, last_good: PathBuf) -> Self {
        Self {
            path,
            last_good,
            files: BTreeMap::new(),
            revision: 0,
        }
    }

    /// Where the folder is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Counts changes of what [`Folder::files`] says.
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// The files by name.
    pub fn files(&self) -> &BTreeMap<String, File<T>> {
        &self.files
    }

    /// Reads every file whose text changed. Files named in `being_written` are left as they are.
    ///
    /// # Errors
    /// When the folder can't be listed; what was known stays as it was, since a folder that went away (an unmounted
    /// volume) must not take every policy with it.
    pub fn scan(
        &mut self,
        being_written: &BTreeSet<String>,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> io::Result<()> {
        let names = self.names()?;
        let gone: Vec<String> = self
            .files
            .keys()
            .filter(|name| !names.contains(*name))
            .cloned()
            .collect();
        for name in gone {
            self.files.remove(&name);
            self.revision += 1;
        }
        for name in &names {
            if !being_written.contains(name) {
                self.scan_file(name, &parse);
            }
        }
        self.forget_copies(&names)
    }

    fn names(&self) -> io::Result<BTreeSet<String>> {
        let mut names = BTreeSet::new();
        for entry in fs::read_dir(&self.path)? {
            // A name that is not UTF-8 has no extension that we know.
            let Ok(name) = entry?.file_name().into_string() else {
                continue;
            };
            if is_policy_file(&name) {
                names.insert(name);
            }
        }
        Ok(names)
    }

    fn scan_file(&mut self, name: &str, parse: &impl Fn(&str) -> Result<T, String>) {
        let text = read(&self.path.join(name));
        let known = self.files.get(name);
        let seen = text.as_ref().ok().map(|text| digest(text.as_bytes()));
        if seen.is_some() && known.is_some_and(|known| known.seen == seen) {
            return;
        }
        let parsed = text.and_then(|text| parse(&text).map(|content| (text, content)));
        let file = match (parsed, seen) {
            (Ok((text, content)), Some(digest)) => {
                if let Err(error) = self.keep_copy(name, &text) {
                    tracing::warn!(
                        file = name,
                        "can't keep a copy of this good version: {error}"
                    );
                }
                let accepted = Accepted {
                    digest: digest.clone(),
                    content: Arc::new(content),
                };
                File {
                    seen: Some(digest),
                    accepted: Some(accepted),
                    error: None,
                }
            }
            (Err(error), seen) => {
                let accepted = match known {
                    Some(known) => known.accepted.clone(),
                    None => self.last_good_version(name, parse),
                };
                let standing = match &accepted {
                    Some(accepted) => format!("version {:.12} stays in force", accepted.digest),
                    None => "nothing of it is in force".to_owned(),
                };
                let error = format!("{}: {error}; {standing}", self.path.join(name).display());
                if known
                    .is_some_and(|known| known.seen == seen && known.error.as_ref() == Some(&error))
                {
                    return;
                }
                tracing::error!("{error}");
                File {
                    seen,
                    accepted,
                    error: Some(error),
                }
            }
            (Ok(_), None) => unreachable!("a parsed text has a digest"),
        };
        self.files.insert(name.to_owned(), file);
        self.revision += 1;
    }

    fn last_good_version(
        &self,
        name: &str,
        parse: &impl Fn(&str) -> Result<T, String>,
    ) -> Option<Accepted<T>> {
        let path = self.last_good.join(name);
        let text = fs::read_to_string(&path).ok()?;
        match parse(&text) {
            Ok(content) => Some(Accepted {
                digest: digest(text.as_bytes()),
                content: Arc::new(content),
            }),
            Err(error) => {
                tracing::error!("{}: {error}", path.display());
                None
            }
        }
    }

    fn keep_copy(&self, name: &str, text: &str) -> io::Result<()> {
        fs::create_dir_all(&self.last_good)?;
        let temporary = self.last_good.join(format!(".{name}.new"));
        fs::write(&temporary, text)?;
        fs::File::open(&temporary)?.sync_all()?;
        fs::rename(&temporary, self.last_good.join(name))
    }

    fn forget_copies(&self, names: &BTreeSet<String>) -> io::Result<()> {
        let entries = match fs::read_dir(&self.last_good) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            entries => entries?,
        };
        for entry in entries {
            let entry = entry?;
            if !entry
                .file_name()
                .to_str()
                .is_some_and(|name| names.contains(name))
            {
                fs::remove_file(entry.path())?;
            }
        }
        Ok(())
    }
}

/// Whether a name in the folder is that of a policy file. Hidden names are editors' temporary files and a mounted
/// ConfigMap's `..data`.
pub fn is_policy_file(name: &str) -> bool {
    let extension = Path::new(name)
        .extension()
        .and_then(|extension| extension.to_str());
    !name.starts_with('.') && extension.is_some_and(|found| EXTENSIONS.contains(&found))
}

/// SHA-256 in lower-case hex.
pub fn digest(bytes: &[u8]) -> String {
    Sha256::digest(bytes)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

fn read(path: &Path) -> Result<String, String> {
    let file = fs::File::open(path).map_err(|error| format!("can't be opened: {error}"))?;
    let metadata = file
        .metadata()
        .map_err(|error| format!("can't be examined: {error}"))?;
    if !metadata.is_file() {
        return Err("is not a file".to_owned());
    }
    let mut text = String::new();
    file.take(MAX_FILE_BYTES + 1)
        .read_to_string(&mut text)
        .map_err(|error| format!("can't be read: {error}"))?;
    if text.len() as u64 > MAX_FILE_BYTES {
        return Err(format!("is larger than {MAX_FILE_BYTES} bytes: split it"));
    }
    if text.trim().is_empty() {
        // Most often a file whose writer is not done; taken at its word it would delete its policies.
        return Err("is empty: to delete its policies, delete the file".to_owned());
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn parse(text: &str) -> Result<String, String> {
        if text.contains("wrong") {
            Err("line 1: wrong".to_owned())
        } else {
            Ok(text.to_owned())
        }
    }

    struct Fixture {
        directory: tempfile::TempDir,
        folder: Folder<String>,
    }

    impl Fixture {
        fn new() -> Self {
            let directory = tempfile::tempdir().unwrap();
            fs::create_dir(directory.path().join("d")).unwrap();
            let folder = Self::open(directory.path());
            Self { directory, folder }
        }

        fn open(directory: &Path) -> Folder<String> {
            Folder::new(directory.join("d"), directory.join("good"))
        }

        fn write(&self, name: &str, text: &str) {
            fs::write(self.directory.path().join("d").join(name), text).unwrap();
        }

        fn scan(&mut self) {
            self.folder.scan(&BTreeSet::new(), parse).unwrap();
        }

        fn content(&self, name: &str) -> Option<&str> {
            self.folder.files()[name]
                .accepted
                .as_ref()
                .map(|accepted| accepted.content.as_str())
        }
    }

    #[test]
    fn a_wrong_version_leaves_the_last_good_one_in_force_across_a_restart() {
        let mut fixture = Fixture::new();
        fixture.write("a.yaml", "one");
        fixture.write("ignored.txt", "wrong");
        fixture.write(".hidden.yaml", "wrong");
        fixture.scan();
        assert_eq!(fixture.folder.files().len(), 1);
        let revision = fixture.folder.revision();
        fixture.scan();
        assert_eq!(fixture.folder.revision(), revision);
        fixture.write("a.yaml", "wrong");
        fixture.scan();
        assert_eq!(fixture.content("a.yaml"), Some("one"));
        let file = &fixture.folder.files()["a.yaml"];
        assert!(
            file.error
                .as_ref()
                .unwrap()
                .contains("a.yaml: line 1: wrong"),
            "{file:?}"
        );
        assert_ne!(
            file.seen.as_ref(),
            file.accepted.as_ref().map(|accepted| &accepted.digest)
        );

        fixture.folder = Fixture::open(fixture.directory.path());
        fixture.scan();
        assert_eq!(fixture.content("a.yaml"), Some("one"));
        fixture.write("a.yaml", "two");
        fixture.scan();
        assert_eq!(fixture.content("a.yaml"), Some("two"));
        assert_eq!(fixture.folder.files()["a.yaml"].error, None);
    }

    #[test]
    fn a_deleted_file_is_gone_for_good() {
        let mut fixture = Fixture::new();
        fixture.write("a.yaml", "one");
        fixture.scan();
        fs::remove_file(fixture.directory.path().join("d/a.yaml")).unwrap();
        fixture.scan();
        assert!(fixture.folder.files().is_empty());
        fixture.write("a.yaml", "wrong");
        fixture.folder = Fixture::open(fixture.directory.path());
        fixture.scan();
        assert_eq!(fixture.content("a.yaml"), None);
    }

    #[test]
    fn an_emptied_or_unfinished_file_changes_nothing() {
        let mut fixture = Fixture::new();
        fixture.write("a.yaml", "one");
        fixture.scan();
        fixture.write("a.yaml", "");
        fixture.scan();
        assert_eq!(fixture.content("a.yaml"), Some("one"));
        fixture.write("a.yaml", "two and a ha");
        fixture
            .folder
            .scan(&BTreeSet::from(["a.yaml".to_owned()]), parse)
            .unwrap();
        assert_eq!(fixture.content("a.yaml"), Some("one"));
    }

    #[test]
    fn a_config_map_is_swapped_as_a_whole() {
        let mut fixture = Fixture::new();
        let folder = fixture.directory.path().join("d");
        for (version, text) in [("..1", "one"), ("..2", "two")] {
            fs::create_dir(folder.join(version)).unwrap();
            fs::write(folder.join(version).join("a.yaml"), text).unwrap();
        }
        symlink("..1", folder.join("..data")).unwrap();
        symlink("..data/a.yaml", folder.join("a.yaml")).unwrap();
        fixture.scan();
        assert_eq!(fixture.content("a.yaml"), Some("one"));
        symlink("..2", folder.join("..data_tmp")).unwrap();
        fs::rename(folder.join("..data_tmp"), folder.join("..data")).unwrap();
        fixture.scan();
        assert_eq!(fixture.content("a.yaml"), Some("two"));
    }

    #[test]
    fn a_folder_that_went_away_takes_nothing_with_it() {
        let mut fixture = Fixture::new();
        fixture.write("a.yaml", "one");
        fixture.scan();
        fs::rename(
            fixture.directory.path().join("d"),
            fixture.directory.path().join("e"),
        )
        .unwrap();
        assert!(fixture.folder.scan(&BTreeSet::new(), parse).is_err());
        assert_eq!(fixture.content("a.yaml"), Some("one"));
    }

    #[test]
    fn what_is_no_text_file_is_an_error_and_not_a_hang() {
        let mut fixture = Fixture::new();
        let folder = fixture.directory.path().join("d");
        fs::create_dir(folder.join("b.yaml")).unwrap();
        fs::write(folder.join("c.yaml"), b"\xff\xfe").unwrap();
        symlink("nowhere", folder.join("d.yaml")).unwrap();
        fs::File::create(folder.join("e.yaml"))
            .unwrap()
            .set_len(MAX_FILE_BYTES + 1)
            .unwrap();
        fixture.scan();
        for name in ["b.yaml", "c.yaml", "d.yaml", "e.yaml"] {
            assert!(fixture.folder.files()[name].error.is_some(), "{name}");
        }
    }
}
