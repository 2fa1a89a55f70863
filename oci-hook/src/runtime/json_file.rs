// SPDX-License-Identifier: Apache-2.0
//! Changing a bundle's config.json, or the file of a process that joins a container.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use serde_json::Value;
use varmor_node_state::{Spec, write_atomically};

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

/// What a file holds.
pub trait Content: Sized {
    /// Reads it.
    fn parse(json: &[u8]) -> io::Result<Self>;
    /// Writes it.
    fn text(&self) -> io::Result<Vec<u8>>;
}

impl Content for Value {
    fn parse(json: &[u8]) -> io::Result<Self> {
        Ok(serde_json::from_slice(json)?)
    }

    fn text(&self) -> io::Result<Vec<u8>> {
        Ok(serde_json::to_vec(self)?)
    }
}

impl Content for Spec {
    fn parse(json: &[u8]) -> io::Result<Self> {
        Self::parse(json).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
    }

    fn text(&self) -> io::Result<Vec<u8>> {
        Ok(self.to_json()?)
    }
}

/// A file of JSON, whole.
#[derive(Debug)]
pub struct JsonFile<T> {
    path: PathBuf,
    mode: u32,
    /// Its content.
    pub content: T,
}

impl JsonFile<Spec> {
    /// Reads a bundle's config.json.
    pub fn of_bundle(bundle: &Path) -> Result<Self, JsonFileError> {
        Self::load(bundle.join("config.json"))
    }
}

impl<T: Content> JsonFile<T> {
    /// Reads a file.
    pub fn load(path: PathBuf) -> Result<Self, JsonFileError> {
        let read = || -> io::Result<(u32, T)> {
            let mode = fs::metadata(&path)?.permissions().mode() & 0o777;
            Ok((mode, T::parse(&read_file(&path, CONFIG_LIMIT)?)?))
        };
        match read() {
            Ok((mode, content)) => Ok(Self {
                path,
                mode,
                content,
            }),
            Err(source) => Err(JsonFileError {
                verb: "read",
                path,
                source,
            }),
        }
    }

    /// Replaces it: a reader sees the old file or the new one.
    pub fn save(&self) -> Result<(), JsonFileError> {
        self.content
            .text()
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
        let mut config: JsonFile<Value> = JsonFile::load(path.clone()).unwrap();
        config.content["e"] = json!(1);
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
