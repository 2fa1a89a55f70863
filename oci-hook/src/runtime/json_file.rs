// SPDX-License-Identifier: Apache-2.0
//! Changing a bundle's config.json, or the file of a process that joins a container.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use serde_json::Value;
use varmor_node_state::write_atomically;

use crate::input::read_file;
use crate::oci::CONFIG_LIMIT;

/// The file could not be read or written.
#[derive(Debug, thiserror::Error)]
#[error("cannot {verb} {path}: {source}")]
pub struct JsonFileError {
    verb: &'static str,
    path: PathBuf,
    source: io::Error,
}

/// A file of JSON, whole.
#[derive(Debug)]
pub struct JsonFile {
    path: PathBuf,
    mode: u32,
    /// Its content.
    pub value: Value,
}

impl JsonFile {
    /// Reads a bundle's config.json.
    pub fn of_bundle(bundle: &Path) -> Result<Self, JsonFileError> {
        Self::load(bundle.join("config.json"))
    }

    /// Reads a file.
    pub fn load(path: PathBuf) -> Result<Self, JsonFileError> {
        let read = || -> io::Result<(u32, Value)> {
            let mode = fs::metadata(&path)?.permissions().mode() & 0o777;
            Ok((
                mode,
                serde_json::from_slice(&read_file(&path, CONFIG_LIMIT)?)?,
            ))
        };
        match read() {
            Ok((mode, value)) => Ok(Self { path, mode, value }),
            Err(source) => Err(JsonFileError {
                verb: "read",
                path,
                source,
            }),
        }
    }

    /// Replaces it: a reader sees the old file or the new one.
    pub fn save(&self) -> Result<(), JsonFileError> {
        serde_json::to_vec(&self.value)
            .map_err(io::Error::from)
            .and_then(|json| write_atomically(&self.path, &json, self.mode))
            .map_err(|source| JsonFileError {
                verb: "write",
                path: self.path.clone(),
                source,
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn numbers_text_and_mode_come_back_as_they_were() {
        let bundle = tempfile::tempdir().unwrap();
        let path = bundle.path().join("config.json");
        let text = r#"{"a":18446744073709551615,"b":-9223372036854775808,"c":"\u0000\u00e4/<","d":[null,{}]}"#;
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        let mut config = JsonFile::of_bundle(bundle.path()).unwrap();
        config.value["e"] = json!(1);
        config.save().unwrap();
        let mut expected: Value = serde_json::from_str(text).unwrap();
        expected["e"] = json!(1);
        assert_eq!(
            serde_json::from_slice::<Value>(&fs::read(&path).unwrap()).unwrap(),
            expected
        );
        assert_eq!(
            fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o640
        );
        assert_eq!(fs::read_dir(bundle.path()).unwrap().count(), 1);
    }

    #[test]
    fn an_unreadable_file_is_named() {
        let bundle = tempfile::tempdir().unwrap();
        for content in [None, Some("{"), Some("")] {
            if let Some(content) = content {
                fs::write(bundle.path().join("config.json"), content).unwrap();
            }
            let error = JsonFile::of_bundle(bundle.path()).unwrap_err().to_string();
            assert!(
                error.starts_with("cannot read /") && error.contains("/config.json: "),
                "{error}"
            );
        }
    }
}
