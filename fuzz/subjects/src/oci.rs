// SPDX-License-Identifier: Apache-2.0
//! What a runtime tells the OCI hook, and the configurations that the wrapper changes.

use std::path::Path;

use serde_json::value;
use varmor_node_state::Spec;
use varmor_oci_hook::oci::{Config, State};
use varmor_oci_hook::spec_hooks::{runs_hook, with_hook};

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
    if let Ok(mut spec) = Spec::parse(data) {
        change(&mut spec);
    }
    state.is_ok() || config.is_ok()
}

fn change(spec: &mut Spec) {
    let hook = Path::new("/opt/varmor-oci-hook");
    let Ok(own) = spec.hooks() else { return };
    let Ok(hooks) = with_hook(own, hook, &[]) else {
        return;
    };
    let again = with_hook(Some(hooks.clone()), hook, &[]);
    assert_eq!(again.as_ref(), Ok(&hooks));
    assert!(runs_hook(&value::to_raw_value(&hooks).expect("a value")));
    spec.set_hooks(&hooks);
    spec.set_apparmor("varmor");
    let text = spec.to_json().expect("what was read can be written");
    let changed = Config::parse(&text);
    if let Ok(changed) = changed {
        assert_eq!(changed.apparmor.as_deref(), Some("varmor"));
    }
}
