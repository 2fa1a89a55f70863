// SPDX-License-Identifier: Apache-2.0
//! What can go wrong with a file of the node's state; every variant names the file.

use std::path::PathBuf;

use crate::id::BadId;

/// A file of the node's state could not be read, written or believed.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// The file could not be read.
    #[error("cannot read {path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the kernel said.
        source: std::io::Error,
    },
    /// The file, or the directory for it, could not be written.
    #[error("cannot write {path}: {source}")]
    Write {
        /// The file.
        path: PathBuf,
        /// What the kernel said.
        source: std::io::Error,
    },
    /// The file is longer than any true one.
    #[error("{path} is longer than {limit} bytes")]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// The most that is read, in bytes.
        limit: u64,
    },
    /// The file is not JSON, or not the JSON of this record (an unknown field counts: an older reader must not skip a
    /// newer writer's demand).
    #[error("{path} is damaged, or of another version: {source}")]
    Malformed {
        /// The file.
        path: PathBuf,
        /// Where and why.
        source: serde_json::Error,
    },
    /// The record in the file is about another object than the file's name says.
    #[error("{path} is about {found:?}")]
    Misplaced {
        /// The file.
        path: PathBuf,
        /// The name inside.
        found: String,
    },
    /// A name that can't be a file's name.
    #[error(transparent)]
    BadId(#[from] BadId),
}
