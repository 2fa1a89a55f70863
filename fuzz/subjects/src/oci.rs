// SPDX-License-Identifier: Apache-2.0
//! What a runtime tells the OCI hook, and the configurations that the wrapper changes.

use std::path::Path;

use serde_json::{Value, value};
use varmor_oci_hook::oci::{Config, State};
use varmor_oci_hook::spec_hooks::{add_hooks, runs_hook};

/// A state is taken or refused; a configuration that was given the hook runs it, and is not changed by a second time.
pub fn take(data: &[u8]) -> bool {
    let state = State::parse(data);
    if let Ok(state) = &state {
        assert!(state.bundle.is_absolute() && state.pid != Some(0));
    }
    let config = Config::parse(data);
    if let Ok(Config {
        hooks: Some(hooks), ..
    }) = &config
    {
        runs_hook(hooks);
    }
    if let Ok(mut spec) = serde_json::from_slice::<Value>(data)
        && add_hooks(&mut spec, Path::new("/opt/varmor-oci-hook"), &[]).is_ok()
    {
        let once = spec.clone();
        let again = add_hooks(&mut spec, Path::new("/opt/varmor-oci-hook"), &[]);
        assert!(again.is_ok() && spec == once);
        let hooks = value::to_raw_value(&spec["hooks"]).expect("a value");
        assert!(runs_hook(&hooks));
    }
    state.is_ok() || config.is_ok()
}
