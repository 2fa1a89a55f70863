// SPDX-License-Identifier: Apache-2.0
//! Policy files: YAML with one or more documents, each a policy object.

mod position;
mod survey;

pub use position::{Position, Positions};

use crate::error::{DocumentError, PolicyError};
use crate::plan::PolicyRef;
use crate::types::{Policy, PolicyObject};
use serde::de::DeserializeSeed;
use survey::{Header, Survey};

/// Largest file that is read, in bytes.
pub const MAX_FILE_BYTES: usize = 1 << 20;

/// The policy objects of a YAML file, in the file's order. Empty documents are skipped.
///
/// # Errors
/// Every error of every document: the objects of a file stand or fall together.
pub fn parse(yaml: &str) -> Result<Vec<PolicyObject>, Vec<DocumentError>> {
    check(yaml, |_| Ok(())).map(|checked| checked.into_iter().map(|(object, ())| object).collect())
}

/// The policy objects of a YAML file, each with what a check says of it, such as its compilation.
///
/// # Errors
/// Every error of every document, those of the check too, each with its line: the objects of a file stand or fall
/// together.
pub fn check<T>(
    yaml: &str,
    check: impl Fn(&PolicyObject) -> Result<T, Vec<PolicyError>>,
) -> Result<Vec<(PolicyObject, T)>, Vec<DocumentError>> {
    let (objects, mut errors) = read(yaml)?;
    let mut checked = Vec::new();
    let mut found = Vec::new();
    for object in objects {
        match check(&object) {
            Ok(value) => checked.push((object, value)),
            Err(errors) => found.extend(errors),
        }
    }
    if !found.is_empty() {
        let positions = Positions::of(yaml);
        errors.extend(found.into_iter().map(|error| positions.locate(error)));
    }
    if errors.is_empty() {
        Ok(checked)
    } else {
        errors.sort_by_key(|error| (error.line, error.column));
        Err(errors)
    }
}

/// The objects that could be read, and the errors of the others.
fn read(yaml: &str) -> Result<(Vec<PolicyObject>, Vec<DocumentError>), Vec<DocumentError>> {
    if yaml.len() > MAX_FILE_BYTES {
        return Err(vec![whole_file(format!(
            "the file has {} bytes; at most {MAX_FILE_BYTES} are read: split it",
            yaml.len()
        ))]);
    }
    let headers = survey(yaml)?;
    let mut objects = Vec::new();
    let mut errors = Vec::new();
    let mut unlocated = Vec::new();
    for (header, document) in headers.iter().zip(serde_yaml::Deserializer::from_str(yaml)) {
        if header.is_empty {
            continue;
        }
        match serde_path_to_error::deserialize::<_, Policy>(document) {
            Ok(policy) => match PolicyObject::try_from(policy) {
                Ok(object) => objects.push(object),
                Err(message) => unlocated.push((0, kind_error(header, message))),
            },
            Err(error) => errors.push(typed_error(header, &error)),
        }
    }
    unlocated.extend(duplicates(&objects));
    if !unlocated.is_empty() {
        let positions = Positions::of(yaml);
        errors.extend(
            unlocated
                .into_iter()
                .map(|(number, error)| positions.locate_in(number, error)),
        );
    }
    Ok((objects, errors))
}

/// A document of another kind, or of another version of the API.
fn kind_error(header: &Header, message: String) -> PolicyError {
    PolicyError {
        object: header.reference().unwrap_or_default(),
        field: if message.starts_with("kind") {
            "kind"
        } else {
            "apiVersion"
        }
        .to_owned(),
        text_line: None,
        message,
    }
}

/// First pass: sizes, duplicate keys and the objects' names, before anything is allocated by the document's wish.
fn survey(yaml: &str) -> Result<Vec<Header>, Vec<DocumentError>> {
    let mut survey = Survey::with_budget(yaml.len());
    let mut headers = Vec::new();
    for document in serde_yaml::Deserializer::from_str(yaml) {
        let mut header = Header::default();
        if let Err(error) = survey.document(&mut header).deserialize(document) {
            let location = error.location();
            return Err(vec![DocumentError {
                line: location.as_ref().map(serde_yaml::Location::line),
                column: location.as_ref().map(serde_yaml::Location::column),
                object: header.reference(),
                field: String::new(),
                message: plain_message(&error),
            }]);
        }
        headers.push(header);
    }
    Ok(headers)
}

