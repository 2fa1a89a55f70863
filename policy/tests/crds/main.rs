// SPDX-License-Identifier: Apache-2.0
//! The CustomResourceDefinitions under deploy/crds: current, structural, and of one mind with the validator.

mod cel;
mod mutations;

use jsonschema::{PatternOptions, Validator};
use mutations::{GOOD, Mutation, mutations, policies};
use proptest::prelude::*;
use serde_json::{Value, json};
use std::path::Path;
use std::sync::LazyLock;
use varmor_policy::compile::{Settings, compile};
use varmor_policy::schema::{crds, internal_crds};
use varmor_policy::{PolicyObject, validate};

static SCHEMA: LazyLock<Value> = LazyLock::new(|| schema_of("varmorpolicies"));
static VALIDATOR: LazyLock<Validator> = LazyLock::new(|| validator_of(&SCHEMA));

fn schema_of(plural: &str) -> Value {
    let file = crds()
        .into_iter()
        .find(|file| file.name.ends_with(&format!("_{plural}.yaml")));
    let crd: serde_json::Value =
        serde_yaml::from_str(&file.expect("generated").yaml).expect("YAML");
    crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"].clone()
}

fn validator_of(schema: &Value) -> Validator {
    jsonschema::options()
        .with_pattern_options(PatternOptions::regex())
        .build(schema)
        .unwrap_or_else(|error| panic!("{error}"))
}

/// What the API server would refuse an object for, by schema and by rules.
fn schema_errors(object: &Value) -> Vec<String> {
    let object = &without_nulls(object);
    let errors: Vec<String> = VALIDATOR
        .iter_errors(object)
        .map(|error| format!("{}: {error}", error.instance_path()))
        .collect();
    // As the API server: rules are evaluated on what has the right form.
    if errors.is_empty() {
        cel::broken(&SCHEMA, object, None)
    } else {
        errors
    }
}

/// Fields that are null count as not there, for the API server and for serde.
fn without_nulls(value: &Value) -> Value {
    match value {
        Value::Object(map) => map
            .iter()
            .filter(|(_, value)| !value.is_null())
            .map(|(key, value)| (key.clone(), without_nulls(value)))
            .collect(),
        Value::Array(list) => list.iter().map(without_nulls).collect(),
        other => other.clone(),
    }
}

fn validator_errors(object: &Value) -> Vec<String> {
    match serde_json::from_value::<PolicyObject>(object.clone()) {
        Err(error) => vec![error.to_string()],
        Ok(policy) => compile(&policy, &Settings::default())
            .err()
            .unwrap_or_default()
            .iter()
            .map(ToString::to_string)
            .collect(),
    }
}

#[test]
fn the_committed_files_are_current() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/crds");
    let files: Vec<_> = crds().into_iter().chain(internal_crds()).collect();
    for file in &files {
        let committed = std::fs::read_to_string(directory.join(&file.name)).unwrap_or_default();
        assert!(
            committed == file.yaml,
            "deploy/crds/{} is not current: run `make crds`",
            file.name
        );
    }
    let names: Vec<_> = std::fs::read_dir(&directory).expect("is there").collect();
    assert_eq!(names.len(), files.len());
}

/// <https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definitions/#specifying-a-structural-schema>
#[test]
fn the_schemas_are_structural() {
    fn check(schema: &Value, path: &str, repeated: f64) {
        let node = schema
            .as_object()
            .unwrap_or_else(|| panic!("{path}: {schema}"));
        let allowed = [
            "type",
            "description",
            "properties",
            "items",
            "additionalProperties",
            "required",
            "enum",
            "pattern",
            "minimum",
            "maximum",
            "minLength",
            "maxLength",
            "minItems",
            "maxItems",
            "format",
            "anyOf",
            "x-kubernetes-validations",
            "x-kubernetes-preserve-unknown-fields",
            "x-kubernetes-list-type",
            "x-kubernetes-list-map-keys",
        ];
        for key in node.keys() {
            assert!(allowed.contains(&key.as_str()), "{path}: {key}");
        }
        assert!(
            node.contains_key("type") || node.contains_key("x-kubernetes-preserve-unknown-fields"),
            "{path} has no type"
        );
        assert!(
            !(node.contains_key("properties") && node.contains_key("additionalProperties")),
            "{path}"
        );
        for field in schema["required"].as_array().into_iter().flatten() {
            assert!(
                schema["properties"]
                    .get(field.as_str().expect("a name"))
                    .is_some(),
                "{path}: {field}"
            );
        }
        for rule in schema["x-kubernetes-validations"]
            .as_array()
            .into_iter()
            .flatten()
        {
            // The API server refuses a definition with a rule that could cost more than 10,000,000 units. A step of
            // these rules costs about one, and none has more than ten on a list's item.
            assert!(
                repeated * 10.0 <= 1e7,
                "{path}: evaluated {repeated} times: {rule}"
            );
            let transition = rule["rule"].as_str().expect("a rule").contains("oldSelf");
            assert!(
                !transition || !path.contains("[]"),
                "{path}: items have no old self"
            );
        }
        for (name, schema) in schema["properties"].as_object().into_iter().flatten() {
            check(schema, &format!("{path}.{name}"), repeated);
        }
        if let Some(items) = schema.get("items") {
            let most = schema["maxItems"].as_f64().unwrap_or(f64::INFINITY);
            check(items, &format!("{path}[]"), repeated * most);
        }
        if let Some(values) = schema.get("additionalProperties") {
            check(values, &format!("{path}{{}}"), f64::INFINITY);
        }
    }
    for plural in ["varmorpolicies", "varmorclusterpolicies"] {
        check(&schema_of(plural), "", 1.0);
    }
}

