// SPDX-License-Identifier: Apache-2.0
//! A valid policy with a mistake anywhere is refused, with an error that names the place.

use proptest::prelude::*;
use serde_yaml::Value;
use varmor_policy::parse;

/// Has every field that a policy may have.
const WHOLE: &str = include_str!("../../fuzz/seeds/policy/all-fields");

/// A value within a document: the keys and indexes that lead to it.
type Path = Vec<Value>;

/// Every value of a document, except what is in a map whose keys the user chooses.
fn places(value: &Value, at: &Path, found: &mut Vec<Path>) {
    found.push(at.clone());
    let mut inner = |key: Value, value: &Value| {
        let mut at = at.clone();
        at.push(key);
        places(value, &at, found);
    };
    let is_free = at
        .last()
        .and_then(Value::as_str)
        .is_some_and(|key| ["matchLabels", "labels", "annotations", "metadata"].contains(&key));
    match value {
        Value::Mapping(members) if !is_free => members
            .iter()
            .for_each(|(key, value)| inner(key.clone(), value)),
        Value::Sequence(items) => items
            .iter()
            .enumerate()
            .for_each(|(index, value)| inner(index.into(), value)),
        _ => {}
    }
}

fn at<'a>(document: &'a mut Value, path: &Path) -> &'a mut Value {
    path.iter().fold(document, |value, key| match value {
        Value::Sequence(items) => {
            let index = key.as_u64().expect("an index");
            &mut items[usize::try_from(index).expect("small")]
        }
        other => &mut other[key],
    })
}

fn whole() -> (Value, Vec<Path>) {
    let document: Value = serde_yaml::from_str(WHOLE).expect("YAML");
    let mut found = Vec::new();
    places(&document["spec"], &vec!["spec".into()], &mut found);
    (document, found)
}

fn errors(document: &Value) -> Vec<String> {
    let yaml = serde_yaml::to_string(document).expect("YAML");
    match parse(&yaml) {
        Ok(_) => Vec::new(),
        Err(errors) => errors
            .into_iter()
            .map(|error| format!("{}: {}", error.field, error.message))
            .collect(),
    }
}

#[test]
fn the_policy_without_a_mistake_is_accepted() {
    let (document, found) = whole();
    assert_eq!(errors(&document), Vec::<String>::new());
    assert!(found.len() > 50, "{} places", found.len());
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// A misspelt field is never ignored: it would be a rule that does not hold.
    #[test]
    fn a_field_that_does_not_exist_is_refused_wherever_it_is(
        choice: prop::sample::Index, name in "[a-z]{1,8}Zz"
    ) {
        let (mut document, found) = whole();
        let mappings: Vec<&Path> = found
            .iter()
            .filter(|path| at(&mut document.clone(), path).is_mapping())
            .filter(|path| path.last().and_then(Value::as_str) != Some("matchLabels"))
            .collect();
        let path = *choice.get(&mappings);
        at(&mut document, path)[name.as_str()] = true.into();
        let errors = errors(&document);
        prop_assert!(errors.iter().any(|error| error.contains(&name)), "{path:?}: {errors:?}");
    }

    /// What is a text, a number or a list in one place is nothing else there.
    #[test]
    fn a_value_of_another_type_is_refused_wherever_it_is(choice: prop::sample::Index) {
        let (mut document, found) = whole();
        let path = choice.get(&found);
        let value = at(&mut document, path);
        *value = match value {
            Value::Sequence(_) => "text".into(),
            Value::Mapping(_) => Value::Sequence(vec![1.into()]),
            _ => Value::Sequence(vec![Value::Mapping(Default::default())]),
        };
        let errors = errors(&document);
        prop_assert!(!errors.is_empty(), "{path:?}");
    }
}
