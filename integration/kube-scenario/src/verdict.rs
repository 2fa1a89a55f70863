// SPDX-License-Identifier: Apache-2.0
//! Whether a command in a container was refused.

use serde::Deserialize;

use crate::bed::Answer;

/// The two verdicts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// It succeeded.
    Allowed,
    /// It failed, and said that it was refused.
    Denied,
}

impl Verdict {
    /// The verdict of an answer; none when it failed for another reason.
    pub fn of(answer: &Answer) -> Option<Self> {
        let says = |text: &str| answer.stderr.contains(text) || answer.stdout.contains(text);
        match answer.status {
            0 => Some(Self::Allowed),
            _ if says("Operation not permitted") || says("Permission denied") => Some(Self::Denied),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: i32, stderr: &str) -> Answer {
        Answer {
            status,
            stderr: stderr.to_owned(),
            ..Answer::default()
        }
    }

    #[test]
    fn a_failure_of_another_kind_is_no_refusal() {
        assert_eq!(Verdict::of(&answer(0, "")), Some(Verdict::Allowed));
        let refused = answer(1, "cat: can't open 'x': Operation not permitted");
        assert_eq!(Verdict::of(&refused), Some(Verdict::Denied));
        assert_eq!(Verdict::of(&answer(1, "No such file or directory")), None);
        assert_eq!(
            Verdict::of(&answer(1, "error: unable to upgrade connection")),
            None
        );
    }
}
