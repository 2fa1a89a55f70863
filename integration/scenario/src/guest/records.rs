// SPDX-License-Identifier: Apache-2.0
//! The violation log: what a step added to it.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde_json::Value;

use crate::format::{Violations, Wanted};

/// The kernel's events take this long at most until they are in the log, in emulation.
const SETTLE: Duration = Duration::from_secs(8);
/// Nothing came for so long: nothing comes.
const QUIET: Duration = Duration::from_millis(1500);

/// The log file, read from where it ended last.
pub struct Records {
    path: PathBuf,
    offset: u64,
}

impl Records {
    /// The log at `path`, which need not be there yet.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            offset: 0,
        }
    }

    /// Forgets everything written until now.
    pub fn skip(&mut self) -> Result<()> {
        self.read().map(drop)
    }

    /// The records written since the last call. A line without its end is left for the next time.
    ///
    /// # Errors
    /// The log can't be read, or a line of it is no JSON.
    pub fn read(&mut self) -> Result<Vec<Value>> {
        let Ok(mut file) = File::open(&self.path) else {
            return Ok(Vec::new());
        };
        let length = file.metadata()?.len();
        if length < self.offset {
            // The log was rotated.
            self.offset = 0;
        }
        file.seek(SeekFrom::Start(self.offset))?;
        let mut text = String::new();
        file.read_to_string(&mut text)
            .with_context(|| format!("{}", self.path.display()))?;
        let whole = text.rfind('\n').map_or(0, |end| end + 1);
        self.offset += whole as u64;
        text[..whole]
            .lines()
            .map(|line| {
                serde_json::from_str(line)
                    .with_context(|| format!("a line of the violation log is no JSON: {line}"))
            })
            .collect()
    }

    /// Waits until the records of container `id` are as expected, or it is clear that they will not be. Gives those records,
    /// and what is wrong with them.
    pub async fn judge(
        &mut self,
        id: &str,
        expected: &Violations,
    ) -> Result<(Vec<Value>, Option<String>)> {
        let mut seen = Vec::new();
        if *expected == Violations::Unchecked {
            return Ok((seen, None));
        }
        let started = Instant::now();
        loop {
            let of_container =
                |record: &Value| record.get("containerID").and_then(Value::as_str) == Some(id);
            seen.extend(self.read()?.into_iter().filter(of_container));
            match expected {
                Violations::Some(wanted) => {
                    let missing: Vec<_> = wanted
                        .iter()
                        .filter(|wanted| !seen.iter().any(|record| has(record, wanted)))
                        .collect();
                    if missing.is_empty() {
                        return Ok((seen, None));
                    }
                    if started.elapsed() > SETTLE {
                        let missing: Vec<_> = missing.into_iter().map(show).collect();
                        return Ok((
                            seen,
                            Some(format!(
                                "no violation record with {}",
                                missing.join(", nor with ")
                            )),
                        ));
                    }
                }
                Violations::None | Violations::Unchecked => {
                    if !seen.is_empty() {
                        return Ok((
                            seen,
                            Some("violation records where none were expected".into()),
                        ));
                    }
                    if started.elapsed() > QUIET {
                        return Ok((seen, None));
                    }
                }
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

fn show(wanted: &Wanted) -> String {
    let fields: Vec<_> = wanted
        .iter()
        .map(|(key, value)| format!("{key}={value}"))
        .collect();
    format!("{{{}}}", fields.join(", "))
}

fn has(record: &Value, wanted: &BTreeMap<String, String>) -> bool {
    wanted.iter().all(|(key, value)| {
        let event = record.get("event");
        let candidates = match key.as_str() {
            "enforcer" => vec![record.get("eventType")],
            "path" => vec![
                event.and_then(|event| event.get("path")),
                event.and_then(|event| event.get("name")),
            ],
            _ => vec![event.and_then(|event| event.get(key)), record.get(key)],
        };
        candidates
            .into_iter()
            .flatten()
            .any(|found| is(found, value))
    })
}

/// A list has the value when one of its elements is it.
fn is(found: &Value, wanted: &str) -> bool {
    match found {
        Value::String(text) => text == wanted,
        Value::Number(number) => number.to_string() == wanted,
        Value::Bool(flag) => flag.to_string() == wanted,
        Value::Array(list) => list.iter().any(|element| is(element, wanted)),
        Value::Null | Value::Object(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn wanted(pairs: &[(&str, &str)]) -> Wanted {
        pairs
            .iter()
            .map(|(key, value)| (key.to_string(), value.to_string()))
            .collect()
    }

    #[test]
    fn fields_are_found_where_the_record_has_them() {
        let record = serde_json::json!({
            "eventType": "BPF", "action": "DENIED", "pid": 7,
            "event": {"permissions": ["read", "write"], "path": "/etc/shadow"},
        });
        assert!(has(
            &record,
            &wanted(&[
                ("enforcer", "BPF"),
                ("action", "DENIED"),
                ("path", "/etc/shadow")
            ])
        ));
        assert!(has(
            &record,
            &wanted(&[("permissions", "write"), ("pid", "7")])
        ));
        assert!(!has(&record, &wanted(&[("path", "/etc/shad")])));
        assert!(!has(&record, &wanted(&[("enforcer", "AppArmor")])));
        let apparmor = serde_json::json!({"eventType": "AppArmor", "event": {"name": "/etc/5", "operation": "mknod"}});
        assert!(has(
            &apparmor,
            &wanted(&[("path", "/etc/5"), ("operation", "mknod")])
        ));
    }

    #[tokio::test]
    async fn records_of_other_containers_and_earlier_steps_do_not_count() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("violations.log");
        let mut records = Records::new(&path);
        let mut log = File::create(&path).unwrap();
        let line = |id: &str, path: &str| {
            format!("{{\"containerID\":\"{id}\",\"event\":{{\"path\":\"{path}\"}}}}\n")
        };
        log.write_all(line("a", "/early").as_bytes()).unwrap();
        records.skip().unwrap();
        log.write_all(line("b", "/x").as_bytes()).unwrap();
        log.write_all(b"{\"containerID\":\"a\"").unwrap();
        assert_eq!(records.judge("a", &Violations::None).await.unwrap().1, None);
        log.write_all(b",\"event\":{\"path\":\"/x\"}}\n").unwrap();
        let expected = Violations::Some(vec![wanted(&[("path", "/x")])]);
        assert_eq!(records.judge("a", &expected).await.unwrap().1, None);
        log.write_all(line("a", "/y").as_bytes()).unwrap();
        assert!(
            records
                .judge("a", &Violations::None)
                .await
                .unwrap()
                .1
                .is_some()
        );
    }
}