#[test]
fn every_field_of_the_spec_is_described() {
    fn check(schema: &Value, path: &str) {
        for (name, schema) in schema["properties"].as_object().into_iter().flatten() {
            let path = format!("{path}.{name}");
            assert!(
                schema["description"]
                    .as_str()
                    .is_some_and(|text| text.len() > 3),
                "{path}"
            );
            check(schema, &path);
        }
        if let Some(items) = schema.get("items") {
            check(items, path);
        }
    }
    check(&SCHEMA["properties"]["spec"], "spec");
    check(&SCHEMA["properties"]["status"], "status");
}

#[test]
fn good_policies_fit() {
    for object in policies() {
        assert_eq!(validator_errors(&object), [""; 0]);
        assert_eq!(schema_errors(&object), [""; 0], "{object}");
    }
}

/// Each thing put wrong that the schema should see, it sees; the validator sees all of them.
#[test]
fn mistakes_are_seen_by_both() {
    for Mutation {
        what,
        change,
        in_schema,
    } in mutations()
    {
        let object = change(GOOD.clone());
        assert!(
            !validator_errors(&object).is_empty(),
            "{what}: the validator accepts it"
        );
        assert_eq!(
            !schema_errors(&object).is_empty(),
            in_schema,
            "{what}: {:?}",
            schema_errors(&object)
        );
    }
}

#[test]
fn names_of_rules_are_known_in_every_spelling() {
    let with = |field: &str, name: &str| {
        let mut object = GOOD.clone();
        object["spec"]["policy"]["enhanceProtect"][field] = json!([name]);
        object
    };
    for rule in varmor_policy::rules::all() {
        for name in std::iter::once(&rule.name).chain(rule.aliases) {
            for spelling in [
                (*name).to_owned(),
                name.to_ascii_uppercase().replace('-', "_"),
            ] {
                let field = rule.group.field();
                let mut object = with(field, &spelling);
                if field == "attackProtectionRules" {
                    object["spec"]["policy"]["enhanceProtect"][field] =
                        json!([{"rules": [spelling]}]);
                }
                assert_eq!(schema_errors(&object), [""; 0], "{spelling}");
                let other = if field == "hardeningRules" {
                    "vulMitigationRules"
                } else {
                    "hardeningRules"
                };
                assert!(
                    !schema_errors(&with(other, &spelling)).is_empty(),
                    "{spelling} in {other}"
                );
            }
        }
    }
}

#[test]
fn a_cluster_policy_has_a_shorter_name() {
    let (schema, mut object) = (schema_of("varmorclusterpolicies"), GOOD.clone());
    for (length, fits) in [(46, true), (47, false)] {
        object["metadata"]["name"] = json!("x".repeat(length));
        assert_eq!(
            cel::broken(&schema, &object, None).is_empty(),
            fits,
            "{length}"
        );
    }
}

/// The transition rules, and [`validate::update`], on every pair of these objects.
#[test]
fn updates_are_judged_alike() {
    let enforcers = [
        "AppArmor",
        "BPF",
        "seccomp",
        "AppArmorBPF",
        "BPFSeccomp",
        "AppArmorSeccomp",
        "AppArmorBPFSeccomp",
    ];
    let with = |enforcer: &str, mode: &str, target: Value, phase: &str| {
        let mut object = GOOD.clone();
        object["spec"]["target"] = target;
        object["spec"]["policy"] = json!({
            "enforcer": enforcer, "mode": mode, "modelingOptions": {"duration": 1},
        });
        object["status"] = json!({"phase": phase});
        object
    };
    let targets = [
        json!({"kind": "Pod", "name": "a"}),
        json!({"kind": "Pod", "name": "a", "containers": ["c"]}),
    ];
    let mut refused = 0;
    for phase in ["Protecting", "Modeling"] {
        for (old_enforcer, new_enforcer) in enforcers
            .iter()
            .flat_map(|old| enforcers.map(|new| (*old, new)))
        {
            for new_mode in ["BehaviorModeling", "AlwaysAllow"] {
                for new_target in &targets {
                    let old = with(old_enforcer, "BehaviorModeling", targets[0].clone(), phase);
                    let new = with(new_enforcer, new_mode, new_target.clone(), phase);
                    let broken = cel::broken(&SCHEMA, &new, Some(&old));
                    let [old, new] = [old, new].map(|object| {
                        serde_json::from_value::<PolicyObject>(object).expect("valid")
                    });
                    let errors = validate::update(&old, &new).err().unwrap_or_default();
                    assert_eq!(
                        broken.is_empty(),
                        errors.is_empty(),
                        "{phase} {old_enforcer} -> {new_enforcer}, {new_mode}: {broken:?} {errors:?}"
                    );
                    refused += usize::from(!errors.is_empty());
                }
            }
        }
    }
    assert!(refused > 100 && refused < 392 - 40, "{refused}");
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 400, ..ProptestConfig::default() })]

    /// What the validator accepts fits the schema; so whatever violates the schema is an error of the validator.
    #[test]
    fn the_schema_is_no_stricter_than_the_validator(object in mutations::any_policy()) {
        let mut violations = schema_errors(&object);
        // serde takes the fields of an object as a list, too.
        violations.retain(|violation| !violation.ends_with("is not of type \"object\""));
        if !violations.is_empty() {
            prop_assert!(!validator_errors(&object).is_empty(), "{:?}\n{}", violations, object);
        }
    }
}
