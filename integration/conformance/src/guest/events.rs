// SPDX-License-Identifier: Apache-2.0
//! What the enforcers report: AppArmor and seccomp to the kernel's audit log, the BPF programs to the violation log.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::Result;
use serde_json::Value;
use varmor_scenario::guest::audit::{Audit, Record, Source};
use varmor_scenario::guest::node;
use varmor_scenario::guest::records::Records;

use crate::case::Event;
use crate::enforcer::Enforcer;

/// An event takes this long at most until it can be read, in emulation on a busy machine.
const SETTLE: Duration = Duration::from_secs(8);
/// Nothing came for so long: nothing comes.
const QUIET: Duration = Duration::from_millis(800);

/// Two things that a report can say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Said {
    /// Refused.
    Denied,
    /// Let through.
    Audit,
}

/// Whose events count.
pub struct Reporter<'a> {
    /// The column.
    pub enforcer: Enforcer,
    /// The container's id, which the BPF programs' records have.
    pub container: &'a str,
    /// The profile's name, which AppArmor's have.
    pub profile: &'a str,
}

/// The `code` of a filter that logs and lets through (SECCOMP_RET_LOG of linux/seccomp.h).
const SECCOMP_LOG: &str = "0x7ffc0000";

enum Report {
    AppArmor(Record),
    Seccomp(Record),
    Bpf(Value),
}

/// Everything reported since it was made.
pub struct Events {
    audit: Audit,
    log: Records,
    seen: Vec<Report>,
}

impl Events {
    /// From now on.
    pub fn collect() -> Result<Self> {
        let mut log = Records::new(node::VIOLATIONS);
        log.skip()?;
        Ok(Self {
            audit: Audit::open()?,
            log,
            seen: Vec::new(),
        })
    }

    /// Forgets what was read until now.
    pub fn forget(&mut self) -> Result<()> {
        self.read()?;
        self.seen.clear();
        Ok(())
    }

    fn read(&mut self) -> Result<()> {
        let of_kernel = self.audit.read()?.into_iter();
        self.seen
            .extend(of_kernel.map(|(source, record)| match source {
                Source::AppArmor => Report::AppArmor(record),
                Source::Seccomp => Report::Seccomp(record),
            }));
        self.seen
            .extend(self.log.read()?.into_iter().map(Report::Bpf));
        Ok(())
    }

