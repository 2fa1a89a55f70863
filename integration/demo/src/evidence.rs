// SPDX-License-Identifier: Apache-2.0
//! Who refused: an errno alone doesn't say.
//!
//! AppArmor's refusals are in the kernel's audit records, those of the BPF programs in the violation log. seccomp writes
//! nothing when it makes a call fail, but it judges at the call's entry, before the kernel looks at the arguments: so a call
//! that the kernel itself would answer with EINVAL fails with EPERM when a filter refused it.

use anyhow::{Context, Result};
use serde_json::Value;
use varmor_scenario::guest::audit::{self, Audit};
use varmor_scenario::guest::records::Records;

use crate::node;

/// What the policy's profile is called.
pub const PROFILE: &str = "varmor-demo-demo";

/// An enforcer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Enforcer {
    /// AppArmor.
    AppArmor,
    /// The BPF programs.
    Bpf,
    /// The seccomp filter.
    Seccomp,
}

impl Enforcer {
    /// As policies write it.
    pub fn name(self) -> &'static str {
        match self {
            Self::AppArmor => "AppArmor",
            Self::Bpf => "BPF",
            Self::Seccomp => "seccomp",
        }
    }

    /// The one that the kernel asks first: the first to refuse ends the matter, and the others never hear of it.
    ///
    /// # Errors
    /// The list of LSMs can't be read.
    pub fn first_lsm() -> Result<Self> {
        const LIST: &str = "/sys/kernel/security/lsm";
        let list = std::fs::read_to_string(LIST).context(LIST)?;
        Ok(first_of(&list))
    }
}

fn first_of(list: &str) -> Enforcer {
    match list
        .trim()
        .split(',')
        .find(|name| matches!(*name, "apparmor" | "bpf"))
    {
        Some("bpf") => Enforcer::Bpf,
        _ => Enforcer::AppArmor,
    }
}

/// By what a report of an action is recognised.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sign {
    /// Its path is this, or begins with it.
    Path(&'static str),
    /// A user namespace was asked for.
    UserNamespace,
}

/// A place in the stream of reports.
#[derive(Debug, Clone, Copy, Default)]
pub struct Mark {
    apparmor: usize,
    bpf: usize,
}

/// All reports since it was made.
pub struct Evidence {
    audit: Audit,
    log: Records,
    apparmor: Vec<audit::Record>,
    bpf: Vec<Value>,
}

impl Evidence {
    /// From now on.
    ///
    /// # Errors
    /// The audit records can't be read.
    pub fn collect() -> Result<Self> {
        Ok(Self {
            audit: Audit::open()?,
            log: Records::new(node::violations()),
            apparmor: Vec::new(),
            bpf: Vec::new(),
        })
    }

    /// Reads what has come in.
    ///
    /// # Errors
    /// A stream can't be read.
    pub fn read(&mut self) -> Result<()> {
        self.apparmor.extend(self.audit.apparmor()?);
        self.bpf.extend(self.log.read()?);
        Ok(())
    }

    /// Everything up to now is of earlier actions.
    ///
    /// # Errors
    /// A stream can't be read.
    pub fn mark(&mut self) -> Result<Mark> {
        self.read()?;
        Ok(Mark {
            apparmor: self.apparmor.len(),
            bpf: self.bpf.len(),
        })
    }

    /// Who reported a refusal of this kind in the container since then, and the report in short.
    pub fn refusal(&self, since: Mark, container: &str, sign: Sign) -> Option<(Enforcer, String)> {
        let apparmor = self.apparmor[since.apparmor..]
            .iter()
            .find(|record| by_apparmor(record, sign))
            .map(|record| (Enforcer::AppArmor, short_audit(record)));
        apparmor.or_else(|| {
            self.bpf[since.bpf..]
                .iter()
                .find(|record| by_bpf(record, container, sign))
                .map(|record| (Enforcer::Bpf, short_record(record)))
        })
    }
}

fn by_apparmor(record: &audit::Record, sign: Sign) -> bool {
    let is = |key: &str, value: &str| record.get(key).is_some_and(|found| found == value);
    is("apparmor", "DENIED")
        && is("profile", PROFILE)
        && match sign {
            Sign::Path(path) => record
                .get("name")
                .is_some_and(|name| name.starts_with(path)),
            Sign::UserNamespace => is("operation", "userns_create"),
        }
}

fn by_bpf(record: &Value, container: &str, sign: Sign) -> bool {
    let event = &record["event"];
    record["containerID"] == container
        && record["eventType"] == "BPF"
        && record["action"] == "DENIED"
        && match sign {
            Sign::Path(path) => event["path"]
                .as_str()
                .is_some_and(|found| found.starts_with(path)),
            Sign::UserNamespace => event["operation"] == "CreateUserNamespace",
        }
}

fn short_audit(record: &audit::Record) -> String {
    let fields: Vec<_> = ["apparmor", "operation", "profile", "requested_mask"]
        .iter()
        .filter_map(|key| Some(format!("{key}=\"{}\"", record.get(*key)?)))
        .collect();
    format!("audit: {}", fields.join(" "))
}

fn short_record(record: &Value) -> String {
    let text = |value: &Value| value.as_str().unwrap_or("?").to_owned();
    let event = &record["event"];
    format!(
        "violations.log: {} {}, {} {}, profile {}",
        text(&record["eventType"]),
        text(&record["action"]),
        text(&event["operation"]),
        text(&event["path"]),
        text(&record["profileName"])
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn record(pairs: &[(&str, &str)]) -> audit::Record {
        pairs
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect()
    }

    #[test]
    fn the_kernel_asks_in_the_order_of_its_list() {
        assert_eq!(
            first_of("capability,landlock,apparmor,bpf\n"),
            Enforcer::AppArmor
        );
        assert_eq!(first_of("bpf,capability,apparmor"), Enforcer::Bpf);
    }

    #[test]
    fn only_a_refusal_of_this_policy_and_action_counts() {
        let denied = record(&[
            ("apparmor", "DENIED"),
            ("profile", PROFILE),
            ("name", "/etc/demo"),
        ]);
        assert!(by_apparmor(&denied, Sign::Path("/etc/")));
        assert!(!by_apparmor(&denied, Sign::Path("/opt/")));
        assert!(!by_apparmor(&denied, Sign::UserNamespace));
        for (key, value) in [("apparmor", "AUDIT"), ("profile", "docker-default")] {
            let mut other = denied.clone();
            other.insert(key.to_owned(), value.to_owned());
            assert!(!by_apparmor(&other, Sign::Path("/etc/")), "{key}");
        }
    }

    #[test]
    fn only_a_refusal_in_this_container_counts() {
        let denied = json!({
            "containerID": "c", "eventType": "BPF", "action": "DENIED",
            "event": {"operation": "File", "path": "/etc/shadow"},
        });
        assert!(by_bpf(&denied, "c", Sign::Path("/etc/shadow")));
        assert!(!by_bpf(&denied, "d", Sign::Path("/etc/shadow")));
        assert!(!by_bpf(&denied, "c", Sign::UserNamespace));
        let mut audited = denied.clone();
        audited["action"] = json!("AUDIT");
        assert!(!by_bpf(&audited, "c", Sign::Path("/etc/shadow")));
    }
}
