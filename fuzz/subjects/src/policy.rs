// SPDX-License-Identifier: Apache-2.0
//! Policy files.

use varmor_policy::compile::{MAX_MEMBERS, Settings, compile_composed};
use varmor_policy::{PolicyObject, compile, parse, validate};

/// An object is the same after a journey through JSON, as which the node's API and the policy index carry it, and always compiles
/// to the same. What several compile to together needs each of them to compile.
pub fn take(data: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(data) else {
        return false;
    };
    let objects = match parse(text) {
        Ok(objects) => objects,
        Err(errors) => {
            assert!(!errors.is_empty(), "refused without a reason");
            return false;
        }
    };
    let settings = Settings::default();
    let mut all_compile = true;
    for object in &objects {
        let json = serde_json::to_string(object).expect("serializes");
        let again: PolicyObject = serde_json::from_str(&json).expect("parses");
        assert_eq!(&again, object);
        let _ = validate::for_node(object);
        let plan = compile(object, &settings);
        if let Err(errors) = &plan {
            assert!(!errors.is_empty(), "refused without a reason");
            all_compile = false;
        }
        assert_eq!(plan, compile(&again, &settings));
    }
    let members: Vec<&PolicyObject> = objects.iter().take(MAX_MEMBERS).collect();
    if !members.is_empty() && compile_composed(&members, &settings).is_ok() {
        assert!(all_compile || members.len() < objects.len());
    }
    all_compile && !objects.is_empty()
}