    /// Waits for the report of something that was just tried. What is wrong, if anything; the reports up to the expected one are
    /// forgotten, and those among them that nothing was expected of are given back.
    pub fn expect(
        &mut self,
        by: &Reporter<'_>,
        said: Said,
        event: &Event,
    ) -> Result<(Option<String>, Vec<String>)> {
        if *event == Event::None {
            return Ok((self.expect_none(by)?, Vec::new()));
        }
        if *event == Event::Unchecked {
            return Ok((None, Vec::new()));
        }
        let until = Instant::now() + SETTLE;
        loop {
            self.read()?;
            if let Some(at) = self
                .seen
                .iter()
                .position(|report| is_by(report, by) && says(report, said) && fits(report, event))
            {
                let before = self.seen.drain(..=at).take(at);
                let stray = before
                    .filter(|report| is_by(report, by))
                    .map(|report| show(&report));
                return Ok((None, stray.collect()));
            }
            if Instant::now() > until {
                let seen: Vec<_> = self
                    .seen
                    .iter()
                    .filter(|report| is_by(report, by))
                    .map(show)
                    .collect();
                let seen = if seen.is_empty() {
                    "there are none".into()
                } else {
                    format!("there are: {}", seen.join(" / "))
                };
                return Ok((
                    Some(format!("no report {said:?} with {event:?}; {seen}")),
                    Vec::new(),
                ));
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    fn expect_none(&mut self, by: &Reporter<'_>) -> Result<Option<String>> {
        let until = Instant::now() + QUIET;
        loop {
            self.read()?;
            if let Some(report) = self.seen.iter().find(|report| is_by(report, by)) {
                return Ok(Some(format!(
                    "a report where none is due: {}",
                    show(report)
                )));
            }
            if Instant::now() > until {
                return Ok(None);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

fn is_by(report: &Report, by: &Reporter<'_>) -> bool {
    match (report, by.enforcer) {
        (Report::AppArmor(record), Enforcer::AppArmor) => {
            let profile = record.get("profile").map_or("", String::as_str);
            // Children of the profile are for single programs.
            let rest = profile.strip_prefix(by.profile);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with("//"))
        }
        (Report::Seccomp(_), Enforcer::Seccomp) => true,
        (Report::Bpf(record), Enforcer::Bpf) => record["containerID"] == by.container,
        _ => false,
    }
}

fn says(report: &Report, said: Said) -> bool {
    let word = match said {
        Said::Denied => "DENIED",
        Said::Audit => "AUDIT",
    };
    match report {
        Report::AppArmor(record) => record.get("apparmor").is_some_and(|found| found == word),
        Report::Seccomp(record) => {
            said == Said::Audit && record.get("code").is_some_and(|code| code == SECCOMP_LOG)
        }
        Report::Bpf(record) => record["action"] == word,
    }
}

fn fits(report: &Report, event: &Event) -> bool {
    let Event::Fields(fields) = event else {
        return true;
    };
    fields.iter().all(|(key, wanted)| match report {
        Report::AppArmor(record) => in_record(record, key, Enforcer::AppArmor, wanted),
        Report::Seccomp(record) => in_record(record, key, Enforcer::Seccomp, wanted),
        Report::Bpf(record) => {
            let name = match key.strip_prefix("BPF.") {
                Some(name) => name,
                None if key.contains('.') => return true,
                None => key,
            };
            has(&record["event"][name], wanted)
        }
    })
}

fn in_record(record: &Record, key: &str, enforcer: Enforcer, wanted: &str) -> bool {
    let name = match (key, key.split_once('.')) {
        ("path", _) => "name",
        ("capability", _) => "capname",
        (_, Some((of, name))) if of == enforcer.name() => name,
        // Another enforcer's.
        _ => return true,
    };
    // Directories that are made have a `/` at their end.
    record
        .get(name)
        .is_some_and(|found| found == wanted || found.strip_suffix('/') == Some(wanted))
}

/// A list has the value when one of its elements is it.
fn has(found: &Value, wanted: &str) -> bool {
    match found {
        Value::String(text) => text == wanted,
        Value::Array(list) => list.iter().any(|element| has(element, wanted)),
        Value::Null => false,
        other => serde_json::to_string(other).is_ok_and(|text| text == wanted),
    }
}

fn show(report: &Report) -> String {
    match report {
        Report::AppArmor(record) | Report::Seccomp(record) => {
            let known = [
                "apparmor",
                "operation",
                "name",
                "capname",
                "family",
                "denied_mask",
                "info",
                "syscall",
                "code",
                "comm",
            ];
            let short: BTreeMap<_, _> = record
                .iter()
                .filter(|(key, _)| known.contains(&key.as_str()))
                .collect();
            format!("{short:?}")
        }
        Report::Bpf(record) => format!("{} {}", record["action"], record["event"]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn fields(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect()
    }

    fn by(enforcer: Enforcer) -> Reporter<'static> {
        Reporter {
            enforcer,
            container: "c",
            profile: "varmor-conformance-plain",
        }
    }

    #[test]
    fn a_report_counts_for_its_own_container_only() {
        let report =
            Report::Bpf(json!({"containerID": "c", "action": "DENIED", "event": {"path": "/x"}}));
        assert!(is_by(&report, &by(Enforcer::Bpf)) && !is_by(&report, &by(Enforcer::AppArmor)));
        let other = Report::Bpf(json!({"containerID": "d", "action": "DENIED"}));
        assert!(!is_by(&other, &by(Enforcer::Bpf)));
        let child = fields(&[("profile", "varmor-conformance-plain//child_0")]);
        assert!(is_by(&Report::AppArmor(child), &by(Enforcer::AppArmor)));
        let longer = fields(&[("profile", "varmor-conformance-plain-2")]);
        assert!(!is_by(&Report::AppArmor(longer), &by(Enforcer::AppArmor)));
    }

    #[test]
    fn fields_are_named_once_for_all_enforcers() {
        let event = Event::Fields(fields(&[("path", "/d"), ("BPF.permissions", "write")]));
        let audit = Report::AppArmor(fields(&[("name", "/d/")]));
        let bpf =
            |permission| Report::Bpf(json!({"event": {"path": "/d", "permissions": [permission]}}));
        assert!(fits(&audit, &event) && fits(&bpf("write"), &event) && !fits(&bpf("read"), &event));
        let capability = Event::Fields(fields(&[("capability", "net_raw")]));
        assert!(fits(
            &Report::AppArmor(fields(&[("capname", "net_raw")])),
            &capability
        ));
        assert!(!fits(
            &Report::AppArmor(fields(&[("name", "net_raw")])),
            &capability
        ));
    }

    #[test]
    fn a_filter_reports_what_it_lets_through() {
        let logged = Report::Seccomp(fields(&[("code", "0x7ffc0000")]));
        assert!(says(&logged, Said::Audit) && !says(&logged, Said::Denied));
        assert!(!says(
            &Report::Seccomp(fields(&[("code", "0x50000")])),
            Said::Audit
        ));
    }
}
