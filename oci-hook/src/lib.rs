// SPDX-License-Identifier: Apache-2.0
//! The second, fail-closed line: an OCI hook that refuses a container which should be protected and is not, and a runtime
//! wrapper that protects containers which do not come through CRI.
//!
//! Both run once for each container and must cost a millisecond: no async runtime, no allocation worth mentioning, files
//! instead of conversations (see `varmor-node-state`).

pub mod hook;
pub mod input;
pub mod oci;
pub mod runtime;
pub mod spec_hooks;
pub mod subject;

use std::io::Write;

/// Prints one line on standard error. Control characters become spaces: the texts in it come from tenants, and the line
/// ends up in other programs' logs. A closed standard error is nobody's to hear of.
pub fn say(sentence: &str) {
    let line: String = sentence
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect();
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// Makes a panic end the program with status 1 and a sentence, whatever the build's panic strategy is.
pub fn refuse_on_panic(program: &'static str) {
    std::panic::set_hook(Box::new(move |panic| {
        say(&format!(
            "{program} refused the container: internal error: {panic}"
        ));
        std::process::exit(1);
    }));
}
