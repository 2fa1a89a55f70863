// SPDX-License-Identifier: Apache-2.0
//! `race`: a part of the bed stands still, and in front of it another one's write is the first to wait. Steps are done
//! meanwhile; what they lead to comes second.

use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};
use serde::Deserialize;
use serde_yaml::Value;

use super::replace::Replace;
use super::{Kind, Step};
use crate::run::Context;

/// kubectl has sent its request by then.
const SENT: Duration = Duration::from_secs(2);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    /// A part, see `part`.
    at: String,
    first: Replace,
    steps: Vec<Value>,
}

struct Race {
    at: String,
    first: Replace,
    steps: Vec<Step>,
}

/// Reads the step.
pub fn read(value: Value) -> Result<(Box<dyn Kind>, String)> {
    let Raw { at, first, steps } = super::fields(value)?;
    first.check().context("first")?;
    let steps: Result<Vec<Step>> = steps.into_iter().map(super::read).collect();
    let steps = steps.context("steps")?;
    let names: Vec<&str> = steps.iter().map(|step| step.name.as_str()).collect();
    let said = format!(
        "{at} stands still: {}, then {}",
        first.said(),
        names.join(", ")
    );
    Ok((Box::new(Race { at, first, steps }), said))
}

impl Kind for Race {
    fn run(&self, context: &mut Context) -> Result<String> {
        let bed = context.bed;
        // Alone, since steps are not for other threads.
        let first = &self.first;
        let object = first.changed(bed)?;
        bed.part("pause", &self.at).output("pause")?;
        let (steps, written) = std::thread::scope(|scope| {
            let writer = scope.spawn(|| first.write(bed, &object));
            std::thread::sleep(SENT);
            let mut steps = self.steps.iter();
            let steps = steps.try_for_each(|step| {
                let result = step.kind.run(context);
                result.map(drop).with_context(|| step.name.clone())
            });
            // Whatever came of them.
            let goes_on = bed.part("continue", &self.at).output("continue");
            (steps.and(goes_on), writer.join())
        });
        steps?;
        let written = written.map_err(|_| anyhow!("the other writer has ended"))?;
        written.output("the other writer")?;
        Ok(String::new())
    }
}