fn typed_error(
    header: &Header,
    error: &serde_path_to_error::Error<serde_yaml::Error>,
) -> DocumentError {
    let location = error.inner().location();
    let path = error.path().to_string();
    DocumentError {
        line: location.as_ref().map(serde_yaml::Location::line),
        column: location.as_ref().map(serde_yaml::Location::column),
        object: header.reference(),
        field: if path == "." { String::new() } else { path },
        message: with_fix(&plain_message(error.inner())),
    }
}

/// serde_yaml writes the location (and sometimes the path) into the message; they have fields of their own here.
fn plain_message(error: &serde_yaml::Error) -> String {
    let text = error.to_string();
    let end = text.rfind(" at line ").unwrap_or(text.len());
    let text = &text[..end];
    let start = match text.find(": ") {
        Some(colon)
            if text[..colon]
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"._[]".contains(&b)) =>
        {
            colon + 2
        }
        _ => 0,
    };
    text[start..].to_owned()
}

/// What serde expects, and how users write that.
const EXPECTED: [(&str, &str); 7] = [
    ("expected a sequence", "expected a list; write `[...]`"),
    (
        "expected a string",
        "expected a text; put it between quotes",
    ),
    ("expected a boolean", "expected true or false"),
    ("expected a map", "expected fields; write `{key: value}`"),
    ("expected u16", "expected a whole number of 0 to 65535"),
    ("expected u32", "expected a whole number of 0 to 4294967295"),
    ("expected u64", "expected a whole number, 0 or more"),
];

/// Adds what to do to serde's terse sentences.
fn with_fix(message: &str) -> String {
    if let Some(rest) = message.strip_prefix("unknown field `") {
        if let Some((word, expected)) = rest.split_once('`') {
            let names = expected.split('`').skip(1).step_by(2);
            return format!("{message}{}", crate::error::suggestion(word, names));
        }
    }
    if message.starts_with("missing field `") {
        return format!("{message}; add it");
    }
    if let Some((found, _)) = message.split_once(", expected struct ") {
        return format!("{found}, expected fields; write `{{name: value}}`");
    }
    for (theirs, ours) in EXPECTED {
        if let Some(found) = message.strip_suffix(theirs) {
            return format!("{found}{ours}");
        }
    }
    message.to_owned()
}

/// Two documents with one name: which of them holds must not depend on their order. Each error comes with the number of
/// definitions before the one that it is about.
fn duplicates(objects: &[PolicyObject]) -> Vec<(usize, PolicyError)> {
    let mut seen = std::collections::BTreeMap::new();
    let mut errors = Vec::new();
    for object in objects {
        let reference = object.reference();
        let before = seen.entry(reference.clone()).or_insert(0);
        if *before > 0 {
            let error = PolicyError {
                object: reference,
                field: "metadata.name".to_owned(),
                text_line: None,
                message: "the file defines this object twice; remove or rename one".to_owned(),
            };
            errors.push((*before, error));
        }
        *before += 1;
    }
    errors
}

fn whole_file(message: String) -> DocumentError {
    DocumentError {
        line: None,
        column: None,
        object: None,
        field: String::new(),
        message,
    }
}

