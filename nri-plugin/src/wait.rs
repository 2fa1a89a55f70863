// SPDX-License-Identifier: Apache-2.0
//! `varmor-nri wait`: until the policy folder, as it is now, is in force.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use varmor_node_api::api::ListResponse;

use crate::policies_dir::{digest, is_policy_file};

/// What the daemon says about the folder.
#[derive(Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Not yet.
    Pending(String),
    /// All of it is in force.
    InForce,
    /// Some of it will not be.
    Failed(String),
}

/// SHA-256 of every policy file of a folder, by path.
pub fn digests(folder: &Path) -> std::io::Result<BTreeMap<String, String>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_name().to_str().is_some_and(is_policy_file) {
            let path = entry.path();
            found.insert(
                path.to_string_lossy().into_owned(),
                digest(&fs::read(&path)?),
            );
        }
    }
    Ok(found)
}

/// Whether the daemon has dealt with exactly these files; `settled` is of a status that was asked for afterwards.
pub fn judge(files: &BTreeMap<String, String>, list: &ListResponse, settled: bool) -> Verdict {
    if let Some(extra) = list
        .files
        .iter()
        .find(|file| !files.contains_key(&file.path))
    {
        return Verdict::Pending(format!("{} is deleted but still counts", extra.path));
    }
    let mut errors = Vec::new();
    for (path, digest) in files {
        match list.files.iter().find(|file| file.path == *path) {
            Some(file) if file.seen == *digest => {
                if !file.error.is_empty() {
                    errors.push(file.error.clone());
                } else if file.in_force != *digest {
                    return Verdict::Pending(format!("{path} is being applied"));
                }
            }
            _ => return Verdict::Pending(format!("{path} was not read yet")),
        }
    }
    match (errors.is_empty(), settled) {
        (_, false) => Verdict::Pending("policies are being applied".to_owned()),
        (false, true) => Verdict::Failed(errors.join("\n")),
        (true, true) => Verdict::InForce,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use varmor_node_api::api::SourceFile;

    fn list(seen: &str, in_force: &str, error: &str) -> ListResponse {
        let mut file = SourceFile::new();
        file.path = "/d/a.yaml".into();
        (file.seen, file.in_force, file.error) = (seen.into(), in_force.into(), error.into());
        ListResponse {
            files: vec![file],
            ..ListResponse::default()
        }
    }

    #[test]
    fn a_folder_is_in_force_when_every_file_is() {
        let files = BTreeMap::from([("/d/a.yaml".to_owned(), "2".to_owned())]);
        let pending = |what: &str| Verdict::Pending(what.to_owned());
        let cases = [
            (list("2", "2", ""), true, Verdict::InForce),
            (
                list("2", "2", ""),
                false,
                pending("policies are being applied"),
            ),
            (
                list("1", "1", ""),
                true,
                pending("/d/a.yaml was not read yet"),
            ),
            (
                list("2", "", ""),
                true,
                pending("/d/a.yaml is being applied"),
            ),
            (
                list("2", "1", "line 3"),
                true,
                Verdict::Failed("line 3".into()),
            ),
            (
                list("1", "0", "line 3"),
                true,
                pending("/d/a.yaml was not read yet"),
            ),
            (
                ListResponse::default(),
                true,
                pending("/d/a.yaml was not read yet"),
            ),
        ];
        for (list, settled, verdict) in cases {
            assert_eq!(judge(&files, &list, settled), verdict, "{list:?}");
        }
        let gone = judge(&BTreeMap::new(), &list("1", "1", ""), true);
        assert_eq!(gone, pending("/d/a.yaml is deleted but still counts"));
    }

    #[test]
    fn digests_are_of_policy_files_only() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["a.yaml", ".a.half", "notes.txt"] {
            fs::write(folder.path().join(name), "x").unwrap();
        }
        let path = folder.path().join("a.yaml").to_string_lossy().into_owned();
        assert_eq!(
            digests(folder.path()).unwrap(),
            BTreeMap::from([(path, digest(b"x"))])
        );
    }
}
