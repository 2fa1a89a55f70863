// SPDX-License-Identifier: Apache-2.0
//! What a step's outcome means.

use super::cri::Output;
use crate::format::Expect;

/// A verdict as it came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Got {
    /// EPERM or EACCES.
    Denied,
    /// Exit status 0.
    Allowed,
    /// It failed, but not for want of permission.
    Failed,
}

impl Got {
    /// Judges the exit status and standard error of a line.
    pub fn of(output: &Output) -> Self {
        let stderr = output.stderr.to_ascii_lowercase();
        match output.status {
            0 => Self::Allowed,
            _ if stderr.contains("operation not permitted")
                || stderr.contains("permission denied") =>
            {
                Self::Denied
            }
            _ => Self::Failed,
        }
    }

    /// Whether this is what the step expects.
    pub fn is(self, expect: Expect) -> bool {
        matches!(
            (self, expect),
            (Self::Denied, Expect::Denied) | (Self::Allowed, Expect::Allowed)
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn got(status: i32, stderr: &str) -> Got {
        Got::of(&Output {
            status,
            stdout: "Permission denied".into(),
            stderr: stderr.into(),
        })
    }

    #[test]
    fn only_a_refusal_counts_as_denied() {
        assert_eq!(got(1, "cat: /etc/shadow: Permission denied\n"), Got::Denied);
        assert_eq!(got(1, "unshare: OPERATION NOT PERMITTED"), Got::Denied);
        assert_eq!(got(1, "cat: no such file or directory"), Got::Failed);
        assert_eq!(
            got(0, "warning: permission denied for something"),
            Got::Allowed
        );
        assert_eq!(got(127, "sh: nothere: not found"), Got::Failed);
        assert_eq!(got(1, ""), Got::Failed);
    }
}
