// SPDX-License-Identifier: Apache-2.0
//! Errors of both sides.

use std::io;
use std::path::PathBuf;

use thiserror::Error;
use ttrpc::Code;

/// Kinds of failure that a client can act on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The request is wrong: the same one will fail again.
    InvalidArgument,
    /// What the request names does not exist.
    NotFound,
    /// Not now, or not on this node.
    FailedPrecondition,
    /// A limit is reached: try again later.
    ResourceExhausted,
    /// The daemon is an older one that does not know the call.
    Unimplemented,
    /// The daemon failed.
    Internal,
}

impl Kind {
    fn code(self) -> Code {
        match self {
            Self::InvalidArgument => Code::INVALID_ARGUMENT,
            Self::NotFound => Code::NOT_FOUND,
            Self::FailedPrecondition => Code::FAILED_PRECONDITION,
            Self::ResourceExhausted => Code::RESOURCE_EXHAUSTED,
            Self::Unimplemented => Code::UNIMPLEMENTED,
            Self::Internal => Code::INTERNAL,
        }
    }

    fn of(code: Code) -> Self {
        match code {
            Code::INVALID_ARGUMENT => Self::InvalidArgument,
            Code::NOT_FOUND => Self::NotFound,
            Code::FAILED_PRECONDITION => Self::FailedPrecondition,
            Code::RESOURCE_EXHAUSTED => Self::ResourceExhausted,
            Code::UNIMPLEMENTED => Self::Unimplemented,
            _ => Self::Internal,
        }
    }
}

/// A call that failed as a whole. What is wrong with a single object goes into its `ObjectResult` instead.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{message}")]
pub struct ApiError {
    /// What kind of failure.
    pub kind: Kind,
    /// For people: what failed, and what to do.
    pub message: String,
}

impl ApiError {
    /// A failure of this kind.
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
        }
    }
}

impl From<ApiError> for ttrpc::Error {
    fn from(error: ApiError) -> Self {
        ttrpc::Error::RpcStatus(ttrpc::get_status(error.kind.code(), error.message))
    }
}

/// Why a client did not get its answer.
#[derive(Debug, Error)]
pub enum ClientError {
    /// No daemon, or no permission.
    #[error("can't connect to the node daemon at {}: {source}", path.display())]
    Connect {
        /// The socket.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The daemon answered with a failure.
    #[error(transparent)]
    Answered(#[from] ApiError),
    /// The daemon closed the connection: it ended, it throws out users other than root, or it has too many clients.
    #[error("the node daemon closed the connection (it serves root only, and its log says more)")]
    Closed,
    /// Anything else, such as a request of more than 4 MiB.
    #[error("the call to the node daemon failed: {0}")]
    Rpc(String),
}

impl From<ttrpc::Error> for ClientError {
    fn from(error: ttrpc::Error) -> Self {
        match error {
            ttrpc::Error::RpcStatus(status) => Self::Answered(ApiError::new(
                Kind::of(status.code.enum_value().unwrap_or(Code::UNKNOWN)),
                status.message,
            )),
            ttrpc::Error::RemoteClosed
            | ttrpc::Error::LocalClosed
            | ttrpc::Error::Eof
            | ttrpc::Error::Socket(_) => Self::Closed,
            other => Self::Rpc(other.to_string()),
        }
    }
}
