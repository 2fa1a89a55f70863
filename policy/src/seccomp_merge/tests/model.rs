// SPDX-License-Identifier: Apache-2.0
//! What two filters say of a call by definition, to compare a merged filter with.

use serde_json::Value;

/// Strictness of a verdict as [`super::cbpf`] names it.
pub(super) fn strictness(verdict: &str) -> usize {
    let order = [
        "allow",
        "log",
        "trace",
        "notify",
        "errno",
        "trap",
        "kill thread",
        "kill process",
    ];
    order
        .iter()
        .position(|kind| verdict.starts_with(kind))
        .expect("a verdict")
}

/// The verdict of a filter's rules: the strictest of those that hold, or of unconditional ones alone.
pub(super) fn verdict(filter: &Value, call: &str, args: &[u64]) -> String {
    let default = name(&filter["defaultAction"], &filter["defaultErrnoRet"]);
    let mut conditional = Vec::new();
    let mut unconditional = Vec::new();
    for rule in filter["syscalls"].as_array().into_iter().flatten() {
        let action = name(&rule["action"], &rule["errnoRet"]);
        let names = rule["names"].as_array().expect("names");
        if action == default || !names.iter().any(|name| name == call) {
            continue;
        }
        match rule["args"].as_array() {
            Some(conditions) if !conditions.is_empty() => {
                if holds(conditions, args) {
                    conditional.push(action);
                }
            }
            _ => unconditional.push(action),
        }
    }
    let decisive = if unconditional.is_empty() {
        conditional
    } else {
        unconditional
    };
    decisive
        .into_iter()
        .max_by_key(|verdict| strictness(verdict))
        .unwrap_or(default)
}

fn holds(conditions: &[Value], args: &[u64]) -> bool {
    let mut indexes: Vec<&Value> = conditions.iter().map(|c| &c["index"]).collect();
    indexes.sort_by_key(|index| index.as_u64());
    let repeated = indexes.windows(2).any(|pair| pair[0] == pair[1]);
    let mut each = conditions.iter().map(|condition| {
        let arg = args[condition["index"].as_u64().expect("a number") as usize];
        let value = condition["value"].as_u64().expect("a number");
        let two = condition["valueTwo"].as_u64().unwrap_or(0);
        match condition["op"].as_str().expect("a text") {
            "SCMP_CMP_NE" => arg != value,
            "SCMP_CMP_LT" => arg < value,
            "SCMP_CMP_LE" => arg <= value,
            "SCMP_CMP_EQ" => arg == value,
            "SCMP_CMP_GE" => arg >= value,
            "SCMP_CMP_GT" => arg > value,
            "SCMP_CMP_MASKED_EQ" => arg & value == two & value,
            other => panic!("{other}"),
        }
    });
    if repeated {
        each.any(|holds| holds)
    } else {
        each.all(|holds| holds)
    }
}

fn name(action: &Value, data: &Value) -> String {
    let data = data.as_u64().unwrap_or(1);
    match action.as_str().expect("a text") {
        "SCMP_ACT_ERRNO" => format!("errno {data}"),
        "SCMP_ACT_TRACE" => format!("trace {data}"),
        other => other
            .trim_start_matches("SCMP_ACT_")
            .to_ascii_lowercase()
            .replace('_', " "),
    }
}
