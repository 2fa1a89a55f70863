// SPDX-License-Identifier: Apache-2.0
//! One action of a case.

use std::collections::BTreeMap;

use anyhow::{Result, bail, ensure};
use serde_yaml::Value;
use varmor_scenario::format::Conditions;
use varmor_scenario::guest::cri::Output;
use varmor_scenario::guest::verdict::Got;

use crate::enforcer::Enforcer;

/// How an action ends when nobody refuses it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Works {
    /// With exit status 0.
    Success,
    /// The kernel gives this errno, which comes after the question whether it is allowed.
    Errno(String),
    /// In any way but EPERM and EACCES: no such device or no such network here.
    Any,
}

impl Works {
    pub(super) fn read(word: Option<String>) -> Result<Self> {
        Ok(match word.as_deref() {
            None => Self::Success,
            Some("any") => Self::Any,
            Some(errno) if errno.starts_with('E') => Self::Errno(errno.into()),
            Some(other) => bail!("works: {other:?} is neither `any` nor the name of an errno"),
        })
    }

    /// Whether that is how it ended.
    pub fn is(&self, output: &Output) -> bool {
        match self {
            Self::Success => output.status == 0,
            Self::Errno(errno) => says(output, errno),
            // 1 is what a call that failed gives; 2 and 3 are mistakes of the case.
            Self::Any => {
                output.status == 0 || (output.status == 1 && Got::of(output) != Got::Denied)
            }
        }
    }
}

/// `SETUP EPERM` is the refusal of an earlier step of a chain.
fn says(output: &Output, errno: &str) -> bool {
    output
        .stdout
        .lines()
        .any(|line| line == errno || line.starts_with(&format!("ERRNO {errno}:")))
}

/// The report that an action brings about, when its policy reports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// One at least, whatever is in it.
    Any,
    /// None.
    None,
    /// Not looked at.
    Unchecked,
    /// One with these fields. `path` and `capability` are known by all enforcers, others are fields of the one that they are
    /// written for: `BPF.permissions`.
    Fields(BTreeMap<String, String>),
}

impl Event {
    pub(super) fn read(value: Option<Value>) -> Result<Self> {
        Ok(match value {
            None => Self::Any,
            Some(Value::String(word)) if word == "none" => Self::None,
            Some(Value::String(word)) if word == "unchecked" => Self::Unchecked,
            Some(value) => {
                let fields: BTreeMap<String, String> = serde_yaml::from_value(value)?;
                for key in fields.keys() {
                    let known = matches!(key.as_str(), "path" | "capability")
                        || Enforcer::ALL
                            .iter()
                            .any(|enforcer| key.starts_with(&format!("{enforcer}.")));
                    ensure!(
                        known,
                        "event: unknown field {key:?}; write path, capability, or BPF.FIELD"
                    );
                }
                Self::Fields(fields)
            }
        })
    }
}

/// Where one enforcer does otherwise.
#[derive(Debug, Clone)]
pub struct Difference {
    /// Whether it refuses; the list that the action stands in says otherwise when absent.
    pub refuses: Option<bool>,
    /// The errno of its refusal.
    pub errno: Option<String>,
    /// Its report.
    pub event: Option<Event>,
    /// On these kernels only; on all of them when empty.
    pub kernels: Vec<String>,
    /// For docs/conformance.md.
    pub reason: String,
}

/// Something that a container tries.
#[derive(Debug)]
pub struct Action {
    /// A `probe` line, or one for the shell.
    pub run: String,
    /// See [`Works`].
    pub works: Works,
    /// See [`Event`].
    pub event: Event,
    /// The errno of the refusal, `SETUP EPERM` for one of an earlier step, or `SIGSYS` for the signal; EPERM or EACCES when absent.
    pub errno: Option<String>,
    /// Where one enforcer does otherwise.
    pub differs: BTreeMap<Enforcer, Difference>,
    /// Whether it stands in the list of what is refused.
    pub listed_as_refused: bool,
    /// Where it is tried.
    pub conditions: Conditions,
}

impl Action {
    /// The difference that holds there, if any.
    pub fn difference(&self, enforcer: Enforcer, kernel: &str) -> Option<&Difference> {
        self.differs.get(&enforcer).filter(|difference| {
            difference.kernels.is_empty() || difference.kernels.iter().any(|name| name == kernel)
        })
    }

    /// Whether an enforcer refuses it, on some kernel at least.
    pub fn refused_by(&self, enforcer: Enforcer) -> bool {
        match self.differs.get(&enforcer) {
            Some(difference) if difference.kernels.is_empty() => {
                difference.refuses.unwrap_or(self.listed_as_refused)
            }
            _ => self.listed_as_refused,
        }
    }

    /// Whether it must be refused there.
    pub fn is_refused(&self, enforcer: Enforcer, kernel: &str) -> bool {
        self.difference(enforcer, kernel)
            .and_then(|difference| difference.refuses)
            .unwrap_or(self.listed_as_refused)
    }

    /// The report that is expected there.
    pub fn event(&self, enforcer: Enforcer, kernel: &str) -> &Event {
        self.difference(enforcer, kernel)
            .and_then(|difference| difference.event.as_ref())
            .unwrap_or(&self.event)
    }

    /// What is wrong with an ending that must be a refusal.
    pub fn not_refused(&self, output: &Output, enforcer: Enforcer, kernel: &str) -> Option<String> {
        let errno = self
            .difference(enforcer, kernel)
            .and_then(|difference| difference.errno.as_ref())
            .or(self.errno.as_ref());
        let refused = match errno.map(String::as_str) {
            // A filter that kills.
            Some("SIGSYS") => output.status == 128 + libc::SIGSYS,
            Some(errno) => says(output, errno),
            None => Got::of(output) == Got::Denied,
        };
        (!refused).then(|| format!("not refused: {}", ending(output)))
    }

    /// What is wrong with an ending that must not be a refusal.
    pub fn not_working(&self, output: &Output) -> Option<String> {
        (!self.works.is(output)).then(|| ending(output))
    }
}

/// An ending in short.
fn ending(output: &Output) -> String {
    let text = |text: &str| text.trim().replace('\n', " | ");
    format!(
        "exit status {}, {:?}, {:?}",
        output.status,
        text(&output.stdout),
        text(&output.stderr)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn output(status: i32, stdout: &str, stderr: &str) -> Output {
        Output {
            status,
            stdout: stdout.into(),
            stderr: stderr.into(),
        }
    }

    #[test]
    fn working_is_told_from_refused() {
        let unreachable = output(
            1,
            "ERRNO ENETUNREACH: Network is unreachable\n",
            "probe: Network is unreachable",
        );
        let denied = output(
            1,
            "ERRNO EPERM: Operation not permitted\n",
            "probe: Operation not permitted",
        );
        assert!(Works::Any.is(&unreachable) && !Works::Any.is(&denied));
        assert!(!Works::Any.is(&output(
            3,
            "SETUP EPERM\n",
            "probe: preparation failed: EPERM"
        )));
        assert!(Works::Errno("ENETUNREACH".into()).is(&unreachable));
        assert!(!Works::Errno("ENET".into()).is(&unreachable));
        assert!(!Works::Success.is(&unreachable));
    }

    #[test]
    fn words_of_the_file_are_checked() {
        assert!(Works::read(Some("sometimes".into())).is_err());
        let fields = |text: &str| Event::read(Some(serde_yaml::from_str(text).unwrap()));
        assert!(fields("{path: /x, BPF.permissions: read}").is_ok());
        assert!(fields("{paht: /x}").is_err());
    }
}
