// SPDX-License-Identifier: Apache-2.0
//! Names that become file names.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A name that must not become a file name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{what} {name:?} can't be a file name here: it must have 1 to {limit} characters of A-Z a-z 0-9 _ . + - and begin with a letter, a digit or _",
    limit = MAX_LENGTH
)]
pub struct BadId {
    /// What the name is of: `container id` or `profile name`.
    pub what: &'static str,
    /// The name, cut to a printable length.
    pub name: String,
}

/// Containerd allows 76 characters in an id, a profile name has at most 63; the rest is room for other runtimes' ids.
const MAX_LENGTH: usize = 128;

fn check(what: &'static str, name: &str) -> Result<(), BadId> {
    let bytes = name.as_bytes();
    let first = bytes
        .first()
        .is_some_and(|b| b.is_ascii_alphanumeric() || *b == b'_');
    let rest = bytes
        .iter()
        .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'+' | b'-'));
    if first && rest && bytes.len() <= MAX_LENGTH {
        return Ok(());
    }
    Err(BadId {
        what,
        name: name.chars().take(MAX_LENGTH).collect(),
    })
}

macro_rules! name {
    ($(#[$doc:meta])* $type:ident, $what:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $type(String);

        impl $type {
            /// Checks a name that came from outside.
            pub fn new(name: impl Into<String>) -> Result<Self, BadId> {
                let name = name.into();
                check($what, &name)?;
                Ok(Self(name))
            }

            /// The name.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<String> for $type {
            type Error = BadId;
            fn try_from(name: String) -> Result<Self, BadId> {
                Self::new(name)
            }
        }

        impl From<$type> for String {
            fn from(name: $type) -> String {
                name.0
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

name!(
    /// The id of a container or of a pod sandbox, safe as a file name.
    ContainerId,
    "container id"
);
name!(
    /// The name of a profile, safe as a file name.
    ProfileName,
    "profile name"
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_leave_the_directory_are_refused() {
        for bad in [
            "",
            ".",
            "..",
            "../x",
            "a/b",
            "/etc/passwd",
            "a\0b",
            ".hidden",
            "-rf",
            "a b",
            "ä",
            &"x".repeat(129),
        ] {
            assert!(ContainerId::new(bad).is_err(), "{bad:?}");
            assert!(
                serde_json::from_value::<ContainerId>(bad.into()).is_err(),
                "{bad:?}"
            );
        }
    }

    #[test]
    fn ids_of_runtimes_are_accepted() {
        for good in [
            "demo",
            "4a2f",
            "a.b_c-d+e",
            "_x",
            &"f".repeat(64),
            &"x".repeat(128),
        ] {
            assert_eq!(ContainerId::new(good).unwrap().as_str(), good);
        }
    }

    #[test]
    fn the_error_says_what_was_wrong() {
        let error = ProfileName::new("../x").unwrap_err().to_string();
        assert!(
            error.starts_with(r#"profile name "../x" can't be a file name"#),
            "{error}"
        );
    }
}
