// SPDX-License-Identifier: Apache-2.0
//! Who the plugin is, and the environment of one that the runtime starts itself.

use std::ffi::OsString;
use std::fmt;
use std::os::fd::{BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};

use thiserror::Error;

/// Environment variable with the name of a pre-installed plugin.
pub const NAME_VARIABLE: &str = "NRI_PLUGIN_NAME";
/// Environment variable with the index of a pre-installed plugin.
pub const INDEX_VARIABLE: &str = "NRI_PLUGIN_IDX";
/// Environment variable with the descriptor number of the socket of a pre-installed plugin.
pub const SOCKET_VARIABLE: &str = "NRI_PLUGIN_SOCKET";

/// Why a plugin's identity or inherited socket can't be used.
#[derive(Debug, Error)]
pub enum IdentityError {
    /// The runtime would refuse the name.
    #[error("the plugin name {0:?} is not one or more of [a-zA-Z0-9_.+-]")]
    Name(String),
    /// The runtime would refuse the index.
    #[error("the plugin index {0:?} is not exactly two digits")]
    Index(String),
    /// A variable of a pre-installed plugin is missing.
    #[error("{SOCKET_VARIABLE} is set but {0} is not")]
    Missing(&'static str),
    /// The socket's variable holds no usable descriptor number.
    #[error("{SOCKET_VARIABLE}={value:?} is not the number of an inherited socket: {reason}")]
    Socket {
        /// The variable's value.
        value: String,
        /// What is wrong.
        reason: String,
    },
}

/// Name and index of a plugin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    name: String,
    index: String,
}

impl Identity {
    /// `index` is two digits; plugins are called in ascending order, and a later one sees the changes of the earlier.
    ///
    /// # Errors
    /// The name or the index is not what runtimes accept.
    pub fn new(name: impl Into<String>, index: impl Into<String>) -> Result<Self, IdentityError> {
        let (name, index) = (name.into(), index.into());
        let allowed = |c: char| c.is_ascii_alphanumeric() || "_.+-".contains(c);
        if name.is_empty() || !name.chars().all(allowed) {
            return Err(IdentityError::Name(name));
        }
        if index.len() != 2 || !index.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(IdentityError::Index(index));
        }
        Ok(Self { name, index })
    }

    /// The name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The index, two digits.
    pub fn index(&self) -> &str {
        &self.index
    }
}

/// "NN-name", as the runtime logs it.
impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.index, self.name)
    }
}

/// A plugin that the runtime started from its `plugin_path`, with a socket that is connected already. It gets nothing
/// else in its environment, has its standard streams on /dev/null, and is not started again when it ends.
#[derive(Debug)]
pub struct Preinstalled {
    /// Who the runtime says the plugin is.
    pub identity: Identity,
    /// The connection to the runtime; not inherited by children.
    pub socket: UnixStream,
}

static SOCKET_TAKEN: AtomicBool = AtomicBool::new(false);

impl Preinstalled {
    /// From the process's environment; `None` when it was not started by a runtime. The socket can be had once: every
    /// later call answers `None`.
    ///
    /// # Errors
    /// The variables are there but wrong.
    pub fn from_env() -> Result<Option<Self>, IdentityError> {
        let Some(value) = std::env::var_os(SOCKET_VARIABLE).filter(|value| !value.is_empty())
        else {
            return Ok(None);
        };
        let identity = identity_from(
            std::env::var_os(NAME_VARIABLE),
            std::env::var_os(INDEX_VARIABLE),
        )?;
        let value = value.to_string_lossy().into_owned();
        let failed = |reason: String| IdentityError::Socket {
            value: value.clone(),
            reason,
        };
        let number: RawFd = value.parse().map_err(|error| failed(format!("{error}")))?;
        if number < 3 {
            return Err(failed(
                "descriptors below 3 are the standard streams".into(),
            ));
        }
        if SOCKET_TAKEN.swap(true, Ordering::SeqCst) {
            return Ok(None);
        }
        // SAFETY: the descriptor is only borrowed for the one call, which fails when it is not open.
        let copy = unsafe { BorrowedFd::borrow_raw(number) }
            .try_clone_to_owned()
            .map_err(|error| failed(error.to_string()))?;
        let socket = UnixStream::from(copy);
        // Fails for anything but a Unix socket, which then stays open for whoever it belongs to.
        socket
            .peer_addr()
            .map_err(|error| failed(error.to_string()))?;
        // SAFETY: it is open (the copy worked), it was handed to this process for this use by the variable, and the
        // flag above lets only one caller get here. The copy, unlike the original, is closed on exec.
        drop(unsafe { OwnedFd::from_raw_fd(number) });
        Ok(Some(Self { identity, socket }))
    }
}

fn identity_from(
    name: Option<OsString>,
    index: Option<OsString>,
) -> Result<Identity, IdentityError> {
    let text = |value: Option<OsString>, variable| {
        value
            .map(|value| value.to_string_lossy().into_owned())
            .ok_or(IdentityError::Missing(variable))
    };
    Identity::new(text(name, NAME_VARIABLE)?, text(index, INDEX_VARIABLE)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_indices_are_those_of_the_protocol() {
        let identity = Identity::new("varmor", "90").unwrap();
        assert_eq!((identity.name(), identity.index()), ("varmor", "90"));
        assert_eq!(identity.to_string(), "90-varmor");
        for (name, index) in [("", "00"), ("a b", "00"), ("a/b", "00"), ("é", "00")] {
            assert!(
                matches!(Identity::new(name, index), Err(IdentityError::Name(_))),
                "{name:?}"
            );
        }
        for index in ["", "1", "100", "a1", "１1"] {
            assert!(
                matches!(Identity::new("x", index), Err(IdentityError::Index(_))),
                "{index:?}"
            );
        }
    }

    #[test]
    fn both_variables_are_needed() {
        let error = identity_from(Some("x".into()), None).unwrap_err();
        assert_eq!(
            error.to_string(),
            "NRI_PLUGIN_SOCKET is set but NRI_PLUGIN_IDX is not"
        );
        assert!(identity_from(Some("x".into()), Some("07".into())).is_ok());
    }
}
