// SPDX-License-Identifier: Apache-2.0
//! `pause`: nothing happens for some seconds.

use std::time::Duration;

use anyhow::Result;
use serde_yaml::Value;

use super::Kind;
use crate::run::Context;

struct Pause(f32);

/// Reads the step: seconds.
pub fn read(value: Value) -> Result<(Box<dyn Kind>, String)> {
    let seconds: f32 = super::fields(value)?;
    Ok((Box::new(Pause(seconds)), format!("{seconds} s pass")))
}

impl Kind for Pause {
    fn run(&self, _: &mut Context) -> Result<String> {
        std::thread::sleep(Duration::from_secs_f32(self.0));
        Ok(String::new())
    }
}