impl Header {
    fn reference(&self) -> Option<PolicyRef> {
        (!self.kind.is_empty() || !self.name.is_empty()).then(|| PolicyRef {
            kind: self.kind.clone(),
            namespace: self.namespace.clone(),
            name: self.name.clone(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "
apiVersion: crd.varmor.org/v1beta1
kind: VarmorPolicy
metadata: {name: p1, namespace: demo}
spec:
  target: {kind: Pod, name: web}
  policy:
    enforcer: BPF
    mode: EnhanceProtect
    enhanceProtect:
      hardeningRules: [disallow-mount]
";

    fn errors(yaml: &str) -> Vec<String> {
        parse(yaml)
            .expect_err("must be refused")
            .iter()
            .map(ToString::to_string)
            .collect()
    }

    #[test]
    fn several_documents_are_several_objects() {
        let second = GOOD.replace("p1", "p2");
        let objects = parse(&format!("---{GOOD}---\n# nothing\n---{second}---\n")).expect("valid");
        let names: Vec<_> = objects.iter().map(|o| o.reference().to_string()).collect();
        assert_eq!(names, ["VarmorPolicy demo/p1", "VarmorPolicy demo/p2"]);
    }

    #[test]
    fn what_kubectl_prints_is_accepted() {
        let printed = GOOD.replace(
            "metadata: {name: p1, namespace: demo}",
            "metadata: {name: p1, namespace: demo, creationTimestamp: 2026-01-31T09:00:00Z, generation: 2, \
             resourceVersion: '7', uid: a, annotations: {kubectl.kubernetes.io/last-applied-configuration: x}, \
             managedFields: [{manager: kubectl, fieldsV1: {f:spec: {}}}]}\nstatus: {phase: Protecting, ready: true}",
        );
        let objects = parse(&printed).expect("valid");
        assert_eq!(
            objects[0].policy().metadata.creation_timestamp.as_deref(),
            Some("2026-01-31T09:00:00Z")
        );
    }

    #[test]
    fn an_error_names_line_object_field_and_fix() {
        let wrong = GOOD.replace("hardeningRules", "hardenningRules");
        assert_eq!(errors(&wrong).len(), 1);
        let error = &parse(&wrong).expect_err("must be refused")[0];
        assert_eq!(error.line, Some(11));
        assert_eq!(
            error.object.as_ref().map(ToString::to_string).as_deref(),
            Some("VarmorPolicy demo/p1")
        );
        assert_eq!(error.field, "spec.policy.enhanceProtect.hardenningRules");
        assert!(
            error.message.contains("did you mean `hardeningRules`?"),
            "{}",
            error.message
        );
    }

    #[test]
    fn wrong_types_and_missing_fields_name_their_path() {
        let cases = [
            (
                GOOD.replace("[disallow-mount]", "[[a]]"),
                "spec.policy.enhanceProtect.hardeningRules[0]: invalid type",
            ),
            (
                GOOD.replace("    mode: EnhanceProtect\n", ""),
                "spec.policy: missing field `mode`; add it",
            ),
            (
                GOOD.replace("v1beta1", "v1"),
                "apiVersion is `crd.varmor.org/v1`; write",
            ),
            (
                GOOD.replace("kind: VarmorPolicy", "kind: Varmor"),
                "kind is `Varmor`; write",
            ),
            (
                GOOD.replace("name: p1, namespace", "name: p1, nmaespace"),
                "metadata.nmaespace: unknown field",
            ),
            (
                format!("---{GOOD}---{GOOD}"),
                "the file defines this object twice",
            ),
        ];
        for (yaml, expected) in cases {
            let errors = errors(&yaml);
            assert!(
                errors.iter().any(|e| e.contains(expected)),
                "{expected}: {errors:?}"
            );
        }
    }

    #[test]
    fn broken_yaml_is_reported_with_its_line() {
        let error = &parse("a: b\n  c: [").expect_err("must be refused")[0];
        assert_eq!(error.line, Some(2));
        assert!(!error.message.is_empty());
    }

    #[test]
    fn a_block_of_text_may_end_the_file_without_a_line_break() {
        let yaml = GOOD.trim_end().to_owned()
            + "\n      appArmorRawRules:\n      - rules: |\n          deny /a r,";
        assert_eq!(parse(&yaml).expect("valid").len(), 1);
        let unknown = yaml.replace("appArmorRawRules", "appArmorRawRule");
        assert_eq!(errors(&unknown).len(), 1);
        let twice = format!("{yaml}\n---{yaml}");
        assert!(
            errors(&twice)[0].starts_with("line 18, column 18"),
            "{:?}",
            errors(&twice)
        );
    }

    #[test]
    fn duplicate_keys_are_refused_everywhere() {
        let wrong = GOOD.replace("name: web", "selector: {matchLabels: {a: b, a: c}}");
        assert!(
            errors(&wrong)[0].contains("duplicate key `a`"),
            "{:?}",
            errors(&wrong)
        );
    }

    #[test]
    fn bombs_are_refused_before_they_go_off() {
        let list = vec!["x"; 2000].join(",");
        let uses = vec!["*a"; 2000].join(",");
        let bomb = format!("a: &a [{list}]\nb: [{uses}]\n");
        assert!(errors(&bomb)[0].contains("expands"), "{:?}", errors(&bomb));
        let deep = "[".repeat(5000);
        assert!(!errors(&deep).is_empty());
        assert!(errors(&" ".repeat(MAX_FILE_BYTES + 1))[0].contains("split it"));
    }

    #[test]
    fn an_alias_that_expands_little_is_fine() {
        let yaml = GOOD.replace("demo}", "demo, labels: &l {app: web}, annotations: *l}");
        assert_eq!(parse(&yaml).expect("valid").len(), 1);
    }

    #[test]
    fn objects_round_trip() {
        let object = parse(GOOD).expect("valid").remove(0);
        let json = serde_json::to_string(&object).expect("serializes");
        assert_eq!(
            serde_json::from_str::<PolicyObject>(&json).expect("parses"),
            object
        );
    }
}
