// SPDX-License-Identifier: Apache-2.0
//! `race`: a part of the bed stands still, and in front of it another one's write is the first to wait. Steps lead to a second
//! one, which comes too late.

use anyhow::{Context as _, Result, anyhow, bail};
use serde::Deserialize;
use serde_json::Value as Json;
use serde_yaml::Value;

use super::replace::Replace;
use super::{Kind, Step, within};
use crate::bed::Bed;
use crate::run::Context;

/// kube-apiserver's list of the writes that have come to it: see integration/kube/audit-policy.yaml.
const WRITES: &str = "log/writes.log";
/// Seconds in which a write must come. All of a race has to be done in much less than 45: kube-apiserver then takes its
/// connection for dead (HTTP/2 ping, Kubernetes 1.20), and refuses what waits.
const COMES_WITHIN: f32 = 15.0;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    /// A part, see `part`.
    at: String,
    first: Replace,
    second: Vec<Value>,
    meanwhile: Vec<Value>,
}

struct Race {
    at: String,
    first: Replace,
    /// They lead to a write in the same namespace.
    second: Vec<Step>,
    /// Done while both wait.
    meanwhile: Vec<Step>,
}

/// Reads the step.
pub fn read(value: Value) -> Result<(Box<dyn Kind>, String)> {
    let raw: Raw = super::fields(value)?;
    raw.first.check().context("first")?;
    let steps =
        |list: Vec<Value>| -> Result<Vec<Step>> { list.into_iter().map(super::read).collect() };
    let race = Race {
        second: steps(raw.second).context("second")?,
        meanwhile: steps(raw.meanwhile).context("meanwhile")?,
        at: raw.at,
        first: raw.first,
    };
    let names: Vec<&str> = race.second.iter().map(|step| step.name.as_str()).collect();
    let said = format!(
        "{} stands still: {}, then {}",
        race.at,
        race.first.said(),
        names.join(", ")
    );
    Ok((Box::new(race), said))
}

impl Kind for Race {
    fn run(&self, context: &mut Context) -> Result<String> {
        let bed = context.bed;
        // Alone, since steps are not for other threads.
        let first = &self.first;
        let object = first.changed(bed)?;
        let before = writes(bed, first.of())?;
        bed.part("pause", &self.at).output("pause")?;
        let (done, written) = std::thread::scope(|scope| {
            let writer = scope.spawn(|| first.write(bed, &object));
            let done = self.while_it_waits(context, before);
            // Whatever came of them.
            let goes_on = bed.part("continue", &self.at).output("continue");
            (done.and(goes_on), writer.join())
        });
        done?;
        let written = written.map_err(|_| anyhow!("the other writer has ended"))?;
        written.output("the other writer")?;
        Ok(String::new())
    }
}

impl Race {
    fn while_it_waits(&self, context: &mut Context, before: usize) -> Result<()> {
        let bed = context.bed;
        wait_for(bed, self.first.of(), before + 1).context("the other writer's")?;
        let namespace = self.first.namespace();
        let before = writes(bed, namespace)?;
        do_all(&self.second, context)?;
        wait_for(bed, namespace, before + 1).context("the second")?;
        do_all(&self.meanwhile, context)
    }
}

fn do_all(steps: &[Step], context: &mut Context) -> Result<()> {
    steps.iter().try_for_each(|step| {
        let result = step.kind.run(context);
        result.map(drop).with_context(|| step.name.clone())
    })
}

fn wait_for(bed: &Bed, path: &str, count: usize) -> Result<()> {
    within(COMES_WITHIN, || match writes(bed, path)? {
        come if come < count => bail!("no write of {path} has come"),
        _ => Ok(()),
    })
}

/// How many writes of an object, or below a path, have come to kube-apiserver.
fn writes(bed: &Bed, path: &str) -> Result<usize> {
    let file = bed.path(WRITES);
    let text = std::fs::read_to_string(&file).with_context(|| file.display().to_string())?;
    Ok(count(&text, path))
}

fn count(text: &str, path: &str) -> usize {
    // The last one may not be whole yet.
    let lines = text
        .lines()
        .filter_map(|line| serde_json::from_str::<Json>(line).ok());
    let is_its = |line: &Json| {
        let uri = line["requestURI"].as_str().unwrap_or_default();
        let rest = uri.strip_prefix(path);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['/', '?']))
    };
    lines.filter(is_its).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_writes_of_an_object_and_below_a_path_are_counted() {
        let line = |uri: &str| format!("{}\n", serde_json::json!({"requestURI": uri}));
        let lines = [line("/a/b"), line("/a/bc"), line("/a/b?force=true")];
        assert_eq!(count(&lines.concat(), "/a/b"), 2);
        assert_eq!(count(&lines.concat(), "/a"), 3);
        let whole = lines.concat() + &line("/a/b");
        assert_eq!(count(&whole[..whole.len() - 3], "/a/b"), 2);
    }
}
