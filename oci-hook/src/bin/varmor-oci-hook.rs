// SPDX-License-Identifier: Apache-2.0
//! `varmor-oci-hook`: the OCI hook. See [`varmor_oci_hook::hook`].

use std::process::ExitCode;

use varmor_oci_hook::hook::{self, options::Options};
use varmor_oci_hook::{refuse_on_panic, say};

fn main() -> ExitCode {
    refuse_on_panic("varmor-oci-hook");
    let options = match Options::parse(std::env::args_os().skip(1)) {
        Ok(options) => options,
        Err(error) => {
            say(&format!(
                "varmor-oci-hook: {error}; see varmor-oci-hook --help"
            ));
            return ExitCode::FAILURE;
        }
    };
    match hook::run(&options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(&error.to_string());
            ExitCode::FAILURE
        }
    }
}
