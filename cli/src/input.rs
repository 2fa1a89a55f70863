// SPDX-License-Identifier: Apache-2.0
//! Files of policies.

use anyhow::{Context, bail};
use std::io::Read;
use varmor_policy::document::MAX_FILE_BYTES;

/// The text of a file, or of the standard input for `-`. A file that is too large is read as far as to tell so.
pub fn read(file: &str) -> anyhow::Result<String> {
    let mut bytes = Vec::new();
    let limit = MAX_FILE_BYTES as u64 + 1;
    if file == "-" {
        std::io::stdin().lock().take(limit).read_to_end(&mut bytes)
    } else {
        std::fs::File::open(file).and_then(|file| file.take(limit).read_to_end(&mut bytes))
    }
    .with_context(|| format!("{} cannot be read", name(file)))?;
    match String::from_utf8(bytes) {
        Ok(text) => Ok(text),
        Err(error) => bail!(
            "{} is no text: byte {} is not UTF-8",
            name(file),
            error.utf8_error().valid_up_to()
        ),
    }
}

/// What a file is called in messages.
pub fn name(file: &str) -> &str {
    if file == "-" { "<stdin>" } else { file }
}
